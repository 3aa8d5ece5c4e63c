"""RT structure sets: contours in LPS millimetres, filled slice by slice on the grid of an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.errors import InputError
from r2seg_agent.imaging import dicom, files
from r2seg_agent.imaging.geometry import Geometry

IN_PLANE_TOLERANCE = 0.1
"""A contour lies in one slice when its points spread over no more than this share of a slice distance."""


def rtstruct_to_label_map(
    path: Path | str, geometry: Geometry, roi_name: str | None = None, what: str = "mask"
) -> NDArray[np.uint8]:
    """One structure as labels 0 and 1 (z, y, x) on `geometry`: voxels whose centre lies inside its contours.

    Contours on one slice combine by the even-odd rule, so that a contour inside another is a hole. `roi_name` may be
    None when the file holds one structure; case does not matter.

    Raises:
        InputError: unreadable, an unknown or ambiguous name, contours across slices, or nothing inside the image.
    """
    path = Path(path)
    contours = _contours(path, what)
    name = _choose(path, what, roi_name, contours)
    parity = np.zeros(geometry.shape, dtype=np.bool_)
    outside = 0
    for points_lps in contours[name]:
        zyx = geometry.to_zyx(points_lps)
        if float(np.ptp(zyx[:, 0])) > 2 * IN_PLANE_TOLERANCE:
            raise InputError(
                f"The structure `{name}` in the {what} `{path}` is not drawn in the slices of the image.",
                "Give the image series on which it was drawn.",
            )
        z = round(float(zyx[:, 0].mean()))
        if 0 <= z < geometry.shape[0]:
            parity[z] ^= fill_polygon(zyx[:, 1:], (geometry.shape[1], geometry.shape[2]))
        else:
            outside += 1
    if not parity.any():
        raise InputError(
            f"The structure `{name}` in the {what} `{path}` covers no voxel of the image ({outside} of "
            f"{len(contours[name])} contours lie above or below it).",
            "Give the image series on which it was drawn.",
        )
    return parity.view(np.uint8)


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
    import pydicom

    head = files.read_head(path, what)
    kind = dicom.kind_of_file(path)
    if kind != "RTSTRUCT":
        is_what = f"a DICOM object of modality {kind}" if kind else files.describe_content(head)
        raise InputError(
            f"The {what} `{path}` is not an RT structure set: it looks like {is_what}.", "Name the RTSTRUCT file."
        )
    try:
        with dicom.quiet():
            return _closed_contours(pydicom.dcmread(path))
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
