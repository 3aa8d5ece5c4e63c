"""A synthetic thorax–abdomen scan with known organs: `make_phantom(seed)`.

For training the tiny test network, for tests, calibrations and benchmarks; never a substitute for patients. Shapes are
smooth implicit solids in a patient frame (mm; x to the Left, y Posterior, z Superior; the centre of vertebra L1 at
z = 0), bent by a smooth random warp. The same seed at another spacing is the same patient. Without `detail` the body
is plain (even organs, one kind of noise): the tiny network was trained on that. With it the phantom has vessels,
texture, bowel, marrow, and what a scanner does (docs/guide/phantoms.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from r2seg_agent.errors import InputError
from r2seg_agent.imaging.geometry import Float3, Geometry, Index3
from r2seg_agent.imaging.volume import FloatArray, Mask, Volume
from r2seg_agent.phantom.canvas import PhantomCanvas
from r2seg_agent.phantom.detail import Detail, Drawn, draw_detailed
from r2seg_agent.phantom.implant import implant_lesion
from r2seg_agent.phantom.lesions import LesionSpec
from r2seg_agent.phantom.organs import draw_abdomen, draw_skeleton, draw_thorax, draw_trunk
from r2seg_agent.phantom.patient import Habitus, Patient, draw_patient
from r2seg_agent.phantom.views import ViewName, grid_of_view

FIELD_OF_VIEW_MM: Float3 = (430.0, 290.0, 400.0)
"""(z, y, x) of the default field of view: vertebrae L4 to T1 and the whole trunk of a mean patient."""
TOP_OF_VIEW_MM = 295.0
"""Height of the uppermost slice over the centre of L1, before `shift_mm`."""
NOISE_FWHM_MM = 3.0
"""Correlation length of the plain phantom's noise."""


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
    noise_sd: float = 14.0,
    shift_mm: Float3 = (0.0, 0.0, 0.0),
    detail: Detail | None = None,
    view: ViewName | None = None,
    habitus: Habitus | None = None,
    mimics: tuple[LesionSpec, ...] = (),
) -> Phantom:
    """A patient drawn from `seed`; `spacing_mm`, `shape` and `shift_mm` (of the view over the patient) are (z, y, x).

    The grid is `shape`, or covers `view`, or `FIELD_OF_VIEW_MM`. CT is int16 in HU; MR is uint16 of our own contrast
    with a smooth bias field. `detail` brings its own noise (`noise_sd` is the plain phantom's) and is needed for
    `mimics`, which look like lesions and are in no mask. Raises `InputError` when a lesion's organ is not in view or
    too small for it.
    """
    rng = np.random.default_rng(seed)
    patient = draw_patient(rng, habitus)
    if mimics and detail is None:
        raise InputError("mimics need a detailed phantom", "Give `detail=Detail()`.")
    grid, origin = _grid(seed, patient, spacing_mm, shape, shift_mm, view)
    if detail is None:
        canvas = PhantomCanvas.of_grid(grid, spacing_mm, origin, patient)
        for draw in (draw_trunk, draw_thorax, draw_abdomen, draw_skeleton):  # outside in: later organs win
            draw(canvas, patient)
        clean = canvas.hounsfield if modality == "CT" else canvas.t1_like(rng)
        drawn = Drawn(_scanner(clean, spacing_mm, noise_sd, rng), canvas.labels, ())
    else:
        drawn = draw_detailed(
            patient,
            grid,
            spacing_mm,
            origin,
            modality=modality,
            detail=detail,
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
    phantom = Phantom(volume=volume, labels=drawn.labels, class_names=_class_names(), lesions=drawn.lesions)
    return phantom if detail is not None else _with_lesions(phantom, lesions, seed)


def _class_names() -> dict[int, str]:
    from totalsegmentator.map_to_binary import class_map

    return {int(k): str(v) for k, v in class_map["total"].items()}


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


def _scanner(clean: FloatArray, spacing_mm: Float3, noise_sd: float, rng: np.random.Generator) -> FloatArray:
    """Point spread of about a voxel and noise of the given standard deviation, correlated over `NOISE_FWHM_MM`."""
    blurred = ndimage.gaussian_filter(clean, [min(0.45, 1.2 / s) for s in spacing_mm])
    noise = rng.standard_normal(clean.shape, dtype=np.float32)
    noise = ndimage.gaussian_filter(noise, [NOISE_FWHM_MM / 2.355 / s for s in spacing_mm])
    image: FloatArray = (blurred + noise * (noise_sd / max(float(noise.std()), 1e-6))).astype(np.float32)
    return image


def _with_lesions(phantom: Phantom, specs: tuple[LesionSpec, ...], seed: int) -> Phantom:
    volume = phantom.volume
    masks: list[Mask] = []
    for index, spec in enumerate(specs):
        organ = phantom.organ(spec.organ)
        for mask in masks:
            organ &= ~ndimage.binary_dilation(mask, iterations=2)
        if not organ.any():
            raise InputError(
                f"`{spec.organ}` has no voxels in this phantom, so it cannot hold a lesion",
                f"Choose one of: {', '.join(sorted(phantom.class_names.values()))}.",
            )
        implant = implant_lesion(
            volume,
            organ,
            seed=seed * 1009 + index,
            diameter_mm=spec.diameter_mm,
            contrast_hu=spec.contrast,
            edge_mm=spec.edge_mm,
            look=spec.look,
        )
        volume = implant.volume
        masks.append(implant.truth)
    return Phantom(volume=volume, labels=phantom.labels, class_names=phantom.class_names, lesions=tuple(masks))
