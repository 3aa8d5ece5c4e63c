"""RT structure sets: contours in LPS millimetres, filled plane by plane on the grid of an image."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.errors import InputError
from r2seg_agent.imaging import dicom_header, files
from r2seg_agent.imaging.geometry import Geometry

IN_PLANE_TOLERANCE = 0.1
"""A contour lies in one slice when its points spread over no more than this share of a slice distance."""
SAME_PLANE_MM = 0.05
"""Contours closer than this along the slices' normal were drawn in one plane (headers round to 0.01 mm or so)."""
SAME_POINT_MM = 0.01
"""Two contours of a plane with the same points, to this step, are one contour that was stored twice."""
LARGEST_STEP = 1.5
"""Neighbouring planes farther apart than this many usual steps (of the contours or of the slices, whichever is more)
do not belong together: nothing is filled in between them."""
LARGEST_STEP_MM = 10.0
"""Contours are drawn in slices, and no slices are farther apart: planes with a larger distance are of two parts."""


@dataclass(frozen=True)
class _Plane:
    """The contours of one plane: `z` is its fractional slice index, `polygons` are (n, 2) pixel indices (y, x)."""

    z: float
    polygons: list[NDArray[np.float64]]


def rtstruct_to_label_map(
    path: Path | str,
    geometry: Geometry,
    roi_name: str | None = None,
    what: str = "mask",
    note: Callable[[str], None] = lambda text: None,
) -> NDArray[np.uint8]:
    """One structure as labels 0 and 1 (z, y, x) on `geometry`: voxels whose centre lies inside its contours.

    Contours in one plane combine by the even-odd rule, so that a contour inside another is a hole; one that is stored
    twice counts once. A slice takes the plane nearest to its centre, of two that are equally near their union. A plane
    reaches half a step of the contours to both sides, so contours may be finer or coarser than the slices. `roi_name`
    may be None when the file holds one structure; case does not matter. `note` is told where planes are missing, where
    slices were filled from a neighbouring plane, and what lies beyond the image.

    Raises:
        InputError: unreadable, an unknown or ambiguous name, contours across slices, or nothing inside the image.
    """
    path = Path(path)
    contours = _contours(path, what)
    name = _choose(path, what, roi_name, contours)
    planes = _planes(path, what, name, geometry, contours[name])
    labels = np.zeros(geometry.shape, dtype=np.bool_)
    for z, nearest in _plane_of_slices(planes, geometry, what, note).items():
        for plane in nearest:
            labels[z] |= _filled(plane, (geometry.shape[1], geometry.shape[2]))
    outside = sum(not -0.5 <= plane.z <= geometry.shape[0] - 0.5 for plane in planes)
    if not labels.any():
        raise InputError(
            f"The structure `{name}` in the {what} `{path}` covers no voxel of the image ({outside} of "
            f"{len(planes)} planes with contours lie above or below it).",
            "Give the image series on which it was drawn.",
        )
    if outside:
        note(f"{outside} of the {len(planes)} planes with contours of the {what} lie above or below the image.")
    return labels.view(np.uint8)


def _planes(
    path: Path, what: str, name: str, geometry: Geometry, contours: Sequence[NDArray[np.float64]]
) -> list[_Plane]:
    """The contours by plane, from the lowest slice index to the highest."""
    found = []
    for points_lps in contours:
        zyx = geometry.to_zyx(points_lps)
        if float(np.ptp(zyx[:, 0])) > 2 * IN_PLANE_TOLERANCE:
            raise InputError(
                f"The structure `{name}` in the {what} `{path}` is not drawn in the slices of the image.",
                "Give the image series on which it was drawn.",
            )
        found.append((float(zyx[:, 0].mean()), points_lps, zyx[:, 1:]))
    planes: list[_Plane] = []
    seen: set[frozenset[tuple[int, ...]]] = set()
    for z, points_lps, polygon in sorted(found, key=lambda contour: contour[0]):
        if not planes or (z - planes[-1].z) * geometry.spacing_mm[0] > SAME_PLANE_MM:
            planes.append(_Plane(z, []))
            seen = set()
        points = frozenset(tuple(int(v) for v in p) for p in np.rint(points_lps[:, :3] / SAME_POINT_MM))
        if points not in seen:
            planes[-1].polygons.append(polygon)
        seen.add(points)
    return planes


def _plane_of_slices(
    planes: Sequence[_Plane], geometry: Geometry, what: str, note: Callable[[str], None]
) -> dict[int, list[_Plane]]:
    """The plane, or the two equally near ones, that each slice takes; slices without any are not in it."""
    z = np.array([plane.z for plane in planes])
    steps = np.diff(z)
    beside = np.array([not _overlap(a, b) for a, b in pairwise(planes)], dtype=np.bool_)
    apart = ((steps > LARGEST_STEP) & beside) | (steps > max(1.0, LARGEST_STEP_MM / geometry.spacing_mm[0]))
    step = 1.0 if apart.all() else float(np.median(steps[~apart]))
    breaks = np.flatnonzero(apart | (steps > LARGEST_STEP * max(step, 1.0)))
    same = SAME_PLANE_MM / geometry.spacing_mm[0]
    taken: dict[int, list[_Plane]] = {}
    for run in np.split(np.arange(len(planes)), breaks + 1):
        low, high = z[run[0]] - step / 2, z[run[-1]] + step / 2
        # An end of a run belongs to the slice above it, not to the one below: two runs never count a slice twice.
        slices = list(range(math.ceil(low - same), math.ceil(high - same))) or [math.floor(float(z[run].mean()) + 0.5)]
        for index in slices:
            if not 0 <= index < geometry.shape[0]:
                continue
            distances = np.abs(z[run] - index)
            nearest = [planes[run[i]] for i in np.flatnonzero(distances <= distances.min() + same)]
            taken.setdefault(index, []).extend(nearest)
    skipped = [
        index
        for i in breaks
        for index in range(math.floor(z[i]) + 1, math.ceil(z[i + 1]))
        if index not in taken and 0 <= index < geometry.shape[0]
    ]
    if skipped:
        note(
            f"The {what} has no contour on {len(skipped)} slice{'s' if len(skipped) > 1 else ''} between its first and "
            f"its last (axial slice {_listed(skipped)}): they are left empty."
        )
    filled = [index for index in taken if np.abs(z - index).min() > 0.5 + same]
    if filled:
        note(
            f"The contours of the {what} are {step * geometry.spacing_mm[0]:.3g} mm apart, farther than the slices: "
            f"{len(filled)} slice{'s' if len(filled) > 1 else ''} took the nearest contours."
        )
    return taken


