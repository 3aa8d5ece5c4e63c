"""Where voxels lie: `Geometry` (grid → LPS millimetres) and `Box` (a half-open index range).

Axis order inside r2seg is (z, y, x) everywhere. World coordinates are DICOM/ITK LPS in mm, order (x, y, z):
+x to the patient's Left, +y Posterior, +z Superior. NIfTI's RAS+ is converted in `imaging/nifti.py` only.
"""

from __future__ import annotations

import math
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from r2seg_agent.frozen import Frozen

Index3 = tuple[int, int, int]
"""(z, y, x) indices or a (z, y, x) shape."""
Float3 = tuple[float, float, float]
"""Three floats; the field's name says which axes."""

DIRECTION_TOLERANCE = 1e-4
"""Largest deviation of the direction matrix from orthonormal that still counts as a rotation."""
GEOMETRY_TOLERANCE_MM = 1e-3
"""Largest displacement of any grid corner at which two grids count as the same."""


class Geometry(Frozen):
    """The grid of an image: voxel (z, y, x) lies at `origin + direction @ (spacing_xyz * (x, y, z))` in LPS mm.

    `direction` is row-major 3×3 as in ITK: its columns are the LPS unit vectors of the x, y and z index axes.
    `known_spacing` says which spacings the file stated: "zyx", "yx" (one slice), or "none" (PNG, JPEG: the
    numbers are then 1.0 and every length is in pixels, not mm).
    """

    shape: Index3
    spacing_mm: Float3
    origin_lps_mm: Float3 = (0.0, 0.0, 0.0)
    direction: tuple[float, float, float, float, float, float, float, float, float] = (
        1.0, 0.0, 0.0,
        0.0, 1.0, 0.0,
        0.0, 0.0, 1.0,
    )  # fmt: skip
    known_spacing: Literal["zyx", "yx", "none"] = "zyx"

    @model_validator(mode="after")
    def _check(self) -> Self:
        if min(self.shape) < 1:
            raise ValueError(f"every axis needs at least one voxel, got shape {self.shape}")
        if min(self.spacing_mm) <= 0:
            raise ValueError(f"spacing must be positive in mm, got {self.spacing_mm} (z, y, x)")
        d = self.direction_matrix
        if np.abs(d @ d.T - np.eye(3)).max() > DIRECTION_TOLERANCE:
            raise ValueError(f"direction is not orthonormal: {self.direction}")
        return self

    @property
    def direction_matrix(self) -> NDArray[np.float64]:
        """(3, 3) float64; columns are the LPS directions of index axes x, y, z."""
        return np.asarray(self.direction, dtype=np.float64).reshape(3, 3)

    @property
    def voxel_volume_mm3(self) -> float:
        """Volume of one voxel in mm³ (a pixel times 1 mm for one slice of unknown thickness)."""
        return math.prod(self.spacing_mm)

    @property
    def n_voxels(self) -> int:
        """Number of voxels of the grid."""
        return math.prod(self.shape)

    @property
    def is_2d(self) -> bool:
        """True for an image of one slice."""
        return self.shape[0] == 1

    @property
    def full_box(self) -> Box:
        """The box that covers the whole grid."""
        return Box(start=(0, 0, 0), stop=self.shape)

    def to_lps_mm(self, zyx: NDArray[np.float64] | Float3) -> NDArray[np.float64]:
        """World positions of (fractional) voxel indices: (..., 3) zyx → (..., 3) LPS xyz mm."""
        xyz = np.asarray(zyx, dtype=np.float64)[..., ::-1]
        spacing_xyz = np.asarray(self.spacing_mm[::-1])
        lps: NDArray[np.float64] = (xyz * spacing_xyz) @ self.direction_matrix.T + np.asarray(self.origin_lps_mm)
        return lps

    def to_zyx(self, lps_mm: NDArray[np.float64] | Float3) -> NDArray[np.float64]:
        """Fractional voxel indices of world positions: (..., 3) LPS xyz mm → (..., 3) zyx."""
        relative = np.asarray(lps_mm, dtype=np.float64) - np.asarray(self.origin_lps_mm)
        xyz = (relative @ self.direction_matrix) / np.asarray(self.spacing_mm[::-1])
        zyx: NDArray[np.float64] = xyz[..., ::-1]
        return zyx

    def crop(self, box: Box) -> Geometry:
        """The geometry of the sub-grid `box`."""
        origin = self.to_lps_mm((float(box.start[0]), float(box.start[1]), float(box.start[2])))
        return self.model_copy(
            update={
                "shape": box.shape,
                "origin_lps_mm": (float(origin[0]), float(origin[1]), float(origin[2])),
            }
        )


