"""Label maps and masks from disk, on the grid of the image they belong to."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.errors import EmptyMaskError, InputError
from r2seg_agent.imaging import dicom_header, files, picture, rtstruct, seg
from r2seg_agent.imaging.geometry import GEOMETRY_TOLERANCE_MM, Float3, Geometry, Index3
from r2seg_agent.imaging.read import read_array

Labels = NDArray[np.uint8] | NDArray[np.uint16]
"""Label values (z, y, x); 0 is background."""

GRID_TOLERANCE_VOXELS = 0.1
"""A mask is on its image's grid when no corner is displaced by more than this share of the smallest voxel edge: tools
round spacing and origin when they save."""
_AXIS_TOLERANCE = 1e-3
_FULL_WHITE = 255
LESION_FREE: Final = "lesion-free"
"""In place of the file of a reference mask: the scan is known to hold no lesion."""
_VALUES = re.compile(r"\d+(,\d+)*")


def read_label_map(
    path: Path | str,
    like: Geometry,
    what: str = "mask",
    *,
    roi: str | None = None,
    may_be_empty: bool = False,
    note: Callable[[str], None] = lambda text: None,
) -> Labels:
    """Labels (z, y, x) on exactly the grid `like`, as uint8, or uint16 where a label is above 255.

    Every image format is allowed, and DICOM SEG and RT structure sets (`roi`, or a path `FILE::NAME`, names the
    structure where there are several). Axes in another order or direction on the same voxels are turned losslessly;
    nothing is resampled. A crop saved by 3D Slicer (.seg.nrrd) or a SEG of some slices is put in its place. A picture
    with only 0 and 255 is a mask of label 1. `note` receives remarks that are no errors and name no file.

    Raises:
        InputError: unreadable, on another grid (says how), not whole non-negative numbers, or empty where it may not.
    """
    text, separator, name = str(path).partition("::")
    if roi is None and separator and not Path(path).exists():
        path, roi = text, name
    path = Path(path)
    files.check_path(path, what)
    kind = dicom_header.kind_of_file(path) if path.is_file() else ""
    if roi is not None and kind != "RTSTRUCT":
        raise InputError(f"The {what} `{path}` is no RT structure set, so it has no structure `{roi}` to choose.")
    if kind == "RTSTRUCT":
        return rtstruct.rtstruct_to_label_map(path, like, roi, what, note)
    if kind == "SEG":
        array, grid = seg.read_dicom_seg(path, what)
        labels = to_labels(path, what, array, may_be_empty=may_be_empty)
        return _on_grid(path, what, labels, grid, like, crop_allowed=True)
    labels, grid = read_labels_alone(path, what, may_be_empty=may_be_empty)
    cropped = path.name.lower().endswith(".seg.nrrd")
    return _on_grid(path, what, labels, grid, like, crop_allowed=cropped)


def read_labels_alone(path: Path, what: str = "mask", *, may_be_empty: bool = False) -> tuple[Labels, Geometry]:
    """Labels (z, y, x) of an image file (no DICOM SEG or RTSTRUCT) on the file's own grid; see `read_label_map`."""
    if files.FORMAT_OF_SUFFIX.get(files.suffix_of(path)) == "picture":
        array, grid = picture.read_picture(path, what, indexed=True)
        if np.array_equal(np.unique(array), [0, _FULL_WHITE]):
            array = array // _FULL_WHITE
    else:
        array, grid, _ = read_array(path, what)
    return to_labels(path, what, array, may_be_empty=may_be_empty), grid


def read_reference(path: Path | str, like: Geometry, note: Callable[[str], None] = lambda text: None) -> Labels:
    """The reference mask of `--truth`; see `read_label_map`.

    `FILE::2` or `FILE::2,3` takes these values of a label map for the lesion, as one binary mask. The word
    `lesion-free`, and a map without any label, say that the scan holds no lesion.

    Raises:
        InputError: see `read_label_map`, but for an empty map.
    """
    what = "reference mask"
    if str(path) == LESION_FREE and not Path(path).exists():
        return np.zeros(like.shape, dtype=np.uint8)
    file, _, values = str(path).rpartition("::")
    if not file or Path(path).exists() or not _VALUES.fullmatch(values):
        return read_label_map(path, like, what, may_be_empty=True, note=note)
    labels = read_label_map(file, like, what, may_be_empty=True, note=note)
    return np.isin(labels, [int(value) for value in values.split(",")]).astype(np.uint8)


def to_labels(path: Path, what: str, array: NDArray[Any], *, may_be_empty: bool = False) -> Labels:
    """Label values as uint8 or uint16.

    Raises:
        InputError: fractions, NaN, negative or too large values, or no label at all where that is not allowed.
    """
    if array.dtype.kind == "f":
        bad = sum(int(np.count_nonzero(~(np.isfinite(plane) & (plane == np.rint(plane))))) for plane in array)
        if bad:
            raise InputError(
                f"The {what} `{path}` is not a label map: {bad:,} voxels are not whole numbers.",
                "Give a mask of labels 0, 1, 2, …; threshold a probability map first, and resample masks by nearest "
                "neighbour.",
            )
    lowest, highest = float(array.min()), float(array.max())
    limit = np.iinfo(np.uint16).max
    if lowest < 0 or highest > limit:
        raise InputError(
            f"The {what} `{path}` is not a label map: its values run from {lowest:g} to {highest:g}; whole numbers "
            f"from 0 to {limit} are allowed.",
            "Perhaps the image was given where its mask is needed.",
        )
    if highest == 0 and not may_be_empty:
        raise EmptyMaskError(
            f"The {what} `{path}` is empty: all {array.size:,} voxels are 0.", "Check that it is the right file."
        )
    if highest <= np.iinfo(np.uint8).max:
        return array.astype(np.uint8, copy=False)
    return array.astype(np.uint16, copy=False)