def _overlap(a: _Plane, b: _Plane) -> bool:
    """Whether the bounding boxes (y, x) of two planes' contours overlap."""
    first, second = np.concatenate(a.polygons), np.concatenate(b.polygons)
    return bool(
        (np.maximum(first.min(axis=0), second.min(axis=0)) <= np.minimum(first.max(axis=0), second.max(axis=0))).all()
    )


def _listed(slices: Sequence[int], most: int = 6) -> str:
    shown = ", ".join(str(index + 1) for index in slices[:most])
    return f"{shown} and {len(slices) - most} more" if len(slices) > most else shown


def _filled(plane: _Plane, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels inside the contours of one plane, by the even-odd rule."""
    parity = np.zeros(shape, dtype=np.bool_)
    for polygon in plane.polygons:
        parity ^= fill_polygon(polygon, shape)
    return parity


def fill_polygon(yx: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels (y, x) whose centre lies inside a closed polygon of fractional pixel indices, by the even-odd rule.

    Scan lines through pixel centres: an edge crosses a line when exactly one of its ends lies at or above it, so a
    vertex on a line counts once. A centre on the left border is inside, on the right border outside.
    """
    rows, columns = shape
    ends = np.roll(yx, -1, axis=0)
    flips = np.zeros((rows, columns + 1), dtype=np.int64)
    for (y0, x0), (y1, x1) in zip(yx, ends, strict=True):
        low, high = (y0, y1) if y0 < y1 else (y1, y0)
        lines = np.arange(max(0, int(np.ceil(low))), min(rows, int(np.ceil(high))))
        if lines.size == 0:
            continue
        crossing = x0 + (lines - y0) * (x1 - x0) / (y1 - y0)
        first = np.clip(np.ceil(crossing), 0, columns).astype(np.int64)  # first pixel centre right of the crossing
        np.add.at(flips, (lines, first), 1)
    return np.asarray(np.cumsum(flips[:, :-1], axis=1) % 2 == 1)


def _contours(path: Path, what: str) -> Mapping[str, Sequence[NDArray[np.float64]]]:
    """(n, 3) LPS points of every closed planar contour by structure name; structures without any are left out."""
    head = files.read_head(path, what)
    kind = dicom_header.kind_of_file(path)
    if kind != "RTSTRUCT":
        is_what = f"a DICOM object of modality {kind}" if kind else files.describe_content(head)
        raise InputError(
            f"The {what} `{path}` is not an RT structure set: it looks like {is_what}.", "Name the RTSTRUCT file."
        )
    try:
        with dicom_header.quiet():
            return _closed_contours(dicom_header.read_dataset(path))
    except Exception as error:  # pydicom raises nearly anything on damaged data
        raise files.truncated(path, what, files.last_sentence(str(error))) from None


def _closed_contours(ds: Any) -> Mapping[str, Sequence[NDArray[np.float64]]]:
    names = {int(roi.ROINumber): str(roi.get("ROIName", "")) for roi in ds.get("StructureSetROISequence") or ()}
    found: dict[str, list[NDArray[np.float64]]] = {}
    for roi in ds.get("ROIContourSequence") or ():
        number = int(roi.ReferencedROINumber)
        for contour in roi.get("ContourSequence") or ():
            data = contour.get("ContourData") or ()
            if not str(contour.get("ContourGeometricType", "")).startswith("CLOSED") or len(data) < 9:
                continue
            points = np.asarray([float(v) for v in data], dtype=np.float64).reshape(-1, 3)
            found.setdefault(names.get(number, f"structure {number}"), []).append(points)
    return found


def _choose(path: Path, what: str, roi_name: str | None, contours: Mapping[str, object]) -> str:
    listed = ", ".join(f"`{name}`" for name in contours) or "none"
    if roi_name is None:
        if len(contours) == 1:
            return next(iter(contours))
        raise InputError(
            f"The {what} `{path}` is an RT structure set with {len(contours)} drawn structures: {listed}.",
            f"Name one of them after the path: `{path.name}::{next(iter(contours))}`."
            if contours
            else "Nothing is drawn in it.",
        )
    for name in contours:
        if name.strip().casefold() == roi_name.strip().casefold():
            return name
    raise InputError(
        f"The {what} `{path}` has no drawn structure `{roi_name}`. It has: {listed}.", "Choose one of them."
    )
