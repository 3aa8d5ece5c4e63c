"""The one typed seam for SimpleITK: NRRD and MetaImage in and out, and nothing of ITK's own errors to the user."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.errors import InputError
from r2seg_agent.imaging import checks, files
from r2seg_agent.imaging.geometry import Geometry


def simpleitk() -> Any:
    """The SimpleITK module, its warnings off. Loaded on first use: it costs 0.1–0.3 s."""
    module: Any = importlib.import_module("SimpleITK")
    module.ProcessObject.SetGlobalWarningDisplay(False)
    return module


class _Keeper:
    """Lends an ITK image's buffer to NumPy and keeps the image alive as long as the array lives."""

    def __init__(self, image: Any) -> None:
        self._image = image
        interface = simpleitk().GetArrayViewFromImage(image).__array_interface__
        self.__array_interface__ = dict(interface)


def read_itk(path: Path, what: str = "image") -> tuple[NDArray[Any], Geometry]:
    """Voxels (z, y, x) of an NRRD or MetaImage file in ITK's own memory (no copy), with their geometry in LPS mm.

    The header's text is checked by `imaging.headers` before: ITK repairs or ignores some faults silently.

    Raises:
        InputError: ITK cannot read it, or it is a vector, complex or 4D image, or its grid is unusable.
    """
    sitk = simpleitk()
    try:
        image = sitk.ReadImage(os.fspath(path))
    except RuntimeError as error:
        raise unreadable(path, what, error) from None
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise vector_error(path, what, image.GetNumberOfComponentsPerPixel())
    array: NDArray[Any] = np.asarray(_Keeper(image))
    checks.check_grey_type(path, what, array.dtype.kind, str(image.GetPixelIDTypeAsString()))
    ndim = int(image.GetDimension())
    if ndim > 3:
        if any(n != 1 for n in image.GetSize()[3:]):
            raise dimension_error(path, what, image.GetSize())
        array = array.reshape(array.shape[-3:])
    elif ndim == 2:
        array = array[np.newaxis]
    return array, _geometry(path, what, image, array.shape)


def write_itk(path: Path, array: NDArray[Any], geometry: Geometry, metadata: Mapping[str, str] | None = None) -> None:
    """Write a (z, y, x) array compressed; `path`'s suffix (.nrrd, .mha, …) decides the format."""
    sitk = simpleitk()
    image = to_itk(array, geometry)
    for key, value in (metadata or {}).items():
        image.SetMetaData(key, value)
    try:
        sitk.WriteImage(image, os.fspath(path), True)
    except RuntimeError as error:
        raise InputError(f"`{path}` cannot be written: {_reason(error)}.", "Choose another folder or name.") from None


def to_itk(array: NDArray[Any], geometry: Geometry) -> Any:
    """A SimpleITK image of a (z, y, x) array on its grid."""
    image = simpleitk().GetImageFromArray(np.ascontiguousarray(array))
    image.SetSpacing(geometry.spacing_mm[::-1])
    image.SetOrigin(geometry.origin_lps_mm)
    image.SetDirection(geometry.direction)
    return image


def unreadable(path: Path, what: str, error: Exception) -> InputError:
    """The readable form of a RuntimeError out of ITK."""
    return InputError(
        f"The {what} `{path}` cannot be read: {_reason(error)}.",
        "It may be damaged or of another format than its suffix says. Open it in a viewer, or export it again.",
    )


def vector_error(path: Path, what: str, components: int) -> InputError:
    """The error for several values per voxel."""
    return InputError(
        f"The {what} `{path}` has {components} values per voxel (colour, vector or complex); one grey value is needed.",
        "Save one channel as its own image.",
    )


def dimension_error(path: Path, what: str, sizes: tuple[int, ...]) -> InputError:
    """The error for 4D images; sizes in the file's own order (x, y, z, t)."""
    return InputError(
        f"The {what} `{path}` is {len(sizes)}D, of shape {' × '.join(map(str, sizes))}; one 3D volume is needed.",
        "Save the time point or channel you need as its own 3D file.",
    )


def _geometry(path: Path, what: str, image: Any, shape: tuple[int, ...]) -> Geometry:
    ndim = int(image.GetDimension())
    n = min(ndim, 3)
    spacing = list(image.GetSpacing()[:n]) + [1.0] * (3 - n)
    origin = list(image.GetOrigin()[:n]) + [0.0] * (3 - n)
    direction = np.eye(3)
    direction[:n, :n] = np.asarray(image.GetDirection(), dtype=np.float64).reshape(ndim, ndim)[:n, :n]
    known: Literal["zyx", "yx"] = "yx" if ndim == 2 else "zyx"
    return checks.checked_geometry(
        path,
        what,
        shape=shape,
        spacing_zyx_mm=spacing[::-1],
        origin_lps_mm=origin,
        direction=direction,
        known_spacing=known,
    )


def _reason(error: Exception) -> str:
    """The last informative line of ITK's report, without addresses and source lines."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith("Exception thrown") and ".cxx:" not in line]
    text = told[-1] if told else "unknown reason"
    text = re.sub(r"^ITK ERROR: \w+\(\w+\): |^\[nrrd\] \w+: ", "", text)
    return (files.last_sentence(text) or "unknown reason").rstrip(".")
