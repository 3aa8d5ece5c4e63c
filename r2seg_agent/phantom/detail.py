"""A phantom that looks like a scan: `draw_detailed` draws the body finely and passes it through a scanner."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from r2seg_agent.errors import InputError
from r2seg_agent.imaging.geometry import Float3, Index3
from r2seg_agent.imaging.volume import FloatArray, Mask
from r2seg_agent.phantom.canvas import PhantomCanvas
from r2seg_agent.phantom.detail_abdomen import draw_abdomen
from r2seg_agent.phantom.detail_bones import draw_bones
from r2seg_agent.phantom.detail_thorax import draw_thorax
from r2seg_agent.phantom.detail_trunk import add_texture, draw_back, draw_trunk
from r2seg_agent.phantom.lesions import LesionSpec, draw_lesion
from r2seg_agent.phantom.magnetic import bias_field, rician
from r2seg_agent.phantom.materials import Phase, Sequence, grey_values
from r2seg_agent.phantom.organs import draw_thorax as draw_plain_thorax
from r2seg_agent.phantom.organs import draw_trunk as draw_plain_trunk
from r2seg_agent.phantom.patient import Patient
from r2seg_agent.phantom.scanner import Scanner, blur, noise, noise_map
from r2seg_agent.phantom.texture import Lattice
from r2seg_agent.phantom.tissues import TissueCanvas

FINEST_MM: Float3 = (3.0, 1.6, 1.6)
"""How finely bodies are drawn (z, y, x)."""
MR_NOISE_SD = 16.0
SHADING_STEP_MM = 110.0
COARSE_MM = 12.0
"""Grid on which the noise's strength over the body is worked out."""


@dataclass(frozen=True)
class Detail:
    """How a detailed phantom is scanned: scanner, phase of contrast agent (CT), weighting (MR)."""

    scanner: Scanner = field(default_factory=Scanner)
    phase: Phase = "venous"
    sequence: Sequence = "t1"
    grey: tuple[tuple[str, float], ...] = ()
    """(material, value) pairs that replace what the patient would have, to be like a certain scan."""
    finest_mm: Float3 = FINEST_MM
    """Voxels (z, y, x) coarser than this are drawn as several and sampled; larger numbers are faster and blockier."""


class Drawn(NamedTuple):
    """Grey values (z, y, x), classes, one mask per lesion."""

    image: FloatArray
    labels: NDArray[np.uint8]
    lesions: tuple[Mask, ...]


def draw_detailed(
    patient: Patient,
    shape: Index3,
    spacing_mm: Float3,
    origin_zyx_mm: Float3,
    *,
    modality: Literal["CT", "MR"],
    detail: Detail,
    lesions: tuple[LesionSpec, ...],
    mimics: tuple[LesionSpec, ...],
    seed: int,
) -> Drawn:
    """The patient on a grid; lesions and `mimics` (findings that do not count) lie in the tissue, before the blur.

    Raises `InputError` when an organ is not in view or too small for its lesion.
    """
    factor = [max(1, int(np.ceil(s / f - 1e-6))) for s, f in zip(spacing_mm, detail.finest_mm, strict=True)]
    fine = tuple((n - 1) * f + 1 for n, f in zip(shape, factor, strict=True))
    step = tuple(s / f for s, f in zip(spacing_mm, factor, strict=True))
    values = grey_values(
        detail.phase if modality == "CT" else detail.sequence, np.random.default_rng([seed, 2])
    ) | dict(detail.grey)
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
    slice_mm = detail.scanner.slice_mm or spacing_mm[0]
    image = blur(clean, (step[0], step[1], step[2]), detail.scanner, slice_mm)[coarse]
    axes = tuple(axis[::f] for axis, f in zip(canvas.axes_mm, factor[::-1], strict=True))
    sampled = (axes[0], axes[1], axes[2])
    if modality == "MR":
        sd = MR_NOISE_SD if detail.scanner.noise_sd is None else detail.scanner.noise_sd
        image = rician(np.clip(image, 0, None) * bias_field(sampled, seed), sd, rng)
    else:
        image = _scanned(image, spacing_mm, sampled, origin_zyx_mm, patient, detail.scanner, slice_mm, seed, rng)
    found = tuple(np.ascontiguousarray(mask[coarse]) for mask in masks)
    return Drawn(image.astype(np.float32), np.ascontiguousarray(canvas.labels[coarse]), found)


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
        strength = _strength(shape, spacing_mm, origin_zyx_mm, patient)
        image = image + np.float32(scanner.mean_noise_sd) * strength * noise(shape, spacing_mm, scanner, slice_mm, rng)
    if scanner.gantry_mm is not None:
        y, x = (a * k for a, k in zip((axes[1], axes[0]), patient.scale_xyz[1::-1], strict=True))
        outside = np.hypot(y[:, None] - y.mean(), x[None] - x.mean()) > scanner.gantry_mm / 2
        image = np.where(outside[None], np.float32(-1024), image)
    return image


def _strength(shape: Index3, spacing_mm: Float3, origin_zyx_mm: Float3, patient: Patient) -> FloatArray:
    """Relative noise (z, y, x) over the grid, from a coarse drawing of the whole cross-section at its heights."""
    length = shape[0] * spacing_mm[0]
    n_z = max(2, round(length / COARSE_MM) + 1)
    half_x = (151 + patient.fat_mm) * patient.scale_xyz[0] + COARSE_MM
    half_y = (97 + patient.fat_mm) * patient.scale_xyz[1] + COARSE_MM
    grid: Index3 = (n_z, 2 * round(half_y / COARSE_MM) + 1, 2 * round(half_x / COARSE_MM) + 1)
    origin = (origin_zyx_mm[0], -(grid[1] - 1) / 2 * COARSE_MM, -(grid[2] - 1) / 2 * COARSE_MM)
    coarse = PhantomCanvas.of_grid(grid, (length / (n_z - 1), COARSE_MM, COARSE_MM), origin, patient)
    draw_plain_trunk(coarse, patient)
    draw_plain_thorax(coarse, patient)
    water = np.clip(coarse.hounsfield / 1000.0 + 1.0, 0.0, 1.5).astype(np.float32)
    relative = noise_map(water, coarse.tissue > 0, COARSE_MM)
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
