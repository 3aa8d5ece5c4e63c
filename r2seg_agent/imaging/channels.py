"""Further images of a case (T1, T1c, T2, FLAIR, …) brought onto the grid of the scan."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.errors import InputError
from r2seg_agent.imaging.geometry import Geometry
from r2seg_agent.imaging.itk import simpleitk, to_itk
from r2seg_agent.imaging.masks import grid_difference
from r2seg_agent.imaging.read import read_image
from r2seg_agent.imaging.volume import FloatArray, Volume

MIN_COVERAGE: Final = 0.5
"""A channel that shows less of the scan than this is no image of the same case; ours."""
_SAMPLES_PER_AXIS: Final = 48
"""Coverage is measured on about this many voxels along each axis."""


def parse_channels(texts: Sequence[str]) -> dict[str, str]:
    """`NAME=FILE` each → {name: file}; `InputError` for one without a name, without a file, or named twice."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, path = text.partition("=")
        if not equals or not name.strip() or not path.strip():
            raise InputError(f"`--channel {text}` is not NAME=FILE", "For example: --channel FLAIR=flair.nii.gz")
        if name.strip() in found:
            raise InputError(f"the channel `{name.strip()}` is given twice", "Give each channel once.")
        found[name.strip()] = path.strip()
    return found


def with_channels(scan: Volume, scan_path: str, paths: Mapping[str, str], note: Callable[[str], None]) -> Volume:
    """The scan with further channels, each on its grid.

    A path that is the scan's own names it. An image on another grid is resampled linearly, and `note` is told how the
    grids differ and how much of the scan it shows; beyond its view it has its lowest value. Registration is not done:
    images must share the patient's coordinates. Raises `InputError` for an image that cannot be read, or that shows
    less than half of the scan.
    """
    if not paths:
        return scan
    found: dict[str, NDArray[Any]] = {}
    for name, path in paths.items():
        if _same_file(path, scan_path):
            found[name] = scan.array
        else:
            image = read_image(path, modality=scan.modality, note=_named(name, note))
            found[name] = _on_grid(name, image, scan.geometry, note)
    return replace(scan, channels=MappingProxyType({**scan.channels, **found}))


def _named(name: str, note: Callable[[str], None]) -> Callable[[str], None]:
    """`note` for remarks on reading one channel."""

    def told(text: str) -> None:
        note(f"Channel `{name}`: {text}")

    return told


def _same_file(a: str, b: str) -> bool:
    try:
        return os.path.samefile(Path(a), Path(b))
    except OSError:  # what is missing is reported by whoever reads it
        return False


def _on_grid(name: str, image: Volume, grid: Geometry, note: Callable[[str], None]) -> NDArray[Any]:
    """The voxels of `image` on `grid`."""
    own = image.geometry
    difference = grid_difference(own, grid)
    if not difference or (own.shape == grid.shape and "none" in (own.known_spacing, grid.known_spacing)):
        return image.array
    if grid.is_2d != own.is_2d or "zyx" not in (own.known_spacing, grid.known_spacing):
        raise InputError(
            f"the channel `{name}` is on another grid than the scan ({difference}) and cannot be brought onto it",
            "Give images of one size, or 3D images with their spacing.",
        )
    share = coverage(own, grid)
    if share < MIN_COVERAGE:
        seen = "nothing" if share == 0 else f"only {100 * share:.0f} %"
        raise InputError(
            f"the channel `{name}` shows {seen} of the scan: {difference} (in x, y, z order)",
            "Give an image of the same patient and region in the same coordinates; register it first if it is not.",
        )
    shown = "" if share > 0.999 else f"; it shows {100 * share:.0f} % of the scan, beyond that it has its lowest value"
    note(f"Channel `{name}` was resampled onto the scan's grid ({difference}, in x, y, z order){shown}.")
    return _resampled(image, grid)


def coverage(image: Geometry, grid: Geometry) -> float:
    """The share of the voxels of `grid` whose centres lie inside `image`, 0 … 1 (measured on a regular subset)."""
    axes = [np.unique(np.linspace(0, n - 1, min(n, _SAMPLES_PER_AXIS)).round()) for n in grid.shape]
    centres = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    index = image.to_zyx(grid.to_lps_mm(centres))
    inside = (index >= -0.5) & (index <= np.asarray(image.shape) - 0.5)
    return float(inside.all(axis=-1).mean())


def _resampled(image: Volume, grid: Geometry) -> FloatArray:
    """float32 (z, y, x) on `grid`, linear between voxel centres."""
    sitk = simpleitk()
    moving = to_itk(image.array.astype(np.float32), image.geometry)
    resample = sitk.ResampleImageFilter()
    resample.SetSize(grid.shape[::-1])
    resample.SetOutputSpacing(grid.spacing_mm[::-1])
    resample.SetOutputOrigin(grid.origin_lps_mm)
    resample.SetOutputDirection(grid.direction)
    resample.SetInterpolator(sitk.sitkLinear)
    resample.SetDefaultPixelValue(float(image.array.min()))
    found: FloatArray = sitk.GetArrayFromImage(resample.Execute(moving))
    return found