class Box(Frozen):
    """A half-open index range: voxels `start <= (z, y, x) < stop`, axis order (z, y, x)."""

    start: Index3
    stop: Index3

    @model_validator(mode="after")
    def _check(self) -> Self:
        if any(b <= a for a, b in zip(self.start, self.stop, strict=True)) or min(self.start) < 0:
            raise ValueError(f"an empty or negative box: start {self.start}, stop {self.stop} (z, y, x)")
        return self

    @property
    def shape(self) -> Index3:
        """(z, y, x) extent in voxels."""
        (z0, y0, x0), (z1, y1, x1) = self.start, self.stop
        return (z1 - z0, y1 - y0, x1 - x0)

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """For indexing an array: `array[box.slices]`."""
        (z0, y0, x0), (z1, y1, x1) = self.start, self.stop
        return (slice(z0, z1), slice(y0, y1), slice(x0, x1))

    def within(self, outer: Box) -> Box:
        """This box in the index frame of the crop `outer` (which must contain it)."""
        if not outer.contains(self):
            raise ValueError(f"box {self} is not inside {outer}")
        z, y, x = outer.start
        return Box(
            start=(self.start[0] - z, self.start[1] - y, self.start[2] - x),
            stop=(self.stop[0] - z, self.stop[1] - y, self.stop[2] - x),
        )

    def shifted(self, offset: Index3) -> Box:
        """This box moved by `offset` voxels: undoes `within` with `outer.start`."""
        z, y, x = offset
        return Box(
            start=(self.start[0] + z, self.start[1] + y, self.start[2] + x),
            stop=(self.stop[0] + z, self.stop[1] + y, self.stop[2] + x),
        )

    def contains(self, other: Box) -> bool:
        """True when `other` lies wholly inside."""
        return all(a <= b for a, b in zip(self.start, other.start, strict=True)) and all(
            a >= b for a, b in zip(self.stop, other.stop, strict=True)
        )

    def intersection(self, other: Box) -> Box | None:
        """The common box, or None when there is none."""
        start = tuple(max(a, b) for a, b in zip(self.start, other.start, strict=True))
        stop = tuple(min(a, b) for a, b in zip(self.stop, other.stop, strict=True))
        if any(b <= a for a, b in zip(start, stop, strict=True)):
            return None
        return Box(start=(start[0], start[1], start[2]), stop=(stop[0], stop[1], stop[2]))

    def union(self, other: Box) -> Box:
        """The smallest box around both."""
        start = tuple(min(a, b) for a, b in zip(self.start, other.start, strict=True))
        stop = tuple(max(a, b) for a, b in zip(self.stop, other.stop, strict=True))
        return Box(start=(start[0], start[1], start[2]), stop=(stop[0], stop[1], stop[2]))

    def dilated(self, by: Index3, limit: Index3) -> Box:
        """Grown by `by` voxels on both ends of each axis and clipped to a grid of shape `limit`."""
        start = tuple(max(0, a - d) for a, d in zip(self.start, by, strict=True))
        stop = tuple(min(n, b + d) for b, d, n in zip(self.stop, by, limit, strict=True))
        return Box(start=(start[0], start[1], start[2]), stop=(stop[0], stop[1], stop[2]))


def bounding_box(mask: NDArray[np.bool_]) -> Box | None:
    """The smallest box around the true voxels of a (z, y, x) mask; None when there is none."""
    start: list[int] = []
    stop: list[int] = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        hits = np.flatnonzero(mask.any(axis=others))
        if hits.size == 0:
            return None
        start.append(int(hits[0]))
        stop.append(int(hits[-1]) + 1)
    return Box(start=(start[0], start[1], start[2]), stop=(stop[0], stop[1], stop[2]))