def grid_difference(mask: Geometry, image: Geometry) -> str:
    """In words how two grids differ, mask first: shape, spacing, origin, direction; empty when they are the same."""
    listed = []
    if mask.shape != image.shape:
        listed.append(f"shape {_xyz(mask.shape)} instead of {_xyz(image.shape)}")
    if not np.allclose(mask.spacing_mm, image.spacing_mm, rtol=1e-4, atol=0):
        listed.append(f"spacing {_xyz(mask.spacing_mm)} instead of {_xyz(image.spacing_mm)} mm")
    if not np.allclose(mask.direction, image.direction, rtol=0, atol=_AXIS_TOLERANCE):
        listed.append(f"direction {_numbers(mask.direction)} instead of {_numbers(image.direction)}")
    if not np.allclose(mask.origin_lps_mm, image.origin_lps_mm, rtol=0, atol=_tolerance_mm(image)):
        listed.append(f"origin {_numbers(mask.origin_lps_mm)} instead of {_numbers(image.origin_lps_mm)} mm (LPS)")
    if not listed and not _same_grid(mask, image):
        listed.append(f"corners up to {_corner_shift_mm(mask, image):.3g} mm away")
    return "; ".join(listed)


def _on_grid(path: Path, what: str, labels: Labels, grid: Geometry, like: Geometry, *, crop_allowed: bool) -> Labels:
    if like.is_2d and "none" in (grid.known_spacing, like.known_spacing) and grid.shape == like.shape:
        return labels
    turned, turned_grid = _turned(labels, grid, like)
    if _same_grid(turned_grid, like):
        return turned if turned.flags.c_contiguous else turned.copy(order="C")
    if crop_allowed:
        placed = _placed(turned, turned_grid, like)
        if placed is not None:
            return placed
    raise InputError(
        f"The {what} `{path}` is on another grid than its image: {grid_difference(turned_grid, like)} "
        "(in x, y, z order).",
        "Give the mask that was drawn on this image, or resample it onto the image by nearest neighbour first "
        "(3D Slicer: Resample Scalar/Vector/DWI Volume; c3d: -reslice-identity).",
    )


def _turned(labels: Labels, grid: Geometry, like: Geometry) -> tuple[Labels, Geometry]:
    """The same voxels with axes ordered and directed as in `like`, where both grids are parallel."""
    rotation = like.direction_matrix.T @ grid.direction_matrix  # columns: the mask's axes in the image's x, y, z
    source = np.abs(rotation).argmax(axis=1)  # which axis of the mask runs along the image's x, y, z
    if sorted(source) != [0, 1, 2] or np.abs(np.abs(rotation[np.arange(3), source]) - 1).max() > _AXIS_TOLERANCE:
        return labels, grid
    signs = np.sign(rotation[np.arange(3), source])
    first = [0.0, 0.0, 0.0]  # index in the mask of the voxel that becomes (0, 0, 0), x, y, z
    for axis in range(3):
        if signs[axis] < 0:
            first[source[axis]] = grid.shape[2 - source[axis]] - 1.0
    origin = grid.to_lps_mm((first[2], first[1], first[0]))
    direction = (grid.direction_matrix[:, source] * signs).ravel()
    turned = labels.transpose([2 - int(source[2 - axis]) for axis in range(3)])
    turned = turned[tuple(slice(None, None, int(signs[2 - axis])) for axis in range(3))]
    spacing = [grid.spacing_mm[2 - int(source[2 - axis])] for axis in range(3)]
    update = {
        "shape": turned.shape,
        "spacing_mm": (spacing[0], spacing[1], spacing[2]),
        "origin_lps_mm": tuple(float(v) for v in origin),
        "direction": tuple(float(v) for v in direction),
    }
    return turned, grid.model_copy(update=update)


def _placed(labels: Labels, grid: Geometry, like: Geometry) -> Labels | None:
    """A crop put into zeros on the grid `like`; None unless its voxels lie on voxels inside it."""
    offset = like.to_zyx(grid.origin_lps_mm)
    start = np.rint(offset).astype(int)
    stop = start + np.asarray(grid.shape)
    if (start < 0).any() or (stop > np.asarray(like.shape)).any():
        return None
    from_like = like.model_copy(
        update={
            "shape": grid.shape,
            "origin_lps_mm": tuple(float(v) for v in like.to_lps_mm(start.astype(np.float64))),
        }
    )
    if not _same_grid(grid, from_like):
        return None
    full = np.zeros(like.shape, dtype=labels.dtype)
    full[tuple(slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))] = labels
    return full


def _same_grid(a: Geometry, b: Geometry) -> bool:
    return a.shape == b.shape and _corner_shift_mm(a, b) <= _tolerance_mm(b)


def _tolerance_mm(geometry: Geometry) -> float:
    return max(GEOMETRY_TOLERANCE_MM, GRID_TOLERANCE_VOXELS * min(geometry.spacing_mm))


def _corner_shift_mm(a: Geometry, b: Geometry) -> float:
    corners = np.array([[z, y, x] for z in (0, 1) for y in (0, 1) for x in (0, 1)]) * (np.asarray(b.shape) - 1.0)
    return float(np.linalg.norm(a.to_lps_mm(corners) - b.to_lps_mm(corners), axis=1).max())


def _xyz(zyx: Index3 | Float3) -> str:
    return " × ".join(f"{v:.6g}" for v in reversed(zyx))


def _numbers(values: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{v:.5g}" for v in values) + ")"
