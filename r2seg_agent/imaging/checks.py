"""Rules that every reader applies: a usable grid, finite grey voxels, the smallest lossless number type."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.errors import InputError
from r2seg_agent.imaging.geometry import DIRECTION_TOLERANCE, Float3, Geometry, Index3

SMALLEST_VOXEL_MM = 0.005
LARGEST_VOXEL_MM = 100.0
"""The longest edge of a voxel lies between these: optical coherence tomography at one end, localizers at the other."""
MAX_STRAIGHTENING_VOXELS = 0.5
"""Axes that are not perpendicular are made so where no corner moves farther: as much as slices of a DICOM series may
drift sideways, …"""
MAX_STRAIGHTENING = 0.05
"""… and where no direction cosine changes by more (three degrees), however small the image is."""


def checked_geometry(
    path: Path,
    what: str,
    *,
    shape: Sequence[int],
    spacing_zyx_mm: Sequence[float],
    origin_lps_mm: Sequence[float] = (0.0, 0.0, 0.0),
    direction: NDArray[np.float64] | None = None,
    known_spacing: Literal["zyx", "yx", "none"] = "zyx",
    note: Callable[[str], None] = lambda text: None,
) -> Geometry:
    """A `Geometry` from a file's numbers; shape and spacing in (z, y, x) order, direction (3, 3) in LPS columns.

    Axes that are nearly perpendicular are made so about the image's centre, where that moves no corner by more than
    half a voxel; `note` is told.

    Raises:
        InputError: spacing, origin or direction that no scanner makes.
    """
    matrix = np.eye(3) if direction is None else np.asarray(direction, dtype=np.float64)
    spacing = tuple(float(s) for s in spacing_zyx_mm)
    origin = tuple(float(v) for v in origin_lps_mm)
    if min(shape) < 1:
        raise InputError(
            f"The {what} `{path}` has an axis without voxels: shape {_xyz(shape)} (x, y, z).",
            "Its header is wrong; export it again.",
        )
    check_spacing(path, what, spacing)
    if not np.isfinite(origin).all():
        raise InputError(f"The {what} `{path}` has no finite origin: {origin} mm.", "Export it again.")
    straight = bool(np.isfinite(matrix).all())
    if straight and np.abs(matrix @ matrix.T - np.eye(3)).max() > DIRECTION_TOLERANCE:
        rotation, moved_origin, moved = _straightened(shape, spacing, origin, matrix)
        straight = moved <= MAX_STRAIGHTENING_VOXELS and bool(np.abs(rotation - matrix).max() <= MAX_STRAIGHTENING)
        if straight:
            note(
                f"The axes of the {what} are not quite perpendicular (a sheared header): they were made so, which "
                f"moves its corners by up to {moved:.2g} voxels."
            )
            matrix, origin = rotation, moved_origin
    if not straight:
        raise InputError(
            f"The {what} `{path}` has a direction matrix that is not orthonormal (sheared axes, or a tilted gantry): "
            f"{_rows(matrix)}. Only grids with perpendicular axes are allowed.",
            "Resample it to a regular grid first (3D Slicer: Resample Scalar Volume; dcm2niix corrects tilt).",
        )
    d = [float(v) for v in matrix.ravel()]
    return Geometry(
        shape=_index3(shape),
        spacing_mm=_float3(spacing),
        origin_lps_mm=_float3(origin),
        direction=(d[0], d[1], d[2], d[3], d[4], d[5], d[6], d[7], d[8]),
        known_spacing=known_spacing,
    )


def _straightened(
    shape: Sequence[int], spacing_zyx_mm: Sequence[float], origin_lps_mm: Sequence[float], matrix: NDArray[np.float64]
) -> tuple[NDArray[np.float64], tuple[float, ...], float]:
    """The nearest rotation (or mirrored one) to a direction matrix, about the centre of the image.

    Returns it with its origin, and how far it moves the corners, in edges of the smallest voxel.
    """
    left, _, right = np.linalg.svd(matrix)
    rotation = left @ right
    half = np.asarray(spacing_zyx_mm[::-1]) * (np.asarray(shape[::-1]) - 1) / 2
    origin = np.asarray(origin_lps_mm) + (matrix - rotation) @ half
    signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    moved = np.linalg.norm((signs * half) @ (matrix - rotation).T, axis=1).max() / min(spacing_zyx_mm)
    return rotation, tuple(float(v) for v in origin), float(moved)


def check_extent(path: Path, what: str, shape: Sequence[int]) -> None:
    """Raise `InputError` for an image (z, y, x) that is one voxel thin in plane."""
    if shape[1] < 2 or shape[2] < 2:
        raise InputError(
            f"The {what} `{path}` is one voxel thin in plane: shape {_xyz(shape)} (x, y, z). "
            "At least 2 × 2 voxels are needed in x and y; only z may be 1.",
            "Give the whole slice or volume; a single sagittal or coronal slice must be stored along z.",
        )


def check_spacing(path: Path, what: str, spacing_zyx_mm: Sequence[float]) -> None:
    """Raise `InputError` unless every spacing is a finite positive number of mm, of a size that scanners have."""
    if not spacing_zyx_mm:
        raise InputError(
            f"The {what} `{path}` names its spacing and gives no number for it.",
            "Without the true voxel size no length or volume can be given; export it again from the source.",
        )
    if not all(np.isfinite(s) and s > 0 for s in spacing_zyx_mm):
        raise InputError(
            f"The {what} `{path}` has the spacing {_xyz(spacing_zyx_mm)} mm (x, y, z): each must be above zero.",
            "Without the true voxel size no length or volume can be given; export it again from the source.",
        )
    if max(spacing_zyx_mm) < SMALLEST_VOXEL_MM or max(spacing_zyx_mm) > LARGEST_VOXEL_MM:
        raise InputError(
            f"The {what} `{path}` has the spacing {_xyz(spacing_zyx_mm)} mm (x, y, z), which no scanner has: its "
            f"header states it in another unit. From {SMALLEST_VOXEL_MM:g} to {LARGEST_VOXEL_MM:g} mm are allowed.",
            "Correct the unit in its header (NIfTI: `xyzt_units`), or export it again from the source.",
        )


def check_grey_type(path: Path, what: str, kind: str, type_name: str) -> None:
    """Raise `InputError` unless a NumPy type kind is a real number: boolean, integer or float."""
    if kind not in "biuf":
        raise InputError(
            f"The {what} `{path}` holds {type_name} voxels; one real grey value per voxel is needed.",
            "Save one channel (for complex data: the magnitude) as its own image.",
        )


def check_voxels(path: Path, what: str, array: NDArray[Any]) -> tuple[float, float]:
    """(lowest, highest) voxel of a (z, y, x) array, read slice by slice so that no large copy is made.

    Raises:
        InputError: NaN or infinite voxels (with their number), or all voxels equal.
    """
    lowest, highest = np.inf, -np.inf
    bad = 0
    for plane in array:
        if array.dtype.kind == "f":
            finite = np.isfinite(plane)
            n_bad = plane.size - int(np.count_nonzero(finite))
            if n_bad:
                bad += n_bad
                continue
        lowest = min(lowest, float(plane.min()))
        highest = max(highest, float(plane.max()))
    if bad:
        raise InputError(
            f"The {what} `{path}` has {bad:,} voxels that are NaN or infinite, of {array.size:,}.",
            "Replace them first by what lies outside the body there (air: -1000 HU in CT, 0 in MR).",
        )
    if lowest == highest:
        raise InputError(
            f"The {what} `{path}` is constant: all {array.size:,} voxels are {lowest:g}.",
            "There is nothing to see in it; check that the export went well.",
        )
    return lowest, highest


def compact(path: Path, what: str, array: NDArray[Any]) -> NDArray[Any]:
    """The same values in a type of at most 4 bytes.

    Integers of up to 4 bytes and float32 stay as they are. uint32 and 64-bit integers become int16, uint16 or int32
    where the range allows, else float32; float64 becomes int16 or int32 where every value is a whole number (CT saved
    by a careless tool), else float32, which keeps 7 digits.
    """
    dtype = array.dtype
    if dtype == np.bool_:
        return array.view(np.uint8)
    if dtype == np.float16:
        return array.astype(np.float32)
    if dtype.itemsize <= 4 and dtype != np.uint32:
        return array
    if dtype.kind == "f" and not all(_finite(plane) for plane in array):
        return array  # `check_voxels` counts them and refuses
    lowest = float(min(plane.min() for plane in array))
    highest = float(max(plane.max() for plane in array))
    if max(abs(lowest), abs(highest)) > float(np.finfo(np.float32).max):
        raise InputError(
            f"The {what} `{path}` has values up to {max(abs(lowest), abs(highest)):g}, beyond single precision.",
            "Rescale its values first.",
        )
    whole = dtype.kind in "iu" or all(bool((plane == np.rint(plane)).all()) for plane in array)
    target = smallest_integer_type(lowest, highest) if whole else None
    return array.astype(target or np.dtype(np.float32))


def smallest_integer_type(lowest: float, highest: float) -> np.dtype[Any] | None:
    """int16, uint16 or int32, the first that holds the range; None when none does."""
    for candidate in (np.int16, np.uint16, np.int32):
        limits = np.iinfo(candidate)
        if limits.min <= lowest and highest <= limits.max:
            return np.dtype(candidate)
    return None


def rescale_slices(raw: NDArray[Any], slopes: Sequence[float], intercepts: Sequence[float]) -> NDArray[Any]:
    """`raw[z] * slopes[z] + intercepts[z]`, in integers where slopes and intercepts are whole numbers, else float32.

    Works inside `raw`'s own memory when the result has the same width, so a large int16 scan is never held twice.
    """
    if all(s == 1 for s in slopes) and all(i == 0 for i in intercepts):
        return raw
    whole = raw.dtype.kind in "iu" and all(float(v).is_integer() for v in (*slopes, *intercepts))
    target: np.dtype[Any] | None = None
    if whole:
        ends = [
            float(end) * slope + intercept
            for plane, slope, intercept in zip(raw, slopes, intercepts, strict=True)
            for end in (plane.min(), plane.max())
        ]
        target = smallest_integer_type(min(ends), max(ends))
    target = target or np.dtype(np.float32)
    same_width = target.itemsize == raw.dtype.itemsize and raw.flags.writeable
    out = raw.view(target) if same_width else np.empty(raw.shape, dtype=target)
    for z, (slope, intercept) in enumerate(zip(slopes, intercepts, strict=True)):
        out[z] = (raw[z].astype(np.float64) * slope + intercept).astype(target)
    return out


def _finite(plane: NDArray[Any]) -> bool:
    return bool(np.isfinite(plane).all())


def _xyz(zyx: Sequence[float]) -> str:
    return " × ".join(f"{v:g}" for v in reversed(tuple(zyx)))


def _rows(matrix: NDArray[np.float64]) -> str:
    return "; ".join(" ".join(f"{v:.4g}" for v in row) for row in matrix)


def _index3(values: Sequence[int]) -> Index3:
    return (int(values[0]), int(values[1]), int(values[2]))


def _float3(values: Sequence[float]) -> Float3:
    return (float(values[0]), float(values[1]), float(values[2]))
