"""A phantom that looks like a scan: `draw_scan` draws the body finely and passes it through a scanner."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from r2seg_agent.errors import InputError
from r2seg_agent.imaging.geometry import Float3, Index3
from r2seg_agent.imaging.volume import FloatArray, Mask
from r2seg_agent.phantom.abdomen import draw_abdomen
from r2seg_agent.phantom.attenuation import noise_strength
from r2seg_agent.phantom.bones import draw_bones
from r2seg_agent.phantom.lesions import LesionSpec, draw_lesion
from r2seg_agent.phantom.magnetic import bias_field, rician
from r2seg_agent.phantom.materials import Phase, Sequence, grey_values
from r2seg_agent.phantom.patient import Patient
from r2seg_agent.phantom.scanner import Scanner, blur, noise
from r2seg_agent.phantom.texture import Lattice
from r2seg_agent.phantom.thorax import draw_thorax
from r2seg_agent.phantom.tissues import TissueCanvas
from r2seg_agent.phantom.trunk import add_texture, draw_back, draw_trunk

FINEST_MM: Float3 = (3.0, 1.6, 1.6)
"""How finely bodies are drawn (z, y, x)."""
MR_NOISE_SD = 16.0
SHADING_STEP_MM = 110.0


@dataclass(frozen=True)
class Acquisition:
    """How a phantom is scanned: scanner, phase of contrast agent (CT), weighting (MR)."""

    scanner: Scanner = field(default_factory=Scanner)
    phase: Phase = "venous"
    sequence: Sequence = "t1"
    grey: tuple[tuple[str, float], ...] = ()
    """(material, value) pairs that replace what the patient would have, to be like a certain scan."""
    finest_mm: Float3 = FINEST_MM
    """Voxels (z, y, x) coarser than this are drawn as several and sampled; larger numbers are faster and blockier."""


class Drawn(NamedTuple):
    """Grey values (z, y, x), classes (z, y, x) and their names, one mask per lesion."""

    image: FloatArray
    labels: NDArray[np.uint8]
    class_names: dict[int, str]
    lesions: tuple[Mask, ...]


def draw_scan(
    patient: Patient,
    shape: Index3,
    spacing_mm: Float3,
    origin_zyx_mm: Float3,
    *,
    modality: Literal["CT", "MR"],
    acquisition: Acquisition,
    lesions: tuple[LesionSpec, ...],
    mimics: tuple[LesionSpec, ...],
    seed: int,
) -> Drawn:
    """The patient on a grid; lesions and `mimics` (findings that do not count) lie in the tissue, before the blur.

    Raises `InputError` when an organ is not in view or too small for its lesion.
    """
    factor = [max(1, int(np.ceil(s / f - 1e-6))) for s, f in zip(spacing_mm, acquisition.finest_mm, strict=True)]
    fine = tuple((n - 1) * f + 1 for n, f in zip(shape, factor, strict=True))
    step = tuple(s / f for s, f in zip(spacing_mm, factor, strict=True))
    values = grey_values(
        acquisition.phase if modality == "CT" else acquisition.sequence, np.random.default_rng([seed, 2])
    ) | dict(acquisition.grey)
    canvas = TissueCanvas.of_view(
        (fine[0], fine[1], fine[2]), (step[0], step[1], step[2]), origin_zyx_mm, patient, values=values, seed=seed
    )
    draw_trunk(canvas, patient)
    draw_abdomen(canvas, patient)
    draw_thorax(canvas, patient)
    draw_back(canvas)
    draw_bones(canvas)
    add_texture(canvas, relative=modality == "MR")
    masks = _place(canvas, lesions, mimics, (step[0], step[1], step[2]), seed)
    coarse = tuple(slice(None, None, f) for f in factor)
    clean = canvas.hounsfield
    rng = np.random.default_rng([seed, 4])
    slice_mm = acquisition.scanner.slice_mm or spacing_mm[0]
    image = blur(clean, (step[0], step[1], step[2]), acquisition.scanner, slice_mm)[coarse]
    axes = tuple(axis[::f] for axis, f in zip(canvas.axes_mm, factor[::-1], strict=True))
    sampled = (axes[0], axes[1], axes[2])
    if modality == "MR":
        sd = MR_NOISE_SD if acquisition.scanner.noise_sd is None else acquisition.scanner.noise_sd
        image = rician(np.clip(image, 0, None) * bias_field(sampled, seed), sd, rng)
    else:
        image = _scanned(image, spacing_mm, sampled, origin_zyx_mm, patient, acquisition.scanner, slice_mm, seed, rng)
    found = tuple(np.ascontiguousarray(mask[coarse]) for mask in masks)
    return Drawn(image.astype(np.float32), np.ascontiguousarray(canvas.labels[coarse]), canvas.class_names, found)


def _scanned(
    image: FloatArray,
    spacing_mm: Float3,
    axes: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]],
    origin_zyx_mm: Float3,
    patient: Patient,
    scanner: Scanner,
    slice_mm: float,
    seed: int,
    rng: np.random.Generator,
) -> FloatArray:
    """Shading, noise of the scanner's spectrum and of the body's strength, and the gantry's circle."""
    shape: Index3 = (image.shape[0], image.shape[1], image.shape[2])
    body = image > -500
    if scanner.shading_hu:
        image = image + np.float32(scanner.shading_hu) * Lattice((seed, 60), SHADING_STEP_MM).on(axes) * body
    if scanner.mean_noise_sd:
        strength = noise_strength(shape, spacing_mm, origin_zyx_mm, patient)
        image = image + np.float32(scanner.mean_noise_sd) * strength * noise(shape, spacing_mm, scanner, slice_mm, rng)
    if scanner.gantry_mm is not None:
        y, x = (a * k for a, k in zip((axes[1], axes[0]), patient.scale_xyz[1::-1], strict=True))
        outside = np.hypot(y[:, None] - y.mean(), x[None] - x.mean()) > scanner.gantry_mm / 2
        image = np.where(outside[None], np.float32(-1024), image)
    return image


