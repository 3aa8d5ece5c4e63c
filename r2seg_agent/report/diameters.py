"""Longest in-plane diameter and its perpendicular, as RECIST and WHO measure a lesion on an axial slice."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.imaging.geometry import Float3
from r2seg_agent.imaging.volume import Mask

TIE_TOLERANCE = 1e-9
"""Relative difference below which two lengths count as equal, so that ties break the same way everywhere."""

Point = tuple[float, float]
"""(row, column) in voxel indices of the slice; voxel i covers i − 0.5 to i + 0.5."""


class Diameters(NamedTuple):
    """The two lengths (mm, or px where the spacing is unknown), their slice and where they start and end."""

    longest: float
    perpendicular: float
    slice_index: int
    longest_ends: tuple[Point, Point]
    perpendicular_ends: tuple[Point, Point]


def in_plane_diameters(mask: Mask, spacing_mm: Float3, slice_axis: int) -> Diameters:
    """Measure a (z, y, x) `mask` slice by slice along the index axis `slice_axis` (`planes.axial_axis`).

    *Longest diameter*: the largest distance between two points of the mask's voxels in one slice, voxels taken as
    full rectangles (outer corner to outer corner); the slice with the largest one counts (RECIST 1.1: the longest
    diameter in the plane of measurement). *Perpendicular*: the longest chord at a right angle to it in the same
    slice, within the convex hull of the mask (WHO's second diameter; a hollow or bent lesion is spanned).

    Both are exact for the voxels. Against the true outline that the mask samples (voxel in when its centre is in):
    the longest diameter is off by at most one in-plane voxel diagonal, provided that the outline has no detail
    finer than a disc of half that diagonal. With `axial_axis`, a sagittal or coronal acquisition is measured in its
    axial plane too, whose pixels are then as coarse as the slices; an oblique one in the index plane closest to it.

    Ties: the larger perpendicular, then the lower slice. Raises `ValueError` for an empty mask.
    """
    row_axis, col_axis = (a for a in range(3) if a != slice_axis)
    scale = np.asarray([spacing_mm[row_axis], spacing_mm[col_axis]])
    best: Diameters | None = None
    for index in np.flatnonzero(mask.any(axis=(row_axis, col_axis))):
        corners = _row_corners(np.take(mask, int(index), axis=slice_axis))
        diagonal = float(np.linalg.norm((corners.max(axis=0) - corners.min(axis=0)) * scale))
        if best is not None and diagonal < best.longest * (1 - TIE_TOLERANCE):
            continue
        found = _measure(_hull(corners), scale, int(index))
        if best is None or _larger(found, best):
            best = found
    if best is None:
        raise ValueError("an empty mask has no diameter")
    return best


def _row_corners(pixels: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Outer corners of the first and last pixel of each row: all that the convex hull can touch."""
    rows = np.flatnonzero(pixels.any(axis=1))
    first = pixels[rows].argmax(axis=1)
    last = pixels.shape[1] - 1 - pixels[rows, ::-1].argmax(axis=1)
    points = [
        np.stack([rows + down, columns + right], axis=1)
        for down in (-0.5, 0.5)
        for columns, right in ((first, -0.5), (last, 0.5))
    ]
    corners: NDArray[np.float64] = np.concatenate(points).astype(np.float64)
    return corners


def _hull(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Vertices of the convex hull in order. In index units, where all coordinates are exact half-integers;
    scaling the axes afterwards keeps it a hull."""
    from scipy.spatial import ConvexHull

    hull: NDArray[np.float64] = points[ConvexHull(points).vertices]
    return hull


def _measure(hull: NDArray[np.float64], scale: NDArray[np.float64], slice_index: int) -> Diameters:
    points = hull * scale
    squared = ((points[:, None, :] - points[None, :, :]) ** 2).sum(axis=2)
    longest = math.sqrt(float(squared.max()))
    pairs = np.argwhere(np.triu(squared) >= squared.max() * (1 - TIE_TOLERANCE))
    best: Diameters | None = None
    for start, stop in pairs:
        width, ends = _longest_chord_across(points, points[start], points[stop])
        found = Diameters(
            longest,
            width,
            slice_index,
            (_index(points[start], scale), _index(points[stop], scale)),
            (_index(ends[0], scale), _index(ends[1], scale)),
        )
        if best is None or _larger(found, best):
            best = found
    assert best is not None  # a maximum is attained
    return best


def _longest_chord_across(
    hull: NDArray[np.float64], start: NDArray[np.float64], stop: NDArray[np.float64]
) -> tuple[float, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Longest chord of a convex polygon at a right angle to the segment: its width is concave and piecewise linear
    along the segment, so the largest one passes through a vertex."""
    along = (stop - start) / np.linalg.norm(stop - start)
    across = np.asarray([-along[1], along[0]])
    t, h = hull @ along, hull @ across
    t_next, h_next = np.roll(t, -1), np.roll(h, -1)
    low, high = np.minimum(t, t_next), np.maximum(t, t_next)
    best_width, best_t, best_h = -1.0, 0.0, (0.0, 0.0)
    for at in t:
        crossed = (low <= at) & (at <= high)
        slope = np.where(high > low, (at - t) / np.where(high > low, t_next - t, 1.0), 0.0)
        heights = np.concatenate([(h + slope * (h_next - h))[crossed], h[t == at]])
        width = float(heights.max() - heights.min())
        if width > best_width * (1 + TIE_TOLERANCE):
            best_width, best_t, best_h = width, float(at), (float(heights.min()), float(heights.max()))
    ends = (best_t * along + best_h[0] * across, best_t * along + best_h[1] * across)
    return best_width, ends


def _larger(found: Diameters, best: Diameters) -> bool:
    if not math.isclose(found.longest, best.longest, rel_tol=TIE_TOLERANCE):
        return found.longest > best.longest
    return found.perpendicular > best.perpendicular * (1 + TIE_TOLERANCE)


def _index(point_mm: NDArray[np.float64], scale: NDArray[np.float64]) -> Point:
    return (float(point_mm[0] / scale[0]), float(point_mm[1] / scale[1]))
