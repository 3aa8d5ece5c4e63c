"""How strong CT noise is over the body: `noise_strength`, from a coarse drawing of the trunk's cross-sections.

Noise grows with what the beam has passed through, so that the strength at a voxel depends on the whole slice, also on
what the field of view cuts off. For this, 12 mm voxels of fat, muscle, lung, heart and great vessels are enough.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.imaging.geometry import Float3, Index3
from r2seg_agent.imaging.volume import FloatArray, Mask
from r2seg_agent.phantom.body import (
    CAVITY_X_MM,
    CAVITY_Y_MM,
    SIDES,
    WALL_X_MM,
    WALL_Y_MM,
    apex,
    dome,
    trunk_level,
)
from r2seg_agent.phantom.patient import WARP_MARGIN_MM, Patient
from r2seg_agent.phantom.scanner import noise_map
from r2seg_agent.phantom.solids import Bounds, Point, Solid, ellipsoid, tube

COARSE_MM = 12.0
EVERYWHERE: Bounds = ((-1e4, -1e4, -1e4), (1e4, 1e4, 1e4))
THORAX: Bounds = ((-150, -100, -10), (150, 110, 310))
_TRACHEA, _AORTA = 1, 2


def noise_strength(shape: Index3, spacing_mm: Float3, origin_zyx_mm: Float3, patient: Patient) -> FloatArray:
    """Relative noise (z, y, x) over a grid whose first voxel lies at `origin_zyx_mm` in the patient frame."""
    length = shape[0] * spacing_mm[0]
    n_z = max(2, round(length / COARSE_MM) + 1)
    half_x = (151 + patient.fat_mm) * patient.scale_xyz[0] + COARSE_MM
    half_y = (97 + patient.fat_mm) * patient.scale_xyz[1] + COARSE_MM
    grid: Index3 = (n_z, 2 * round(half_y / COARSE_MM) + 1, 2 * round(half_x / COARSE_MM) + 1)
    origin = (origin_zyx_mm[0], -(grid[1] - 1) / 2 * COARSE_MM, -(grid[2] - 1) / 2 * COARSE_MM)
    coarse = _Canvas.of_grid(grid, (length / (n_z - 1), COARSE_MM, COARSE_MM), origin, patient)
    _draw_trunk(coarse, patient)
    _draw_thorax(coarse, patient)
    water = np.clip(coarse.hounsfield / 1000.0 + 1.0, 0.0, 1.5).astype(np.float32)
    relative = noise_map(water, coarse.body, COARSE_MM)
    at = []
    for n, s, start, low, size, m in zip(
        shape, spacing_mm, origin_zyx_mm, origin, (length / (n_z - 1), COARSE_MM, COARSE_MM), grid, strict=True
    ):
        at.append(np.clip((start + s * np.arange(n) - low) / size, 0, m - 1.001))
    result = relative
    for axis, place in enumerate(at):
        below = place.astype(np.int64)
        share = (place - below).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        result = np.take(result, below, axis) * (1 - share) + np.take(result, below + 1, axis) * share
    return result


@dataclass(eq=False)
class _Canvas:
    """A grid to draw on: canonical coordinates of every voxel (warped), and their HU."""

    x: FloatArray
    y: FloatArray
    z: FloatArray
    axes_mm: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
    hounsfield: FloatArray
    body: Mask
    part: NDArray[np.uint8]
    """`_TRACHEA`, `_AORTA`, or 0: what later parts may have to leave alone."""

    @classmethod
    def of_grid(cls, shape: Index3, spacing_mm: Float3, origin_zyx_mm: Float3, patient: Patient) -> _Canvas:
        """An empty canvas over a grid whose first voxel lies at `origin_zyx_mm` in the patient frame."""
        scale_zyx = patient.scale_xyz[::-1]
        zs, ys, xs = (
            (o + s * np.arange(n, dtype=np.float64)) / k
            for o, s, n, k in zip(origin_zyx_mm, spacing_mm, shape, scale_zyx, strict=True)
        )
        z, y, x = np.meshgrid(zs, ys, xs, indexing="ij", sparse=True)
        moved = [np.broadcast_to(m, shape).astype(np.float32) for m in _warped(x, y, z, patient.warp_mm)]
        return cls(
            x=moved[0],
            y=moved[1],
            z=moved[2],
            axes_mm=(xs, ys, zs),
            hounsfield=np.full(shape, -1000.0, dtype=np.float32),
            body=np.zeros(shape, dtype=bool),
            part=np.zeros(shape, dtype=np.uint8),
        )

    def paint(self, hu: float, bounds: Bounds, solid: Solid, *, part: int = 0, spare: tuple[int, ...] = ()) -> None:
        """Give the body's voxels inside `solid` the value `hu`, except those of the parts `spare`."""
        slices = []
        for axis, low, high in zip(self.axes_mm, bounds[0], bounds[1], strict=True):
            inside = np.flatnonzero((axis >= low - WARP_MARGIN_MM) & (axis <= high + WARP_MARGIN_MM))
            if inside.size == 0:
                return
            slices.append(slice(int(inside[0]), int(inside[-1]) + 1))
        at = (slices[2], slices[1], slices[0])
        mask = solid(self.x[at], self.y[at], self.z[at]) & self.body[at]
        if spare:
            mask &= ~np.isin(self.part[at], spare)
        self.part[at][mask] = part
        self.hounsfield[at][mask] = hu


