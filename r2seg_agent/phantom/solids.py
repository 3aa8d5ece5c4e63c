"""Solids in canonical millimetres: which points lie inside an ellipsoid or a tube."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from r2seg_agent.imaging.volume import FloatArray, Mask

Solid = Callable[[FloatArray, FloatArray, FloatArray], Mask]
"""Which of the points (x, y, z in mm) lie inside."""
Point = tuple[float, float, float]
"""(x, y, z) in mm."""
Bounds = tuple[Point, Point]
"""Lowest and highest (x, y, z) of a solid, in mm."""


def ellipsoid(centre: Point, radii: Point, power: float = 2.0) -> tuple[Bounds, Solid]:
    """A (super-)ellipsoid with its axes along x, y, z."""
    (cx, cy, cz), (rx, ry, rz) = centre, radii
    bounds = ((cx - rx, cy - ry, cz - rz), (cx + rx, cy + ry, cz + rz))

    def solid(x: FloatArray, y: FloatArray, z: FloatArray) -> Mask:
        level = np.abs((x - cx) / rx) ** power + np.abs((y - cy) / ry) ** power + np.abs((z - cz) / rz) ** power
        inside: Mask = level < 1
        return inside

    return bounds, solid


def tube(points: list[Point], radii: list[float]) -> list[tuple[Bounds, Solid]]:
    """Capsules along a polyline, with the radius interpolated between its points: draw all of them."""
    return [_capsule(a, b, ra, rb) for a, b, ra, rb in zip(points[:-1], points[1:], radii[:-1], radii[1:], strict=True)]


def _capsule(a: Point, b: Point, ra: float, rb: float) -> tuple[Bounds, Solid]:
    r = max(ra, rb)
    low, high = np.minimum(a, b) - r, np.maximum(a, b) + r
    dx, dy, dz = (q - p for p, q in zip(a, b, strict=True))
    square = max(dx * dx + dy * dy + dz * dz, 1e-6)

    def solid(x: FloatArray, y: FloatArray, z: FloatArray) -> Mask:
        ux, uy, uz = x - a[0], y - a[1], z - a[2]
        t = np.clip((ux * dx + uy * dy + uz * dz) / square, 0.0, 1.0)
        distance2 = (ux - t * dx) ** 2 + (uy - t * dy) ** 2 + (uz - t * dz) ** 2
        inside: Mask = distance2 < (ra + t * (rb - ra)) ** 2
        return inside

    return ((float(low[0]), float(low[1]), float(low[2])), (float(high[0]), float(high[1]), float(high[2]))), solid
