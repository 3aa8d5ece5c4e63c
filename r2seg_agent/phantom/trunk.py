"""The body around the organs: skin, fat, wall muscles, couch and clothes; and the texture of all tissues."""

from __future__ import annotations

import numpy as np

from r2seg_agent.phantom.body import CAVITY_X_MM, CAVITY_Y_MM, SIDES, WALL_X_MM, WALL_Y_MM
from r2seg_agent.phantom.materials import CODES, MATERIALS
from r2seg_agent.phantom.patient import Patient
from r2seg_agent.phantom.shapes import tube_of
from r2seg_agent.phantom.solids import ellipsoid
from r2seg_agent.phantom.tissues import TissueCanvas

SKIN_MM = 2.0
WALL_RADIUS = 1.12
"""Outer cavity radius of the wall's muscles."""
GRAVITY_HU_PER_MM = 0.55
"""How much denser lung gets toward the back of a lying patient."""


def draw_trunk(canvas: TissueCanvas, patient: Patient) -> None:
    """Skin to cavity: what lies under the couch, fat with a groove along the spine, three layers of muscle."""
    x, y, z = canvas.x, canvas.y, canvas.z
    fat = patient.fat_mm
    half_x = CAVITY_X_MM + WALL_X_MM + fat
    half_y = CAVITY_Y_MM + WALL_Y_MM + 0.8 * fat
    groove = np.where(y > 0, 9.0, 2.5) * np.exp(-((x / 13.0) ** 2))
    waist = 1.0 + 0.05 * np.exp(-(((z + 25.0) / 45.0) ** 2)) - 0.04 * np.exp(-(((z - 250.0) / 60.0) ** 2))
    depth = np.abs(x * waist / half_x) ** 2.5 + (np.abs(y) / half_y + groove / half_y) ** 2.3
    rim = SKIN_MM * 2.4 / half_y  # the level grows by about 2.4 / half-axis a mm at the surface
    body = depth < 1.0
    _couch(canvas, half_y)
    canvas.fill((depth < 1.0 + 6 * rim) & (depth > 1.0 + 4.6 * rim) & (y < 40), None, "cloth")
    canvas.tissue[...] = 0
    canvas.fill(body, "", "skin")
    inner = depth < 1.0 - rim
    canvas.fill(inner, "", "fat")
    strand = np.abs(canvas.noise(1, 15.0)) < 0.05
    canvas.hounsfield[inner & strand & (canvas.radius > 1.13)] += 45.0
    _wall(canvas)
    for _, side in SIDES:  # latissimus and scapular muscles, pectorals
        canvas.put("", "muscle", ellipsoid((side * 104, 66, 226), (46, 20, 62)), within=None)
        canvas.put("", "muscle", ellipsoid((side * 74, -84, 232), (58, 11, 46)), within=None)
    canvas.put("", "muscle", ellipsoid((0, 30, 318), (CAVITY_X_MM, 62, 44)), within=None)
    canvas.fill((canvas.radius < 1.0) & inner, "", "fat")


def _wall(canvas: TissueCanvas) -> None:
    """Muscles between the cavity's radius 1 and `WALL_RADIUS`: split into layers at the flank, open at the midline."""
    x, y, z = canvas.x, canvas.y, canvas.z
    share = (canvas.radius - 1.0) / (WALL_RADIUS - 1.0)
    ring = (share > 0) & (share < 1) & (canvas.tissue > 0)
    abdomen = z < 70.0 - 0.9 * np.abs(y)
    front = (y < 0) & (np.abs(x) < 78)
    gap = front & abdomen & ((np.abs(x) < 4.5) | (np.abs(np.abs(x) - 76) < 3.0))
    layers = abdomen & ~front & (np.abs(y) < 70)
    sheets = layers & ((np.abs(share - 0.36) < 0.05) | (np.abs(share - 0.70) < 0.05))
    grain = canvas.noise(2, 8.0)
    canvas.fill(ring & ~gap & (grain < 2.0), "", "muscle")
    # the sheets are thinner than a voxel and come and go
    faint = ring & sheets
    share = np.clip(0.25 + 0.3 * grain[faint], 0.0, 0.7).astype(np.float32)
    canvas.hounsfield[faint] += share * (canvas.values["fat"] - canvas.hounsfield[faint])


def _couch(canvas: TissueCanvas, half_y: float) -> None:
    """A curved shell of carbon fibre with a light core, and the mattress's air between it and the back."""
    flat = canvas.axes_mm[1].astype(np.float32)[None, :, None]
    across = canvas.axes_mm[0].astype(np.float32)[None, None, :]
    below = flat - (half_y + 7.0) + (across / 200.0) ** 2 * 26.0
    inside = np.broadcast_to((below > 0) & (below < 34.0) & (np.abs(across) < 205.0), canvas.labels.shape)
    shell = np.broadcast_to((below < 2.5) | (below > 31.5), canvas.labels.shape)
    canvas.hounsfield[inside] = -960.0 if canvas.values["couch"] < 0 else 0.0
    canvas.hounsfield[inside & shell] = canvas.values["couch"]


def add_texture(canvas: TissueCanvas, *, relative: bool) -> None:
    """Mottle every tissue at two scales; in HU, or (`relative`, MR) in per cent of its signal. Air stays as it is."""
    spread = np.array([material.texture for material in MATERIALS.values()], dtype=np.float32)[canvas.tissue]
    grain = (0.75 * canvas.noise(3, 6.0) + 0.66 * canvas.noise(4, 2.6)) * spread
    lung = canvas.tissue == CODES["lung"]
    if relative:
        canvas.hounsfield *= 1.0 + 0.012 * np.clip(grain, -25, 25)
        return
    # lung is more often a little denser than much darker: vessels too small to draw
    grain[lung] = np.abs(grain[lung]) * 1.1 - 18.0 + GRAVITY_HU_PER_MM * canvas.y[lung]
    canvas.hounsfield += grain


def draw_back(canvas: TissueCanvas) -> None:
    """Psoas, quadratus and the muscles along the spine, with fat between their bundles."""
    for name, side in SIDES:
        psoas = tube_of([(side * 26, 54, 20), (side * 37, 47, -60), (side * 46, 40, -165)], [9, 19, 24])
        canvas.tubes(f"iliopsoas_{name}", "muscle", psoas, spare=(f"kidney_{name}",))
        canvas.tubes("", "muscle", tube_of([(side * 62, 66, 8), (side * 72, 66, -130)], [11, 14]), within=1.08)
        erector = ellipsoid((side * 30, 92, 40), (27, 21, 330), power=2.6)
        canvas.put(f"autochthon_{name}", "muscle", erector, within=None)
    bundles = (np.abs(canvas.noise(5, 9.0)) < 0.16) & canvas.material("muscle")
    back = bundles & (canvas.y > 62) & (np.abs(canvas.x) < 70)
    canvas.hounsfield[back] = 0.55 * canvas.hounsfield[back] + 0.45 * canvas.values["fat"]
