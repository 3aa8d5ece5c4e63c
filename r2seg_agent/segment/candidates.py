"""Candidates: bodies of the segmenter's probability, merged over the ROI scales, cut apart where they are thin."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import cc3d
import numpy as np
from numpy.typing import NDArray

from r2seg_agent.frozen import Frozen
from r2seg_agent.imaging.geometry import Box, Float3, Geometry, bounding_box
from r2seg_agent.imaging.granulometry import Split, contact_areas_mm2, split_by_thickness
from r2seg_agent.imaging.volume import FloatArray, Mask

PROBABILITY_THRESHOLD = 0.5
"""τ_tumor of method.md §2."""
CONNECTIVITY: Literal[26] = 26
"""Voxels that share a corner belong together (8 in 2D): with thick slices a small lesion may touch itself only so."""
MAX_CANDIDATES = 50
"""Most candidates a case may have; the ones with the smallest score mean P̄ · √|C| are dropped, and counted."""
MIN_VOLUME_MM3 = 20.0
"""A_min of method.md §3: smaller components are not split or described, only counted."""
MIN_RADIUS_MM = 2.0
"""A body must hold a ball of this radius; thinner parts of a component (vessels, rims) are dropped, and counted."""
MIN_RADIUS_VOXELS = 1.4
"""… and of this many voxels (cube root of the voxel's volume): a voxel and its neighbours, not a speck of noise."""
MAX_HOLE_MM2 = 100.0
"""Holes of a slice up to this area belong to the body around them: necrosis, a small cavity, noise."""
SPLIT_GRID_MM = 1.0
MAX_SPLIT_VOXELS = 4_000_000
"""A component in a larger box is split on a grid of at least `SPLIT_GRID_MM`, coarse enough to have no more voxels."""


@dataclass(frozen=True, eq=False)
class Region:
    """One candidate in memory: `mask` and `probability` (z, y, x) cover `box` of the image grid."""

    box: Box
    mask: Mask
    probability: FloatArray
    scale: float
    """The smallest ROI scale that proposed it."""
    radius_mm: float = 0.0
    """Radius of the largest ball in it when it was cut out; 0: not measured."""
    attached_radius_mm: float = 0.0
    """Inscribed radius of the thickest other body that it was cut from and touches; 0 when it touches none."""


class CandidateFeatures(Frozen):
    """Numbers that describe a candidate against its anchor; gates read these, reports show them."""

    n_voxels: int
    volume_mm3: float
    mean_probability: float
    max_probability: float
    anchor_overlap: float
    """|C ∩ M*| / |C|."""
    mean_intensity: float
    sd_intensity: float
    anchor_median: float
    anchor_mad: float
    """Median absolute deviation × 1.4826 of the anchor's grey values."""
    contrast: float
    """(mean of C − anchor median) / anchor_mad; its sign says brighter or darker."""
    sphericity: float
    """Volume of C over the volume of the ball of its longest radius, cube-rooted, in (0, 1]; 1 = ball."""
    elongation: float
    """√(largest / second largest principal moment) ≥ 1, in mm; a vessel segment is long."""
    exterior_contact: float
    """Share of the candidate's face neighbours that lie outside the anchor, in [0, 1]."""
    flatness: float = 1.0
    """√(second largest / smallest principal moment) ≥ 1, in mm; a pleural rim or a fissure is flat. 1 in 2D."""
    inner_continuation: float = 0.0
    """Share of the face neighbours that lie inside the anchor and have at least 0.75 of the candidate's mean contrast,
    in [0, 1]: how far the candidate continues into more of itself (a piece of a vessel tree)."""
    outer_continuation: float = 0.0
    """The same outside the anchor: how far it continues into the heart, the chest wall, another organ."""
    radius_mm: float = 0.0
    """Radius of its largest inscribed ball (circle in 2D)."""
    attachment: float = 0.0
    """Inscribed radius of the thickest other body that it was cut from and touches, over its own; 0 when it touches
    none. Above 1, it is a branch of something thicker."""
    scan_statistic: float = 0.0
    """Best z-score of a ball-shaped mean around one of its voxels, over ball sizes, against all places in the organ and
    what their maximum reaches by chance (`ball_scan.py`); 0 where the organ is too small to measure it."""
    scan_radius_mm: float = 0.0
    """Radius of that ball."""
    region_score: float | None = None
    """What the frozen score of `segment.regions` says of a region that it ranked: larger is more like a lesion. None
    where a segmenter's own mask was cut into candidates."""


Decision = Literal["pending", "survived", "rejected"]


class ScaleProbability(NamedTuple):
    """What a segmenter said in one ROI: `probability` (z, y, x) covers `box`."""

    box: Box
    scale: float
    probability: FloatArray


@dataclass(frozen=True, eq=False)
class CandidateSet:
    """All candidates of a case, largest score first, and what did not become one."""

    regions: tuple[Region, ...]
    n_small: int = 0
    """Components below the smallest volume."""
    n_thin: int = 0
    """Components nowhere thick enough."""
    thin_volume_mm3: float = 0.0
    """What was cut off as too thin from the components that did become candidates."""
    n_over_limit: int = 0
    """Candidates beyond the largest number, smallest score first."""


def case_score(region: Region) -> float:
    """S_k = mean P̄ · √|C_k| with |C_k| in voxels (method.md §3, L3)."""
    n = int(np.count_nonzero(region.mask))
    return float(region.probability[region.mask].mean()) * math.sqrt(n) if n else 0.0


def find_candidates(
    probabilities: Sequence[ScaleProbability],
    geometry: Geometry,
    *,
    threshold: float = PROBABILITY_THRESHOLD,
    min_volume_mm3: float = MIN_VOLUME_MM3,
    min_radius_mm: float = MIN_RADIUS_MM,
    max_candidates: int = MAX_CANDIDATES,
    cut: bool = True,
) -> CandidateSet:
    """Maximum over the scales, threshold, 26-connected components, each cut where it is thin (`granulometry`).

    In an image without spacing the numbers in mm and mm³ are pixels. The result does not depend on the order of
    `probabilities`. `cut` False: the components as they are, holes and thin parts and all; `min_radius_mm` is not used.
    """
    if not probabilities:
        return CandidateSet(regions=())
    box, fused = _fuse(probabilities)
    marked = fused >= threshold
    if cut:
        marked = _small_holes_filled(marked, geometry)
    labels = cc3d.connected_components(marked, connectivity=CONNECTIVITY)
    n = int(labels.max())
    if n == 0:
        return CandidateSet(regions=())
    min_radius_mm = max(min_radius_mm, MIN_RADIUS_VOXELS * _voxel_size_mm(geometry))
    statistics = cc3d.statistics(labels)
    counts, boxes = statistics["voxel_counts"], statistics["bounding_boxes"]
    voxel_mm3 = geometry.voxel_volume_mm3
    regions: list[Region] = []
    n_small = n_thin = 0
    thin_mm3 = 0.0
    for number in range(1, n + 1):
        if counts[number] * voxel_mm3 < min_volume_mm3:
            n_small += 1
            continue
        crop = boxes[number]
        component = labels[crop] == number
        if cut:
            bodies, radii = _bodies(component, geometry.spacing_mm, min_radius_mm)
        else:
            bodies, radii = component.astype(np.int32), np.zeros(2)
        if not bodies.any():
            n_thin += 1
            continue
        thin_mm3 += float(np.count_nonzero(component & (bodies == 0))) * voxel_mm3
        attached = _attached_radii(bodies, radii, geometry.spacing_mm) if cut else radii
        for body in range(1, len(radii)):
            region = _region(
                body=bodies == body,
                crop=crop,
                box=box,
                fused=fused,
                probabilities=probabilities,
                threshold=threshold,
                radius_mm=float(radii[body]),
                attached_radius_mm=float(attached[body]),
            )
            if region is None:
                continue
            if np.count_nonzero(region.mask) * voxel_mm3 < min_volume_mm3:
                n_small += 1
            else:
                regions.append(region)
    regions.sort(key=lambda r: (-case_score(r), r.box.start, r.box.stop))
    return CandidateSet(
        regions=tuple(regions[:max_candidates]),
        n_small=n_small,
        n_thin=n_thin,
        thin_volume_mm3=thin_mm3,
        n_over_limit=max(0, len(regions) - max_candidates),
    )


def _small_holes_filled(mask: Mask, geometry: Geometry) -> Mask:
    """`mask`, changed in place: holes of at most `MAX_HOLE_MM2` in a slice become part of it."""
    largest = int(MAX_HOLE_MM2 / (geometry.spacing_mm[1] * geometry.spacing_mm[2]))
    for section in mask:
        if not section.any():
            continue
        holes = cc3d.connected_components(np.pad(~section, 1, constant_values=True), connectivity=4)
        sizes = np.bincount(holes.ravel())
        sizes[holes[0, 0]] = largest + 1
        sizes[0] = largest + 1
        section |= (sizes <= largest)[holes[1:-1, 1:-1]]
    return mask


def _voxel_size_mm(geometry: Geometry) -> float:
    """Edge of the cube (square in 2D) of a voxel's volume."""
    z, y, x = geometry.spacing_mm
    return math.sqrt(y * x) if geometry.is_2d else math.cbrt(z * y * x)


def _fuse(probabilities: Sequence[ScaleProbability]) -> tuple[Box, FloatArray]:
    """The box around all ROIs and the largest probability of each voxel in it; no copy while one ROI says it all."""
    box = probabilities[0].box
    for other in probabilities[1:]:
        box = box.union(other.box)
    fused = next((part.probability for part in probabilities if part.box == box), None)
    ours = fused is None
    if fused is None:
        fused = np.zeros(box.shape, dtype=np.float32)
    for part in probabilities:
        where = part.box.within(box).slices
        if not ours and (part.probability <= fused[where]).all():
            continue
        if not ours:
            fused, ours = fused.copy(), True
        np.maximum(fused[where], part.probability, out=fused[where])
    return box, fused


def _bodies(component: Mask, spacing_mm: Float3, min_radius_mm: float) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Labels (z, y, x) of the bodies of one component and their inscribed radii in mm (index = label; 0 unused).

    A component in a very large box is split on a coarser grid; each voxel takes the label of its coarse neighbourhood.
    """
    from scipy import ndimage

    padded = np.pad(component, [(1, 1) if n > 1 or component.shape[0] > 1 else (0, 0) for n in component.shape])
    if component.size <= MAX_SPLIT_VOXELS:
        split = split_by_thickness(padded, spacing_mm, min_radius_mm)
        return split.labels[_unpadded(padded.shape, component.shape)], _radii(split)
    factors = _split_factors(padded.shape, spacing_mm)
    fill = [(0, -n % f) for n, f in zip(padded.shape, factors, strict=True)]
    z, y, x = ((n + b) // f for n, (_, b), f in zip(padded.shape, fill, factors, strict=True))
    blocks = np.pad(padded, fill).reshape(z, factors[0], y, factors[1], x, factors[2])
    coarse = blocks.mean(axis=(1, 3, 5), dtype=np.float32) >= 0.5
    spacing = (spacing_mm[0] * factors[0], spacing_mm[1] * factors[1], spacing_mm[2] * factors[2])
    split = split_by_thickness(coarse, spacing, max(min_radius_mm, MIN_RADIUS_VOXELS * math.cbrt(math.prod(spacing))))
    near = ndimage.distance_transform_edt(
        split.labels == 0, sampling=spacing, return_distances=False, return_indices=True
    )
    labels = np.where(ndimage.binary_dilation(split.labels > 0), split.labels[tuple(near)], 0)
    for axis, factor in enumerate(factors):
        labels = np.repeat(labels, factor, axis=axis)
    origin = tuple(slice((p - n) // 2, (p - n) // 2 + n) for p, n in zip(padded.shape, component.shape, strict=True))
    bodies: NDArray[np.int32] = np.where(component, labels[origin], 0).astype(np.int32)
    return bodies, _radii(split)


def _split_factors(shape: Sequence[int], spacing_mm: Float3) -> list[int]:
    """Voxels per cell and axis: the finest grid from `SPLIT_GRID_MM` up that has at most `MAX_SPLIT_VOXELS` cells."""
    grid_mm = SPLIT_GRID_MM
    while True:
        factors = [max(1, math.ceil(grid_mm / step - 1e-6)) for step in spacing_mm]
        if math.prod(-(-n // f) for n, f in zip(shape, factors, strict=True)) <= MAX_SPLIT_VOXELS:
            return factors
        grid_mm *= 1.1


def _radii(split: Split) -> NDArray[np.float64]:
    return np.asarray([0.0, *(blob.radius_mm for blob in split.blobs)])


def _attached_radii(bodies: NDArray[np.int32], radii: NDArray[np.float64], spacing_mm: Float3) -> NDArray[np.float64]:
    """For each body, the radius of the thickest other body that it shares a voxel face with; index 0 is unused."""
    touching = contact_areas_mm2(bodies, len(radii), spacing_mm) > 0
    touching[0] = touching[:, 0] = False
    thickest: NDArray[np.float64] = np.where(touching, radii[None, :], 0.0).max(axis=1)
    return thickest


def _unpadded(padded: tuple[int, ...], original: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice((p - n) // 2, (p - n) // 2 + n) for p, n in zip(padded, original, strict=True))


def _region(
    *,
    body: Mask,
    crop: tuple[slice, slice, slice],
    box: Box,
    fused: FloatArray,
    probabilities: Sequence[ScaleProbability],
    threshold: float,
    radius_mm: float,
    attached_radius_mm: float,
) -> Region | None:
    tight = bounding_box(body)
    if tight is None:
        return None
    corner = (crop[0].start, crop[1].start, crop[2].start)
    in_fused = tight.shifted(corner)
    on_grid = in_fused.shifted(box.start)
    mask = np.ascontiguousarray(body[tight.slices])
    scales = [part.scale for part in probabilities if _proposes(part, on_grid, mask, threshold)]
    return Region(
        box=on_grid,
        mask=mask,
        probability=np.array(fused[in_fused.slices], dtype=np.float32, copy=True),
        scale=min(scales, default=min(part.scale for part in probabilities)),
        radius_mm=radius_mm,
        attached_radius_mm=attached_radius_mm,
    )


def _proposes(part: ScaleProbability, on_grid: Box, mask: Mask, threshold: float) -> bool:
    common = part.box.intersection(on_grid)
    if common is None:
        return False
    inside = mask[common.within(on_grid).slices]
    return bool((part.probability[common.within(part.box).slices][inside] >= threshold).any())
