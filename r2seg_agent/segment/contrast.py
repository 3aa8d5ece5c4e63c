"""`contrast`: a stand-in segmenter, training-free: what differs from the organ's normal tissue, at several scales."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from r2seg_agent.errors import InputError
from r2seg_agent.imaging.geometry import Box, Float3, bounding_box
from r2seg_agent.imaging.volume import FloatArray, Mask, Modality, Volume
from r2seg_agent.reason.plan import Contrast
from r2seg_agent.segment.protocol import Encoded, Prompt, SegmenterInfo
from r2seg_agent.segment.smoothing import (
    gaussian,
    local_maximum,
    pool,
    pooled_cells,
    unpool,
)

Sign = Literal[1, -1]

SIGNS: dict[Contrast, tuple[Sign, ...]] = {"brighter": (1,), "darker": (-1,), "either": (1, -1)}
DETECTION_Z = 3.5
"""Deviations from normal tissue, in robust standard deviations of the equally smoothed organ, at which p = 0.5."""
EDGE_SHARE = 0.5
"""A lesion's edge is where its contrast falls to this share of the largest contrast nearby (half maximum)."""
DETECTION_SLOPE = 2.0
EDGE_SLOPE = 8.0
SIGMA_PER_DIAMETER = 0.25
"""A lesion of diameter d is looked for with a Gaussian of σ = d / 4: the half maximum then still marks its edge."""
SCALE_STEP = 2.0
MAX_SIGMA_MM = 10.0
AMPLITUDE_REACH = 3.0
"""How far, in σ, a voxel looks for the largest contrast of its lesion."""
OBVIOUS_Z = 7.0
"""Twice the detection: what stands out this far at the finest scale needs no averaging to be seen."""
OBVIOUS_HALO_CELLS = 2
"""Coarser scales look at the organ without what is obvious and this halo (its blurred edge): else two vessels and the
air between them average to a lesion. What is merely detected stays in: specks of noise must not hide a faint lesion."""
CELLS_PER_SIGMA = 2.0
"""Coarse scales are computed on cells of σ / 2."""
HALF_WIDTH_SD = 0.6745
"""The central half of a Gaussian reaches this many standard deviations to each side."""
HISTOGRAM_BINS = 2048
HISTOGRAM_PERCENTILES = (0.05, 99.95)
HU_RANGE = (-1024.0, 1500.0)
MIN_CELL_SHARE = 0.05
"""A cell counts as obvious, or as organ at all, from this share of its voxels."""
CHUNK_VOXELS = 8_000_000
"""The finest scale is computed in slabs of about this many voxels, so that memory does not grow with the scan."""
MIN_NORMAL_VOXELS = 50


@dataclass(frozen=True, eq=False)
class ContrastEncoded:
    """Nothing to encode: the voxels themselves (a view, no copy)."""

    roi: Box
    volume: Volume


