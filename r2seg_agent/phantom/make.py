"""A synthetic thorax–abdomen scan with known organs: `make_phantom(seed)`.

For training the tiny test network, for tests, calibrations and benchmarks; never a substitute for patients. Shapes are
smooth implicit solids in a patient frame (mm; x to the Left, y Posterior, z Superior; the centre of vertebra L1 at
z = 0), bent by a smooth random warp, with vessels, texture, bowel, marrow, and what a scanner does
(docs/guide/phantoms.md). The same seed at another spacing is the same patient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.imaging.geometry import Float3, Geometry, Index3
from r2seg_agent.imaging.volume import Mask, Volume
from r2seg_agent.phantom.draw import Acquisition, draw_scan
from r2seg_agent.phantom.lesions import LesionSpec
from r2seg_agent.phantom.patient import Habitus, Patient, draw_patient
from r2seg_agent.phantom.views import ViewName, grid_of_view

FIELD_OF_VIEW_MM: Float3 = (430.0, 290.0, 400.0)
"""(z, y, x) of the default field of view: vertebrae L4 to T1 and the whole trunk of a mean patient."""
TOP_OF_VIEW_MM = 295.0
"""Height of the uppermost slice over the centre of L1, before `shift_mm`."""


@dataclass(frozen=True, eq=False)
class Phantom:
    """`labels` (z, y, x) uint8 holds TotalSegmentator `total` class indices; `lesions` are masks, one per spec."""

    volume: Volume
    labels: NDArray[np.uint8]
    class_names: dict[int, str]
    lesions: tuple[Mask, ...] = ()

    def organ(self, *names: str) -> Mask:
        """Boolean union (z, y, x) of the named `total` classes."""
        values = [index for index, name in self.class_names.items() if name in names]
        mask: Mask = np.isin(self.labels, values)
        return mask


def make_phantom(
    seed: int,
    *,
    spacing_mm: Float3 = (3.0, 3.0, 3.0),
    shape: Index3 | None = None,
    modality: Literal["CT", "MR"] = "CT",
    lesions: tuple[LesionSpec, ...] = (),
    shift_mm: Float3 = (0.0, 0.0, 0.0),
    acquisition: Acquisition | None = None,
    view: ViewName | None = None,
    habitus: Habitus | None = None,
    mimics: tuple[LesionSpec, ...] = (),
) -> Phantom:
    """A patient drawn from `seed`; `spacing_mm`, `shape` and `shift_mm` (of the view over the patient) are (z, y, x).

    The grid is `shape`, or covers `view`, or `FIELD_OF_VIEW_MM`. CT is int16 in HU; MR is uint16 of our own contrast
    with a smooth bias field. `mimics` look like lesions and are in no mask. `acquisition` None is `Acquisition()`.
    Raises `InputError` when a lesion's organ is not in view or too small for it.
    """
    patient = draw_patient(np.random.default_rng(seed), habitus)
    grid, origin = _grid(seed, patient, spacing_mm, shape, shift_mm, view)
    drawn = draw_scan(
        patient,
        grid,
        spacing_mm,
        origin,
        modality=modality,
        acquisition=acquisition or Acquisition(),
        lesions=lesions,
        mimics=mimics,
        seed=seed,
    )
    geometry = Geometry(shape=grid, spacing_mm=spacing_mm, origin_lps_mm=origin[::-1])
    if modality == "CT":
        array = np.clip(np.rint(drawn.image), -1024, 3071).astype(np.int16)
        volume = Volume(array=array, geometry=geometry, modality="CT", unit="HU", name=f"phantom-{seed}")
    else:
        array_mr = np.clip(np.rint(np.abs(drawn.image)), 0, 4095).astype(np.uint16)
        volume = Volume(array=array_mr, geometry=geometry, modality="MR", unit="arbitrary", name=f"phantom-{seed}")
    return Phantom(volume=volume, labels=drawn.labels, class_names=drawn.class_names, lesions=drawn.lesions)


def _grid(
    seed: int, patient: Patient, spacing_mm: Float3, shape: Index3 | None, shift_mm: Float3, view: ViewName | None
) -> tuple[Index3, Float3]:
    """Shape and first voxel (z, y, x in mm of the patient's frame)."""
    if view is not None and shape is None:
        grid, origin = grid_of_view(view, patient, spacing_mm, np.random.default_rng([seed, 1]))
        moved = tuple(o + d for o, d in zip(origin, shift_mm, strict=True))
        return grid, (moved[0], moved[1], moved[2])
    if shape is None:
        z, y, x = (max(1, round(f / s)) for f, s in zip(FIELD_OF_VIEW_MM, spacing_mm, strict=True))
        shape = (z, y, x)
    top = (TOP_OF_VIEW_MM + shift_mm[0]) - (shape[0] - 1) * spacing_mm[0]
    centre = tuple(-(n - 1) * s / 2 + d for n, s, d in zip(shape[1:], spacing_mm[1:], shift_mm[1:], strict=True))
    return shape, (top, centre[0], centre[1])
