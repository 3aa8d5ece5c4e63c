"""`contrast`: a stand-in segmenter, training-free: what differs from the organ's normal tissue, at several scales."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from r2seg_agent.errors import InputError
from r2seg_agent.imaging.geometry import Box, Float3, bounding_box
from r2seg_agent.imaging.volume import FloatArray, Mask, Modality, Volume
from r2seg_agent.progress import Progress
from r2seg_agent.reason.plan import Contrast, Window
from r2seg_agent.segment.candidates import Region
from r2seg_agent.segment.encoded import EncodedView
from r2seg_agent.segment.organ import HU_RANGE, OrganField, SmoothSlabs, filled, normal_tissue
from r2seg_agent.segment.protocol import Encoded, Prompt, SegmenterInfo
from r2seg_agent.segment.smoothing import (
    gaussian,
    local_maximum,
    pool,
    pooled_cells,
    unpooled_slabs,
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
"""Coarse scales are computed on cells of σ / 2 …"""
MAX_CELLS = 8_000_000
"""… or as much larger as keeps them to this number: a large scan must not cost more memory than its own."""
MIN_CELL_SHARE = 0.05
"""A cell counts as obvious, or as organ at all, from this share of its voxels."""
MIN_NORMAL_VOXELS = 50
BIAS_SIGMA_MM = 40.0
"""MR only: the coil's sensitivity drifts over the organ; grey values are compared after taking this slow drift out."""
MIN_RESELS = 25.0
"""A scale needs so many independent patches in the organ, or its noise cannot be told from its lesions."""


class ContrastEncoded(EncodedView):
    """Nothing to encode: the voxels themselves (a view, no copy)."""