class ContrastSegmenter:
    """Probability that a voxel is no normal tissue of its organ, from grey values alone.

    Normal is the centre m and spread s_σ of the prompt's mask (`normal_tissue`), after smoothing by σ inside the mask
    only. With the signed contrast c_σ = ±(I_σ − m) and the largest contrast A_σ within 3σ,

        p_σ = min( logistic(2 (c_σ / s_σ − 3.5)),  logistic(8 (c_σ / A_σ − 0.5)) )

    so p ≥ 0.5 says two things: the voxel stands out from the organ, and it lies inside the half-maximum edge of the
    body that does. The finest σ (a quarter of the smallest lesion diameter) draws; coarser ones add faint bodies that
    the noise hides at the finer scales, and look only at what those left over. Scales and signs are joined by the
    maximum. Outside the mask (with its holes filled) p is 0; with no mask the whole region is the organ.
    """

    def __init__(self, detection_z: float = DETECTION_Z) -> None:
        self.detection_z = detection_z

    @property
    def info(self) -> SegmenterInfo:
        """Stand-in, any modality, no weights; flips and the choice of ROI change nothing but rounding."""
        return SegmenterInfo(
            name="contrast",
            version="1",
            ndim=3,
            prompt_kinds=("mask",),
            output_kind="score",
            licence="Apache-2.0",
            stand_in=True,
            modalities=("CT", "MR", "PT", "US", "XR", "photo", "unknown"),
            flip_equivariant=True,
            roi_independent=True,
            settings={
                "detection_z": self.detection_z,
                "obvious_z": OBVIOUS_Z,
                "edge_share": EDGE_SHARE,
                "sigma_per_diameter": SIGMA_PER_DIAMETER,
                "scale_step": SCALE_STEP,
                "max_sigma_mm": MAX_SIGMA_MM,
            },
        )

    def check(self, modality: Modality) -> None:
        """Never raises: no weights, every modality."""

    def encode(self, volume: Volume, roi: Box) -> ContrastEncoded:
        """Keep a view of `volume`; raises `InputError` when `roi` is not on its grid."""
        if not volume.geometry.full_box.contains(roi):
            raise InputError(
                f"the ROI {roi.start}–{roi.stop} is not inside the image of shape {volume.geometry.shape}."
            )
        return ContrastEncoded(roi=roi, volume=volume)

    def segment(self, encoded: Encoded, prompts: Sequence[Prompt]) -> FloatArray:
        """(n_prompts, z, y, x) float32 in [0, 1]; see the class for the formula."""
        if not isinstance(encoded, ContrastEncoded):
            raise TypeError(f"expected what ContrastSegmenter.encode returned, got {type(encoded).__name__}")
        out = np.zeros((len(prompts), *encoded.roi.shape), dtype=np.float32)
        for n, prompt in enumerate(prompts):
            self._one(encoded, prompt, out[n])
        return out

    def _one(self, encoded: ContrastEncoded, prompt: Prompt, out: FloatArray) -> None:
        mask = np.ones(encoded.roi.shape, dtype=bool) if prompt.mask is None else prompt.mask
        if mask.shape != encoded.roi.shape:
            raise InputError(f"the prompt's mask has shape {mask.shape}, its ROI {encoded.roi.shape} (z, y, x).")
        box = bounding_box(mask)
        if box is None or int(np.count_nonzero(mask)) < MIN_NORMAL_VOXELS:
            return
        image = encoded.volume.array[encoded.roi.slices][box.slices]
        domain = _filled(mask[box.slices])
        clip = HU_RANGE if encoded.volume.unit == "HU" else None
        centre = normal_tissue(_clipped(image[domain], clip)).centre
        signs = SIGNS[prompt.contrast]
        spacing = encoded.volume.geometry.spacing_mm
        sigmas = scales_mm(prompt.diameters_mm)
        field = _Field(image, domain, spacing, clip, centre)
        probability = out[box.slices]
        obvious = self._finest(field, sigmas[0], signs, probability)
        for sigma in sigmas[1:]:
            self._coarse(field, sigma, signs, probability, obvious)

    def _finest(self, field: _Field, sigma: float, signs: tuple[Sign, ...], probability: FloatArray) -> Mask:
        """Draws into `probability`; returns the voxels that no noise can explain."""
        smooth = field.smooth_slabs(sigma)
        noise = normal_tissue(
            np.concatenate([contrast[inner][field.domain[slab]] for slab, inner, contrast in smooth()])
        ).sd
        obvious = np.zeros(field.image.shape, dtype=bool)
        if noise <= 0:
            return obvious
        reach = AMPLITUDE_REACH * sigma
        for slab, inner, contrast in smooth():
            for sign in signs:
                signed = contrast * np.float32(sign)
                p = self._probability(signed, noise, field.spacing, reach)[inner]
                p[~field.domain[slab]] = 0
                np.maximum(probability[slab], p, out=probability[slab])
                obvious[slab] |= (signed[inner] >= OBVIOUS_Z * noise) & field.domain[slab]
        return obvious

    def _coarse(
        self, field: _Field, sigma: float, signs: tuple[Sign, ...], probability: FloatArray, obvious: Mask
    ) -> None:
        shape = field.image.shape
        cells = pooled_cells(shape, field.spacing, sigma / CELLS_PER_SIGMA)
        spacing = tuple(s * n / k for s, n, k in zip(field.spacing, shape, cells, strict=True))
        cell_mm = (spacing[0], spacing[1], spacing[2])
        weight = pool(field.domain.astype(np.float32), cells)
        total = pool(field.contrast(), cells)
        explained = ndimage.binary_dilation(
            pool(obvious.astype(np.float32), cells) > MIN_CELL_SHARE, iterations=OBVIOUS_HALO_CELLS
        )
        weight[explained] = 0
        total[explained] = 0
        within_weight = gaussian(weight, cell_mm, sigma)
        contrast = gaussian(total, cell_mm, sigma)
        contrast /= np.maximum(within_weight, np.float32(1e-6))
        inside = weight > 0.5
        if np.count_nonzero(inside) < MIN_NORMAL_VOXELS:
            return
        noise = normal_tissue(contrast[inside]).sd
        if noise <= 0:
            return
        contrast[weight <= MIN_CELL_SHARE] = 0
        for sign in signs:
            p = self._probability(contrast * np.float32(sign), noise, cell_mm, AMPLITUDE_REACH * sigma)
            p[weight <= MIN_CELL_SHARE] = 0
            if p.max(initial=0.0) < 0.05:
                continue
            fine = unpool(p, shape)
            fine[~field.domain] = 0
            np.maximum(probability, fine, out=probability)

    def _probability(self, contrast: FloatArray, noise: float, spacing: Float3, reach_mm: float) -> FloatArray:
        amplitude = np.maximum(local_maximum(contrast, spacing, reach_mm), np.float32(noise))
        edge = EDGE_SLOPE * (contrast / amplitude - np.float32(EDGE_SHARE))
        stands_out = DETECTION_SLOPE * (contrast / np.float32(noise) - np.float32(self.detection_z))
        p: FloatArray = 1.0 / (1.0 + np.exp(-np.clip(np.minimum(edge, stands_out), -30, 30)))
        return p.astype(np.float32)


