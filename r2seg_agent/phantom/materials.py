"""Grey values of tissues: HU by contrast phase, relative signal in MR, and how mottled a tissue is."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

Phase = Literal["native", "arterial", "venous"]
Sequence = Literal["t1", "t2"]


class Material(NamedTuple):
    """HU in three phases, its standard deviation over patients, T1- and T2-weighted signal, texture SD (HU)."""

    native: float
    arterial: float
    venous: float
    spread: float
    t1: float
    t2: float
    texture: float


MATERIALS: dict[str, Material] = {
    "air": Material(-1000, -1000, -1000, 0, 0, 0, 0),
    "fat": Material(-105, -105, -103, 5, 900, 620, 6),
    "skin": Material(10, 15, 20, 5, 330, 300, 0),
    "muscle": Material(52, 56, 62, 4, 330, 160, 8),
    "wall": Material(40, 60, 75, 6, 320, 280, 4),
    "liver": Material(56, 68, 105, 7, 470, 220, 3),
    "spleen": Material(48, 110, 118, 6, 320, 420, 3),
    "kidney_cortex": Material(32, 165, 175, 8, 400, 380, 4),
    "kidney_medulla": Material(28, 70, 140, 8, 310, 450, 4),
    "pancreas": Material(40, 95, 88, 8, 430, 260, 7),
    "adrenal": Material(28, 70, 72, 8, 330, 260, 3),
    "gallbladder": Material(8, 8, 9, 4, 160, 900, 1),
    "artery": Material(42, 290, 150, 14, 110, 80, 1),
    "cava": Material(40, 60, 125, 10, 130, 110, 1),
    "portal": Material(42, 95, 165, 10, 130, 110, 1),
    "hepatic_vein": Material(42, 55, 155, 10, 130, 110, 1),
    "ventricle": Material(42, 260, 150, 14, 150, 110, 3),
    "myocardium": Material(42, 95, 105, 8, 290, 210, 3),
    "lung": Material(-860, -855, -855, 18, 35, 30, 28),
    "lung_vessel": Material(40, 190, 120, 15, 200, 160, 0),
    "airway_wall": Material(-60, -60, -60, 20, 120, 110, 0),
    "airway": Material(-995, -995, -995, 0, 0, 0, 0),
    "gas": Material(-970, -970, -970, 15, 0, 0, 0),
    "fluid": Material(14, 14, 16, 7, 170, 800, 4),
    "chyme": Material(32, 34, 36, 8, 260, 460, 9),
    "faeces": Material(30, 30, 30, 12, 320, 300, 0),
    "cortical_bone": Material(680, 685, 690, 70, 40, 40, 40),
    "spongy_bone": Material(165, 172, 182, 35, 520, 330, 24),
    "disc": Material(78, 80, 85, 6, 290, 340, 4),
    "cord": Material(36, 36, 40, 3, 320, 330, 1),
    "cartilage": Material(105, 105, 108, 14, 300, 260, 12),
    "couch": Material(-620, -620, -620, 0, 0, 0, 0),
    "cloth": Material(-880, -880, -880, 25, 0, 0, 0),
}
"""Usual values at 120 kV from radiology teaching; MR signal is relative, of no particular sequence."""
CODES: dict[str, int] = {name: code for code, name in enumerate(MATERIALS)}
"""Position of a material in the table: what a canvas stores in a voxel."""


def grey_values(column: Phase | Sequence, rng: np.random.Generator) -> dict[str, float]:
    """One patient's value of each material; contrast agent scales all enhancement of a patient together."""
    dose = float(np.clip(rng.normal(1.0, 0.12), 0.7, 1.35))
    values: dict[str, float] = {}
    for name, material in MATERIALS.items():
        wobble = float(rng.normal())
        if column in ("t1", "t2"):
            values[name] = float(getattr(material, column)) * (1.0 + 0.05 * wobble)
        else:
            enhanced = float(getattr(material, column)) - material.native
            values[name] = material.native + dose * enhanced + material.spread * wobble
    return values