class ContrastSegmenter:
    """Probability that a voxel is no normal tissue of its organ, from grey values alone.

    Normal is the centre m and spread s_σ of the prompt's mask (`normal_tissue`), after smoothing by σ inside the mask
    only. With the signed contrast c_σ = ±(I_σ − m), the share w_σ of the Gaussian that lies inside the mask (near its
    edge fewer voxels average, so the variance grows as 1 / w), and the largest contrast A_σ within 3σ,

        p_σ = min( logistic(2 (√w_σ c_σ / s_σ − 3.5)),  logistic(8 (c_σ / A_σ − 0.5)) )

    so p ≥ 0.5 says two things: the voxel stands out from the organ, and it lies inside the half-maximum edge of the
    body that does. The finest σ (a quarter of the smallest lesion diameter) draws; coarser ones add faint bodies that
    the noise hides at the finer scales, and look only at what those left over. Scales and signs are joined by the
    maximum. In MR the organ's slow drift (coil sensitivity) is taken out first. Outside the mask (with
    its holes filled) p is 0; with no mask the whole region is the organ.
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
                "mr_bias_sigma_mm": BIAS_SIGMA_MM,
                "edge_share": EDGE_SHARE,
                "sigma_per_diameter": SIGMA_PER_DIAMETER,
                "scale_step": SCALE_STEP,
                "max_sigma_mm": MAX_SIGMA_MM,
                "amplitude_reach": AMPLITUDE_REACH,
                "min_resels": MIN_RESELS,
            },
        )

    def check(self, modality: Modality) -> None:
        """Never raises: no weights, every modality."""

    def outline(
        self, volume: Volume, window: Window | None, regions: Sequence[Region], progress: Progress
    ) -> tuple[Region, ...]:
        """`regions` as they are: grey values drew them already."""
        return tuple(regions)

    def encode(self, volume: Volume, roi: Box) -> ContrastEncoded:
        """Keep a view of `volume`; raises `InputError` when `roi` is not on its grid."""
        return ContrastEncoded.of(volume, roi)

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
        clip = HU_RANGE if encoded.volume.unit == "HU" else None
        field = OrganField(
            image=encoded.volume.array[encoded.roi.slices][box.slices],
            domain=filled(mask[box.slices]),
            spacing=encoded.volume.geometry.spacing_mm,
            clip=clip,
        )
        field.centre = normal_tissue(field.organ_values).centre
        if encoded.volume.modality == "MR":
            field.remove_bias(BIAS_SIGMA_MM, self.detection_z)
        signs = SIGNS[prompt.contrast]
        sigmas = scales_mm(prompt.diameters_mm)
        probability = out[box.slices]
        obvious = self._finest(field, sigmas[0], signs, probability)
        for sigma in sigmas[1:]:
            if field.resels(sigma) < MIN_RESELS:
                break
            self._coarse(field, sigma, signs, probability, obvious)

    def _finest(self, field: OrganField, sigma: float, signs: tuple[Sign, ...], probability: FloatArray) -> Mask:
        """Draws into `probability`; returns the voxels that no noise can explain."""
        smooth = SmoothSlabs(field, sigma)
        noise = normal_tissue(smooth.organ_values).sd
        obvious = np.zeros(field.image.shape, dtype=bool)
        if noise <= 0:
            return obvious
        for slab, inner, contrast, support in smooth():
            inside = field.domain[slab]
            for sign in signs:
                signed = contrast * np.float32(sign)
                z = signed * support / np.float32(noise)
                p = self._probability(signed, z, noise, field.spacing, AMPLITUDE_REACH * sigma)[inner]
                p[~inside] = 0
                np.maximum(probability[slab], p, out=probability[slab])
                obvious[slab] |= (z[inner] >= OBVIOUS_Z) & inside
        return obvious

    def _coarse(
        self, field: OrganField, sigma: float, signs: tuple[Sign, ...], probability: FloatArray, obvious: Mask
    ) -> None:
        from scipy import ndimage

        shape = field.image.shape
        cell = sigma / CELLS_PER_SIGMA
        while math.prod(cells := pooled_cells(shape, field.spacing, cell)) > MAX_CELLS:
            cell *= 1.1
        spacing = tuple(s * n / k for s, n, k in zip(field.spacing, shape, cells, strict=True))
        cell_mm = (spacing[0], spacing[1], spacing[2])
        weight = pool(lambda part: field.domain[part].astype(np.float32), shape, cells)
        contrast = pool(field.contrast, shape, cells)
        shown = pool(lambda part: obvious[part].astype(np.float32), shape, cells) > MIN_CELL_SHARE
        shown = ndimage.binary_dilation(shown, iterations=OBVIOUS_HALO_CELLS)
        weight[shown] = 0
        contrast[shown] = 0
        contrast = gaussian(contrast, cell_mm, sigma)
        support = gaussian(weight, cell_mm, sigma)
        contrast /= np.maximum(support, np.float32(1e-6))
        np.sqrt(support, out=support)
        organ = weight > MIN_CELL_SHARE
        contrast[~organ] = 0
        inside = (contrast * support)[weight > 0.5]
        if inside.size < MIN_NORMAL_VOXELS:
            return
        noise = normal_tissue(lambda: iter([inside])).sd
        if noise <= 0:
            return
        for sign in signs:
            signed = contrast * np.float32(sign)
            z = signed * support / np.float32(noise)
            p = self._probability(signed, z, noise, cell_mm, AMPLITUDE_REACH * sigma)
            p[~organ] = 0
            if p.max(initial=0.0) < MIN_CELL_SHARE:
                continue
            for part, fine in unpooled_slabs(p, shape):
                fine[~field.domain[part]] = 0
                np.maximum(probability[part], fine, out=probability[part])

    def _probability(
        self, contrast: FloatArray, z: FloatArray, noise: float, spacing: Float3, reach_mm: float
    ) -> FloatArray:
        amplitude = np.maximum(local_maximum(contrast, spacing, reach_mm), np.float32(noise))
        edge = EDGE_SLOPE * (contrast / amplitude - np.float32(EDGE_SHARE))
        stands_out = DETECTION_SLOPE * (z - np.float32(self.detection_z))
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