def scales_mm(diameters_mm: tuple[float, float]) -> tuple[float, ...]:
    """The σ of each scale in mm for lesions of these diameters, finest first: factor 2 apart, at most 10 mm."""
    low, high = sorted(diameters_mm)
    sigma = max(low * SIGMA_PER_DIAMETER, 1e-3)
    last = max(min(high * SIGMA_PER_DIAMETER, MAX_SIGMA_MM), sigma)
    scales = [sigma]
    while scales[-1] * SCALE_STEP <= last * 1.0001:
        scales.append(scales[-1] * SCALE_STEP)
    return tuple(scales)


Slab = tuple[tuple[slice, slice, slice], tuple[slice, slice, slice], FloatArray]
"""Where a slab lies in the field, where its own voxels lie in the haloed array, the haloed array."""


@dataclass(frozen=True, eq=False)
class _Field:
    """The organ's box: `image` in its own number type, `domain` the organ with holes filled."""

    image: NDArray[np.generic]
    domain: Mask
    spacing: Float3
    clip: tuple[float, float] | None
    centre: float

    def contrast(self, part: slice = slice(None)) -> FloatArray:
        """I − m inside the organ, 0 outside, for a range of slices."""
        values = _clipped(self.image[part], self.clip)
        values -= np.float32(self.centre)
        values *= self.domain[part]
        return values

    def smooth_slabs(self, sigma: float) -> _SmoothSlabs:
        return _SmoothSlabs(self, sigma)


@dataclass(frozen=True, eq=False)
class _SmoothSlabs:
    """Iterates over haloed slabs of the contrast smoothed inside the organ (normalised convolution)."""

    field: _Field
    sigma: float

    def __call__(self) -> Iterator[Slab]:
        f = self.field
        nz, ny, nx = f.image.shape
        halo = int(np.ceil((4.0 + AMPLITUDE_REACH) * self.sigma / f.spacing[0])) + 1
        step = max(1, CHUNK_VOXELS // (ny * nx))
        for start in range(0, nz, step):
            stop = min(nz, start + step)
            low, high = max(0, start - halo), min(nz, stop + halo)
            weight = gaussian(f.domain[low:high].astype(np.float32), f.spacing, self.sigma)
            contrast = gaussian(f.contrast(slice(low, high)), f.spacing, self.sigma)
            contrast /= np.maximum(weight, np.float32(1e-3))
            contrast *= f.domain[low:high]
            whole = (slice(None), slice(None))
            yield (slice(start, stop), *whole), (slice(start - low, stop - low), *whole), contrast


def _clipped(values: NDArray[np.generic], clip: tuple[float, float] | None) -> FloatArray:
    floats = values.astype(np.float32)
    if clip is not None:
        np.clip(floats, clip[0], clip[1], out=floats)
    return floats


class Normal(NamedTuple):
    """Grey values of normal tissue."""

    centre: float
    sd: float


def normal_tissue(values: FloatArray) -> Normal:
    """Centre and standard deviation of the majority of `values`: median of the shortest half, its half width / 0.6745.

    The shortest half (the narrowest interval that holds half of the values; Rousseeuw & Leroy 1987) looks away from
    lesions on one side even when they fill a third of an organ, where median and MAD have long moved with them. For a
    Gaussian both pairs agree. Computed on a histogram of `HISTOGRAM_BINS` bins; sd is 0 for constant values.
    """
    low, high = (float(v) for v in np.percentile(values, HISTOGRAM_PERCENTILES))
    if high <= low:
        return Normal(low, 0.0)
    counts, edges = np.histogram(values, bins=HISTOGRAM_BINS, range=(low, high))
    cumulative = np.concatenate([[0], np.cumsum(counts)]).astype(np.float64)
    below = np.interp(cumulative[:-1] + cumulative[-1] / 2.0, cumulative, edges, right=np.inf)
    width = np.where(cumulative[:-1] <= cumulative[-1] / 2.0, below - edges[:-1], np.inf)
    start = int(np.argmin(width))
    centre = float(np.interp(cumulative[start] + cumulative[-1] / 4.0, cumulative, edges))
    return Normal(centre, float(width[start]) / (2.0 * HALF_WIDTH_SD))


def _filled(mask: Mask) -> Mask:
    """`mask` with its enclosed holes filled (a hole that reaches the edge of the array in every sense stays open).

    A one-slice mask is filled in its plane.
    """
    outside = cc3d.connected_components(
        np.pad(~mask, [(1, 1) if n > 1 else (0, 0) for n in mask.shape], constant_values=True), connectivity=6
    )
    first = outside[0, 0, 0]
    inner = tuple(slice(1, -1) if n > 1 else slice(None) for n in mask.shape)
    filled: Mask = outside[inner] != first
    return filled
