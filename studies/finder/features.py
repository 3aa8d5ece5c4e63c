"""Numbers that describe a candidate: size, shape, edge, contrast to its ring and to the organ, place, mirror image.

All are read on the working grid, from grey values in [0, 1]; none knows the truth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from studies.finder.cases import Case, Mask
from studies.finder.proposals import LEAST_VOXELS, Proposal

FEATURE_VERSION = 1
FEATURES = (
    "log_size", "log_share", "radius_share", "ring_contrast", "ring_difference", "organ_ring_contrast",
    "organ_ring_difference", "mode_z", "mode_z_absolute", "median_z_absolute", "rank", "rank_from_middle", "sd",
    "sd_over_ring", "texture", "log_edge_gradient", "log_inner_gradient", "sharp_share", "ring_agreement", "edge_step",
    "compactness", "log_inertia", "elongation", "second_elongation", "inscribed_share", "inside_organ",
    "ring_inside_organ", "outside_contact", "depth", "mirror", "mirror_absolute", "mirror_inside", "sigma", "sign",
    "life", "spread", "mean", "mode", "signed_mode_difference", "contrast_mass", "dimensions",
)  # fmt: skip
SAME_IOU = 0.82
"""Candidates that overlap more than this are one."""


@dataclass(frozen=True, eq=False)
class Described:
    """Candidates with their features, (n, len(FEATURES)); `masks[k]` covers `boxes[k]` of the working grid."""

    values: NDArray[np.float64]
    boxes: tuple[tuple[slice, ...], ...]
    masks: tuple[Mask, ...]


class Surroundings:
    """What the features of all candidates of a case share: gradients, texture, the organ's usual grey value, mirror."""

    def __init__(self, case: Case) -> None:
        grey, organ = case.grey, case.organ
        self.case = case
        self.gradient = ndimage.gaussian_gradient_magnitude(grey, 1.0)
        mean = ndimage.uniform_filter(grey, 5)
        self.texture = np.sqrt(np.maximum(ndimage.uniform_filter(grey * grey, 5) - mean * mean, 0))
        values = ndimage.gaussian_filter(grey, 1.0)[organ]
        counts, edges = np.histogram(values, 64, range=(0, 1))
        peak = int(ndimage.gaussian_filter1d(counts.astype(float), 2).argmax())
        self.mode = float(edges[peak] + 0.5 * (edges[1] - edges[0]))
        self.mad = 1.4826 * float(np.median(np.abs(values - self.mode))) + 0.01
        self.median, self.ordered = float(np.median(values)), np.sort(values)
        depth = ndimage.distance_transform_edt(organ)
        self.depth = depth / (depth.max() + 1e-6)
        self.usual_gradient = float(self.gradient[organ].mean()) + 1e-4
        self.usual_texture = float(self.texture[organ].mean()) + 1e-4
        across = np.round(2 * np.where(organ)[-1].mean() - np.arange(grey.shape[-1])).astype(int)
        inside = (across >= 0) & (across < grey.shape[-1])
        across = np.clip(across, 0, grey.shape[-1] - 1)
        smooth = ndimage.gaussian_filter(grey, 2.0)
        self.from_mirror = smooth - np.where(inside, np.take(smooth, across, axis=-1), smooth)
        self.organ_mirrored = np.take(organ, across, axis=-1) & inside
        self.n_organ = int(np.count_nonzero(organ))


def describe(case: Case, proposals: list[Proposal]) -> Described:
    """The features of every proposal that differs from those before it (`SAME_IOU`)."""
    around = Surroundings(case)
    rows: list[list[float]] = []
    boxes: list[tuple[slice, ...]] = []
    masks: list[Mask] = []
    sizes: list[int] = []
    for proposal in proposals:
        size = int(np.count_nonzero(proposal.mask))
        if size < LEAST_VOXELS[case.grey.ndim]:
            continue
        box, mask = _padded(proposal, case.grey.shape, size)
        if _is_known(box, mask, size, boxes, masks, sizes):
            continue
        row = _features(around, proposal, box, mask, size)
        if row is not None:
            rows.append(row)
            boxes.append(box)
            masks.append(mask)
            sizes.append(size)
    values = np.asarray(rows, dtype=np.float64).reshape(-1, len(FEATURES))
    return Described(values=values, boxes=tuple(boxes), masks=tuple(masks))


def overlap(first: tuple[slice, ...], a: Mask, second: tuple[slice, ...], b: Mask) -> int:
    """Voxels that two candidates share."""
    low = [max(p.start, q.start) for p, q in zip(first, second, strict=True)]
    high = [min(p.stop, q.stop) for p, q in zip(first, second, strict=True)]
    if any(h <= l for l, h in zip(low, high, strict=True)):  # noqa: E741
        return 0
    mine, theirs = (
        mask[tuple(slice(s - p.start, e - p.start) for s, e, p in zip(low, high, box, strict=True))]
        for box, mask in ((first, a), (second, b))
    )
    return int(np.count_nonzero(mine & theirs))


