"""Surfaces and bones of the trunk in canonical millimetres (x Left, y Posterior, z Superior, L1 at z = 0).

Positions and sizes are a mean patient's, good to a centimetre.
"""

from __future__ import annotations

import numpy as np

from r2seg_agent.imaging.volume import FloatArray, Mask
from r2seg_agent.phantom.patient import SPINE_Y_MM, VERTEBRA_Z_MM
from r2seg_agent.phantom.solids import Point, Solid

CAVITY_X_MM, CAVITY_Y_MM = 135.0, 85.0
"""Half-axes of the trunk's cavity; wall and fat lie around it."""
WALL_X_MM, WALL_Y_MM = 16.0, 12.0
TRUNK_POWER = 2.4
SIDES = (("left", 1.0), ("right", -1.0))


def disc(z0: float, pitch: float, size: float) -> Solid:
    """An intervertebral disc about height `z0`, with half of the next gap."""

    def solid(x: FloatArray, y: FloatArray, z: FloatArray) -> Mask:
        near = np.abs(z - z0) < 0.52 * pitch
        found: Mask = near & (((x / (20 * size)) ** 2 + ((y - SPINE_Y_MM) / (15 * size)) ** 2) < 1)
        return found

    return solid


def vertebra(z0: float, pitch: float, size: float) -> Solid:
    """Body, arch around the canal, spinous and transverse processes."""

    def solid(x: FloatArray, y: FloatArray, z: FloatArray) -> Mask:
        level = (x / (21 * size)) ** 2 + ((y - SPINE_Y_MM) / (16 * size)) ** 2
        body = (level < 1) & (np.abs(z - z0) < 0.41 * pitch)
        canal_y = SPINE_Y_MM + 16 * size + 8
        ring = np.hypot(x, y - canal_y)
        arch = (ring < 15) & (ring > 9) & (np.abs(z - z0) < 0.3 * pitch) & (y > SPINE_Y_MM + 8)
        spinous = (np.abs(x) < 5) & (y > canal_y + 10) & (y < canal_y + 26) & (np.abs(z - z0 + 6) < 0.3 * pitch)
        wings = (np.abs(x) < 36 * size) & (np.abs(y - canal_y + 2) < 5) & (np.abs(z - z0) < 5) & (ring > 9)
        found: Mask = body | arch | spinous | wings
        return found

    return solid


def rib_points(number: int, side: float) -> list[Point]:
    """From the vertebra round the chest, sloping down; ribs 11 and 12 end free."""
    start = VERTEBRA_Z_MM[f"T{number}"] + 5
    end_angle = np.deg2rad({8: 122, 9: 112, 10: 104, 11: 84, 12: 60}.get(number, 128))
    drop = float(np.interp(number, [1, 4, 8, 12], [22, 55, 70, 40]))
    points: list[Point] = [(side * 22, SPINE_Y_MM + 16, start)]
    for angle in np.linspace(np.deg2rad(26), end_angle, 12):
        share = (angle - np.deg2rad(26)) / (np.deg2rad(128) - np.deg2rad(26))
        z = start - drop * share
        shrink = max(0.45, float(apex(np.float32(z))))
        power = 2 / TRUNK_POWER
        x = side * (CAVITY_X_MM * shrink + 6) * abs(np.sin(angle)) ** power
        y = (CAVITY_Y_MM * shrink + 4) * np.sign(np.cos(angle)) * abs(np.cos(angle)) ** power
        points.append((float(x), float(y), float(z)))
    return points


def trunk_level(x: FloatArray, y: FloatArray, half_x: float | FloatArray, half_y: float | FloatArray) -> FloatArray:
    """Below 1 inside the super-ellipse that the trunk is in every slice."""
    level: FloatArray = np.abs(x / half_x) ** TRUNK_POWER + np.abs(y / half_y) ** TRUNK_POWER
    return level


def apex(z: FloatArray | np.float32) -> FloatArray:
    """How much the chest has narrowed at height z: 1 up to T6, 0.05 above the lung's apex."""
    shrink: FloatArray = np.sqrt(np.clip(1 - np.clip((z - 180) / 118, 0, None) ** 2, 0.0025, 1)).astype(np.float32)
    return shrink


def front(z: float) -> float:
    """How far in front of the axis the chest's cavity ends at height `z`, in mm."""
    return CAVITY_Y_MM * float(apex(np.float32(z)))


def dome(x: FloatArray, y: FloatArray) -> FloatArray:
    """Height of the diaphragm: two domes, falling to the sides, the front and, most, the back."""
    right = 112 - 34 * ((x + 62) / 66) ** 2
    left = 100 - 34 * ((x - 62) / 66) ** 2
    blend = 1 / (1 + np.exp(-x / 12))
    back = 62 * np.clip(y / 66, 0, 1.25) ** 2 + 20 * np.clip(-y / 70, 0, 1.2) ** 2
    height: FloatArray = (right * (1 - blend) + left * blend - back).astype(np.float32)
    return height