def _warped(
    x: NDArray[np.float64], y: NDArray[np.float64], z: NDArray[np.float64], waves: NDArray[np.float64]
) -> list[NDArray[np.float64]]:
    """Each coordinate plus a few sine waves of about 2 mm: the same deformation at any spacing."""
    moved = []
    for axis, coordinate in enumerate((x, y, z)):
        shift = sum(a * np.sin(kx * x + ky * y + kz * z + phase) for a, kx, ky, kz, phase in waves[:, axis])
        moved.append(coordinate + np.clip(shift, -WARP_MARGIN_MM, WARP_MARGIN_MM))
    return moved


def _draw_trunk(canvas: _Canvas, patient: Patient) -> None:
    """Skin to cavity: subcutaneous fat, wall muscles, visceral fat, shoulders; and the couch below."""
    fat, muscle = patient.hu["fat"], patient.hu["muscle"]
    x_out, y_out = CAVITY_X_MM + WALL_X_MM + patient.fat_mm, CAVITY_Y_MM + WALL_Y_MM + patient.fat_mm
    canvas.body[...] = trunk_level(canvas.x, canvas.y, x_out, y_out) < 1
    canvas.hounsfield[canvas.body] = fat
    couch = (canvas.y > y_out + 4) & (canvas.y < y_out + 16) & (np.abs(canvas.x) < 195)
    canvas.hounsfield[couch & ~canvas.body] = -250.0
    wall = (CAVITY_X_MM + WALL_X_MM, CAVITY_Y_MM + WALL_Y_MM)
    canvas.paint(muscle, EVERYWHERE, lambda x, y, z: trunk_level(x, y, *wall) < 1)
    canvas.paint(fat, EVERYWHERE, _in_cavity)
    canvas.paint(muscle, *ellipsoid((0, 10, 300), (CAVITY_X_MM + WALL_X_MM, 75, 70)))


def _draw_thorax(canvas: _Canvas, patient: Patient) -> None:
    """Lungs, heart, great vessels, trachea, esophagus."""
    hu = patient.hu
    for _, side in SIDES:
        canvas.paint(hu["lung"], THORAX, _lung(side, patient.jitter["lung"][0]))
    for _, side in SIDES:
        for branch in _bronchial_tree(side):
            canvas.paint(hu["heart"] - 20, *branch)
    for piece in tube([(0, 4, 320), (0, 8, 238)], [9, 9]):
        canvas.paint(-990, *piece, part=_TRACHEA)
    for _, side in SIDES:
        for piece in tube([(0, 8, 238), (side * 32, 4, 212)], [8, 6]):
            canvas.paint(-990, *piece, part=_TRACHEA)
    canvas.paint(hu["heart"], *_heart(patient))
    for piece in tube([(-26, -8, 160), (-26, -10, 238)], [9, 9]):
        canvas.paint(hu["heart"] + 30, *piece)
    aorta: list[Point] = [
        (2, -14, 165), (-12, -22, 205), (2, -8, 229), (16, 18, 230), (24, 36, 205), (23, 36, 110),
        (14, 26, 40), (9, 20, -20), (4, 20, -100),
    ]  # fmt: skip
    for piece in tube(aorta, [15, 15, 14, 13, 13, 12, 11, 10, 9]):
        canvas.paint(hu["aorta"], *piece, part=_AORTA)
    for _, side in SIDES:
        for piece in tube([(4, 20, -100), (side * 34, 26, -175)], [7, 6]):
            canvas.paint(hu["aorta"], *piece)
    for piece in tube([(-17, 19, -120), (-17, 19, 20), (-20, 10, 80), (-18, -5, 105)], [10, 10, 11, 12]):
        canvas.paint(hu["inferior_vena_cava"], *piece, spare=(_AORTA,))
    for piece in tube([(3, 20, 310), (3, 22, 230), (8, 20, 110), (25, 2, 78)], [7, 7, 7, 8]):
        canvas.paint(hu["esophagus"], *piece, spare=(_AORTA, _TRACHEA))


def _lung(side: float, dx: float) -> Solid:
    def solid(x: FloatArray, y: FloatArray, z: FloatArray) -> Mask:
        shrink = apex(z)
        field = trunk_level(x, y, 0.97 * CAVITY_X_MM * shrink, 0.96 * CAVITY_Y_MM * shrink) < 1
        medial = 20.0 + 14.0 * np.exp(-(((y + 10) / 45) ** 2)) + dx
        found: Mask = field & (z > dome(x, y)) & (side * x > medial * shrink)
        return found

    return solid


def _bronchial_tree(side: float) -> list[tuple[Bounds, Solid]]:
    """A few vessels, so that the lung is not empty."""
    hilum: Point = (side * 34, 4, 190)
    tips: list[Point] = [
        (side * 62, -30, 235), (side * 70, 30, 240), (side * 92, -15, 185), (side * 85, 45, 165),
        (side * 72, -48, 150), (side * 98, 25, 125), (side * 60, 55, 110), (side * 100, 0, 150),
    ]  # fmt: skip
    parts = [tube([hilum, tip], [5.0, 1.8])[0] for tip in tips]
    return [*parts, ellipsoid(hilum, (12, 12, 18))]


def _heart(patient: Patient) -> tuple[Bounds, Solid]:
    """An ellipsoid clipped to the cavity, moved and scaled as this patient's heart."""
    (dx, dy, dz), size = patient.jitter["heart"], patient.size["heart"]
    bounds, whole = ellipsoid((18 + dx, -20 + dy, 132 + dz), (56 * size, 44 * size, 50 * size), power=2.2)

    def solid(x: FloatArray, y: FloatArray, z: FloatArray) -> Mask:
        return whole(x, y, z) & _in_cavity(x, y, z)

    return bounds, solid


def _in_cavity(x: FloatArray, y: FloatArray, z: FloatArray) -> Mask:
    inside: Mask = trunk_level(x, y, CAVITY_X_MM - 2, CAVITY_Y_MM - 2) < 1
    return inside