def _radius(size: int, dimensions: int) -> float:
    return float((size / np.pi) ** 0.5 if dimensions == 2 else (3 * size / (4 * np.pi)) ** (1 / 3))


def _padded(proposal: Proposal, shape: tuple[int, ...], size: int) -> tuple[tuple[slice, ...], Mask]:
    pad = int(3 + 0.5 * _radius(size, len(shape)))
    box = tuple(slice(max(0, s.start - pad), min(n, s.stop + pad)) for s, n in zip(proposal.box, shape, strict=True))
    mask = np.zeros(tuple(s.stop - s.start for s in box), dtype=bool)
    inner = tuple(slice(s.start - b.start, s.stop - b.start) for s, b in zip(proposal.box, box, strict=True))
    mask[inner] = proposal.mask
    return box, mask


def _is_known(
    box: tuple[slice, ...],
    mask: Mask,
    size: int,
    boxes: list[tuple[slice, ...]],
    masks: list[Mask],
    sizes: list[int],
) -> bool:
    for k in range(len(sizes) - 1, -1, -1):
        if SAME_IOU < size / sizes[k] < 1 / SAME_IOU:
            shared = overlap(box, mask, boxes[k], masks[k])
            if shared > SAME_IOU * (size + sizes[k] - shared):
                return True
    return False


def _features(
    around: Surroundings, proposal: Proposal, box: tuple[slice, ...], mask: Mask, size: int
) -> list[float] | None:
    case, n = around.case, mask.ndim
    grey, organ, gradient = case.grey[box], case.organ[box], around.gradient[box]
    radius = _radius(size, n)
    inner = ndimage.distance_transform_edt(np.pad(mask, 1))[(slice(1, -1),) * n]
    outer = ndimage.distance_transform_edt(~mask)
    ring = (outer > 1) & (outer <= 1 + max(2.0, 0.35 * radius))
    if np.count_nonzero(ring) < 5:
        return None
    own, beside = grey[mask], grey[ring]
    near = grey[ring & organ] if np.count_nonzero(ring & organ) > 5 else beside
    mean, sd = float(own.mean()), float(own.std())
    edge, shell = mask & (inner <= 1.0), (outer > 0) & (outer <= 1.5)
    n_edge = max(int(np.count_nonzero(edge)), 1)
    compact = 4 * np.pi * size / n_edge**2 if n == 2 else np.pi ** (1 / 3) * (6 * size) ** (2 / 3) / n_edge
    deepest = float(inner.max())
    ball = np.pi * deepest**2 if n == 2 else 4 / 3 * np.pi * deepest**3
    points = np.array(np.where(mask), float) * np.asarray(case.voxel_mm)[:, None]
    axes = np.sort(np.linalg.eigvalsh(np.cov(points) + 1e-6 * np.eye(n)))
    rank = float(np.searchsorted(around.ordered, mean)) / len(around.ordered)
    mirror = float(around.from_mirror[box][mask].mean()) * proposal.sign
    low, high = np.percentile(own, [10, 90])
    n_organ, near_mean, near_sd = around.n_organ, float(near.mean()), float(near.std())
    row = [
        np.log(size), np.log(size / n_organ + 1e-5), radius / n_organ ** (1 / n),
        abs(mean - beside.mean()) / np.sqrt(sd**2 + beside.std() ** 2 + 1e-4), mean - beside.mean(),
        abs(mean - near_mean) / np.sqrt(sd**2 + near_sd**2 + 1e-4), mean - near_mean,
        (mean - around.mode) / around.mad, abs(mean - around.mode) / around.mad,
        abs(mean - around.median) / around.mad, rank, abs(rank - 0.5), sd, sd / max(float(beside.std()), 1e-3),
        around.texture[box][mask].mean() / around.usual_texture,
        np.log(gradient[edge].mean() / around.usual_gradient + 1e-3),
        np.log(gradient[mask].mean() / around.usual_gradient + 1e-3),
        (gradient[edge] > 1.5 * around.usual_gradient).mean(),
        (np.sign(beside - mean) == -proposal.sign).mean(), (grey[edge].mean() - grey[shell].mean()) * proposal.sign,
        compact, np.log(size / (ball + 1e-6)), np.sqrt(axes[-1] / axes[0]), np.sqrt(axes[-1] / axes[-2]),
        deepest / n_organ ** (1 / n), (mask & organ).sum() / size, organ[ring].mean(),
        (shell & ~organ).sum() / max(int(np.count_nonzero(shell)), 1), around.depth[box][mask].mean(),
        mirror, abs(mirror), around.organ_mirrored[box][mask].mean(), proposal.sigma, proposal.sign, proposal.life,
        high - low, mean, around.mode, (around.mode - mean) * proposal.sign,
        size * abs(mean - near_mean) / (near_sd + 0.02) / n_organ, n,
    ]  # fmt: skip
    return [float(value) for value in row]