def _place(
    canvas: TissueCanvas,
    lesions: tuple[LesionSpec, ...],
    mimics: tuple[LesionSpec, ...],
    spacing_mm: Float3,
    seed: int,
) -> list[Mask]:
    """Draw lesions and mimics apart from each other into the canvas; the lesions' masks."""
    taken = np.zeros(canvas.labels.shape, dtype=bool)
    masks: list[Mask] = []
    for index, spec in enumerate((*lesions, *mimics)):
        organ = np.isin(canvas.labels, [v for v, name in canvas.class_names.items() if name == spec.organ]) & ~taken
        if not organ.any():
            raise InputError(
                f"`{spec.organ}` has no voxels in this phantom, so it cannot hold a lesion",
                "Choose an organ and a field of view that shows it; `labels` of a phantom say what is in view.",
            )
        drawn = draw_lesion(
            organ,
            spacing_mm,
            seed=seed * 1009 + index,
            diameter_mm=spec.diameter_mm,
            contrast=spec.contrast,
            edge_mm=spec.edge_mm,
            look=spec.look,
        )
        where = drawn.box.slices
        grey = canvas.hounsfield[where]
        # the lesion displaces the organ's vessels and texture
        usual = float(np.median(grey[organ[where]]))
        canvas.hounsfield[where] = grey + drawn.share * (usual - grey) + drawn.offset
        mask = np.zeros(canvas.labels.shape, dtype=bool)
        mask[where] = drawn.truth
        at = tuple(slice(max(0, s.start - 6), s.stop + 6) for s in where)
        taken[at] |= _grown(mask[at])
        if index < len(lesions):
            masks.append(mask)
    return masks


def _grown(mask: Mask) -> Mask:
    grown: Mask = ndimage.binary_dilation(mask, iterations=4)
    return grown
