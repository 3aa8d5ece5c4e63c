"""Shapes of the body: tubes of any length, an organ's own move and size, the liver, the lungs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from r2seg_agent.imaging.volume import FloatArray, Mask
from r2seg_agent.phantom.body import CAVITY_X_MM, CAVITY_Y_MM, apex, dome, trunk_level
from r2seg_agent.phantom.patient import Patient
from r2seg_agent.phantom.solids import Bounds, Point, Solid, ellipsoid, tube

THORAX: Bounds = ((-150, -100, -10), (150, 110, 310))
LIVER: Bounds = ((-140, -90, -105), (95, 90, 125))
DIAPHRAGM_MM = 3.5


def tube_of(points: Sequence[Point], radii: Sequence[float]) -> list[tuple[Bounds, Solid]]:
    """`tube` from any sequences."""
    return tube(list(points), [float(r) for r in radii])


def organ_tube(
    patient: Patient, name: str, points: Sequence[Point], radii: Sequence[float]
) -> list[tuple[Bounds, Solid]]:
    """A tube, moved and thickened as this patient's organ."""
    (dx, dy, dz), size = patient.jitter[name], patient.size[name]
    return tube_of([(x + dx, y + dy, z + dz) for x, y, z in points], [r * size for r in radii])


def organ_ellipsoid(
    patient: Patient, name: str, centre: Point, radii: Point, *, shrink_mm: float = 0.0, power: float = 2.2
) -> tuple[Bounds, Solid]:
    """An ellipsoid moved and scaled as this patient's organ, every radius `shrink_mm` less (negative: more)."""
    (dx, dy, dz), size = patient.jitter[name], patient.size[name]
    own = (radii[0] * size - shrink_mm, radii[1] * size - shrink_mm, radii[2] * size - shrink_mm)
    return ellipsoid((centre[0] + dx, centre[1] + dy, centre[2] + dz), own, power)


def below_dome(part: tuple[Bounds, Solid], gap_mm: float = DIAPHRAGM_MM) -> tuple[Bounds, Solid]:
    """What of a solid lies under the diaphragm."""

    def solid(x: FloatArray, y: FloatArray, z: FloatArray) -> Mask:
        inside: Mask = part[1](x, y, z) & (z < dome(x, y) - gap_mm)
        return inside

    return part[0], solid


def liver_solid(patient: Patient) -> tuple[Bounds, Solid]:
    """Right lobe along the right wall under the dome, left lobe across the midline in front, a sloping lower face."""
    (dx, dy, dz), size = patient.jitter["liver"], patient.size["liver"]

    def solid(x: FloatArray, y: FloatArray, z: FloatArray) -> Mask:
        u, v, w = (x - dx) / size, (y - dy) / size, (z - 40 - dz) / size + 40
        low = np.clip(44.0 - w, 0.0, None)
        edge = 16.0 - 38.0 * np.tanh((v + 20.0) / 26.0) - 0.78 * low - 0.0025 * low**2
        tail = -88.0 + 0.012 * (v - 8.0) ** 2
        # the left lobe thins out to the left
        thin = (u < 8) | (v < -14 - 0.32 * (u - 8))
        inside: Mask = (u < edge) & (w > tail) & thin & (w < dome(u, v) - DIAPHRAGM_MM)
        return inside

    return LIVER, solid


def lung_solid(side: float, patient: Patient) -> Solid:
    """One lung: the chest's inside from the dome up, beside the mediastinum."""
    dx = patient.jitter["lung"][0]

    def solid(x: FloatArray, y: FloatArray, z: FloatArray) -> Mask:
        shrink = apex(z)
        field = trunk_level(x, y, 0.985 * CAVITY_X_MM * shrink, 0.985 * CAVITY_Y_MM * shrink) < 1
        # beside the heart in front, beside the spine at the back, and deep into the gutter along it
        medial = 19.0 + 13.0 * np.exp(-(((y + 12) / 40) ** 2)) + 5.0 * np.exp(-(((y - 52) / 22) ** 2)) + dx
        found: Mask = field & (z > dome(x, y)) & (side * x > medial * shrink)
        return found

    return solid


def fissure(side: float, patient: Patient) -> tuple[Solid, Solid]:
    """Above the oblique fissure; above the horizontal one."""
    dx = patient.jitter["lung"][0]

    def oblique(x: FloatArray, y: FloatArray, z: FloatArray) -> Mask:
        found: Mask = z > 165 + dx + 1.0 * y + 0.06 * side * x
        return found

    def horizontal(x: FloatArray, y: FloatArray, z: FloatArray) -> Mask:
        found: Mask = np.broadcast_to(z > 178 + dx, np.broadcast_shapes(x.shape, y.shape, z.shape))
        return found

    return oblique, horizontal
