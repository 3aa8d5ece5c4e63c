"""Which part of a patient a scan shows: named fields of view (`VIEWS`, `grid_of_view`)."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from r2seg_agent.imaging.geometry import Float3, Index3
from r2seg_agent.phantom.body import CAVITY_X_MM, CAVITY_Y_MM, WALL_X_MM, WALL_Y_MM
from r2seg_agent.phantom.patient import Patient

ViewName = Literal["trunk", "abdomen", "chest", "liver", "belly", "dome", "left", "core"]


class View(NamedTuple):
    """Bounds in canonical mm; None: the whole width or depth of the body."""

    z: tuple[float, float]
    y: tuple[float, float] | None = None
    x: tuple[float, float] | None = None


VIEWS: dict[ViewName, View] = {
    "trunk": View((-105, 295)),
    "abdomen": View((-105, 132)),
    "chest": View((30, 298)),
    "liver": View((-96, 124), (-94, 92), (-148, 104)),
    "belly": View((-100, 88), (-94, 92), (-148, 104)),
    "dome": View((56, 150)),
    "left": View((-105, 132), None, (-62, 220)),
    "core": View((40, 132), (-94, 60), (-148, 104)),
}
"""`belly` is `liver` without the top of the dome, as in a scan that starts too low; `dome` holds only that top, `left`
cuts the right side off, `core` is a crop within the body."""
MARGIN_MM = 9.0
BELOW_BACK_MM = 26.0
"""How much of the couch a full view shows."""


def grid_of_view(
    view: ViewName, patient: Patient, spacing_mm: Float3, rng: np.random.Generator
) -> tuple[Index3, Float3]:
    """Shape and first voxel (z, y, x in mm of the patient's frame) of a view, set by hand to some millimetres."""
    bounds = VIEWS[view]
    half_x = CAVITY_X_MM + WALL_X_MM + patient.fat_mm
    half_y = CAVITY_Y_MM + WALL_Y_MM + 0.8 * patient.fat_mm
    y = bounds.y or (-half_y - MARGIN_MM, half_y + BELOW_BACK_MM)
    x = bounds.x or (-half_x - MARGIN_MM, half_x + MARGIN_MM)
    x = (x[0], min(x[1], half_x + MARGIN_MM))
    shape, origin = [], []
    sizes = patient.scale_xyz[::-1]
    for (low, high), scale, spacing in zip((bounds.z, y, x), sizes, spacing_mm, strict=True):
        shape.append(max(4, round((high - low) * scale / spacing)))
        origin.append(low * scale + float(rng.uniform(-3.0, 3.0)))
    return (shape[0], shape[1], shape[2]), (origin[0], origin[1], origin[2])
