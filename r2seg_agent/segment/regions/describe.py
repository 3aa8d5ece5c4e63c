"""Numbers that describe a region: size, shape, edge, texture, contrast to its ring and to the organ, place, mirror.

All are read on the working grid, from grey values between 0 and 1; none knows the truth. `FEATURES` names them in
their order, `FEATURE_VERSION` changes whenever any of them means something else: a score fitted on another version is
refused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from r2seg_agent.imaging.volume import Mask, Modality
from r2seg_agent.segment.regions.grid import WorkingGrid
from r2seg_agent.segment.regions.tree import LEAST_VOXELS, Proposal

FEATURE_VERSION: Final = 2
FEATURES: Final = (
    "log_size", "log_share", "radius_share", "ring_contrast", "ring_difference", "organ_ring_contrast",
    "organ_ring_difference", "ring_separation", "organ_separation", "mode_z", "mode_z_absolute", "median_z_absolute",
    "rank", "rank_from_middle", "sd", "sd_over_ring", "texture", "texture_over_ring", "log_edge_gradient",
    "log_inner_gradient", "edge_over_inner", "sharp_share", "ring_agreement", "edge_step", "compactness",
    "log_inertia", "elongation", "second_elongation", "inscribed_share", "inside_organ", "ring_inside_organ",
    "outside_contact", "depth", "from_centre", "mirror", "mirror_absolute", "mirror_inside", "sigma", "sign", "life",
    "spread", "mean", "mode", "signed_mode_difference", "contrast_mass", "dimensions", "rim_contact", "log_organ",
    "view_local", "view_opened", "expected_sign", "size_below", "size_above", "is_ct", "is_mr", "is_sound",
)  # fmt: skip
SAME_IOU = 0.82
"""Regions that overlap more than this are one: the first stands."""
MAX_VOXELS = 12_000
"""A region in a larger box is described on every k-th voxel."""


@dataclass(frozen=True)
class Prior:
    """What a plan expects of its target: volumes in mm³, the sign of its contrast (0: either), and the modality."""

    volumes_mm3: tuple[float, float]
    sign: int
    modality: Modality


@dataclass(frozen=True, eq=False)
class Described:
    """Regions with their features, `values` (n, len(FEATURES)); `masks[k]` covers `boxes[k]` of the working grid."""

    values: NDArray[np.float64]
    boxes: tuple[tuple[slice, ...], ...]
    masks: tuple[Mask, ...]


class Surroundings:
    """What the features of all regions of a grid share: gradients, texture, the organ's usual grey value, mirror."""

    def __init__(self, grid: WorkingGrid, prior: Prior) -> None:
        grey, organ = grid.grey, grid.organ
        self.grid, self.prior = grid, prior
        self.gradient = ndimage.gaussian_gradient_magnitude(grey, 1.0)
        mean = ndimage.uniform_filter(grey, 5)
        self.texture = np.sqrt(np.maximum(ndimage.uniform_filter(grey * grey, 5) - mean * mean, 0))
        values = ndimage.gaussian_filter(grey, 1.0)[organ]
        counts, edges = np.histogram(values, 64, range=(0, 1))
        peak = int(ndimage.gaussian_filter1d(counts.astype(float), 2).argmax())
        self.mode = float(edges[peak] + 0.5 * (edges[1] - edges[0]))
        self.mad = 1.4826 * float(np.median(np.abs(values - self.mode))) + 0.01
        self.median, self.ordered = float(np.median(values)), np.sort(values)
        depth = _depth(organ)
        self.depth = (depth / (depth.max() + 1e-6)).astype(np.float32)
        self.usual_gradient = float(self.gradient[organ].mean()) + 1e-4
        self.usual_texture = float(self.texture[organ].mean()) + 1e-4
        places = np.nonzero(organ)
        self.centre = np.asarray([axis.mean() for axis in places])
        self.reach = np.asarray([axis.std() for axis in places]) + 1.0
        across = np.round(2 * self.centre[-1] - np.arange(grey.shape[-1])).astype(int)
        inside = (across >= 0) & (across < grey.shape[-1])
        across = np.clip(across, 0, grey.shape[-1] - 1)
        smooth = ndimage.gaussian_filter(grey, 2.0)
        self.from_mirror = smooth - np.where(inside, np.take(smooth, across, axis=-1), smooth)
        self.organ_mirrored = np.take(organ, across, axis=-1) & inside
        self.n_organ = int(np.count_nonzero(organ))


def describe(grid: WorkingGrid, proposals: Sequence[Proposal], prior: Prior) -> Described:
    """The features of every proposal that differs from those before it (`SAME_IOU`)."""
    around = Surroundings(grid, prior)
    known = _Known()
    rows = []
    for proposal in proposals:
        size = int(np.count_nonzero(proposal.mask))
        if size < LEAST_VOXELS[grid.ndim]:
            continue
        box, mask = _tight(proposal)
        if known.has(box, mask, size):
            continue
        row = _features(around, proposal, box, mask, size)
        if row is not None:
            rows.append(row)
            known.add(box, mask, size)
    values = np.asarray(rows, dtype=np.float64).reshape(-1, len(FEATURES))
    return Described(values=values, boxes=tuple(known.boxes), masks=tuple(known.masks))


def overlap(first: tuple[slice, ...], a: Mask, second: tuple[slice, ...], b: Mask) -> int:
    """Voxels that two regions share."""
    low = [max(p.start, q.start) for p, q in zip(first, second, strict=True)]
    high = [min(p.stop, q.stop) for p, q in zip(first, second, strict=True)]
    if any(end <= begin for begin, end in zip(low, high, strict=True)):
        return 0
    mine, theirs = (
        mask[tuple(slice(s - p.start, e - p.start) for s, e, p in zip(low, high, box, strict=True))]
        for box, mask in ((first, a), (second, b))
    )
    return int(np.count_nonzero(mine & theirs))


class _Known:
    """The regions so far."""

    def __init__(self) -> None:
        self.boxes: list[tuple[slice, ...]] = []
        self.masks: list[Mask] = []
        self._bounds = np.zeros((0, 6))
        self._sizes: list[int] = []

    def add(self, box: tuple[slice, ...], mask: Mask, size: int) -> None:
        self.boxes.append(box)
        self.masks.append(mask)
        self._sizes.append(size)
        sides = [s.start for s in box] + [s.stop for s in box]
        row = np.asarray(sides + [0] * (6 - len(sides)), dtype=float)[None]
        self._bounds = np.concatenate([self._bounds, row])

    def has(self, box: tuple[slice, ...], mask: Mask, size: int) -> bool:
        """True where one of them is nearly the same. Boxes of such a one overlap nearly wholly: ask them first."""
        if not self.boxes:
            return False
        n = len(box)
        sizes = np.asarray(self._sizes)
        low, high = self._bounds[:, :n], self._bounds[:, n : 2 * n]
        start, stop = np.asarray([s.start for s in box]), np.asarray([s.stop for s in box])
        common = np.prod(np.clip(np.minimum(high, stop) - np.maximum(low, start), 0, None), axis=1)
        like = (sizes > SAME_IOU * size) & (sizes < size / SAME_IOU) & (common > SAME_IOU * size)
        for k in np.flatnonzero(like).tolist():
            shared = overlap(box, mask, self.boxes[k], self.masks[k])
            if shared > SAME_IOU * (size + self._sizes[k] - shared):
                return True
        return False


def _radius(size: float, dimensions: int) -> float:
    return float((size / np.pi) ** 0.5 if dimensions == 2 else (3 * size / (4 * np.pi)) ** (1 / 3))


def _ring_width(radius: float) -> float:
    """Of the ring around a region, which begins one block outside it; in blocks."""
    return max(2.0, 0.35 * radius)


def _depth(mask: Mask) -> NDArray[np.float64]:
    """Distance of every block of a region to the nearest one outside it, in blocks; beyond the rim is outside."""
    (tight,) = ndimage.find_objects(mask.astype(np.uint8))
    depth = np.zeros(mask.shape)
    depth[tight] = ndimage.distance_transform_edt(np.pad(mask[tight], 1))[(slice(1, -1),) * mask.ndim]
    return depth


def _tight(proposal: Proposal) -> tuple[tuple[slice, ...], Mask]:
    (inner,) = ndimage.find_objects(proposal.mask.astype(np.uint8))
    box = tuple(slice(b.start + s.start, b.start + s.stop) for b, s in zip(proposal.box, inner, strict=True))
    return box, proposal.mask[inner]


def _padded(
    box: tuple[slice, ...], mask: Mask, shape: tuple[int, ...], size: int
) -> tuple[tuple[slice, ...], Mask, int]:
    """The region with its surroundings, thinned to every k-th voxel where it is large: (slices, mask, k)."""
    pad = math.ceil(1 + _ring_width(_radius(size, len(shape))))
    outer = tuple(slice(max(0, s.start - pad), min(n, s.stop + pad)) for s, n in zip(box, shape, strict=True))
    whole = np.zeros(tuple(s.stop - s.start for s in outer), dtype=bool)
    whole[tuple(slice(s.start - b.start, s.stop - b.start) for s, b in zip(box, outer, strict=True))] = mask
    k = max(1, math.floor((whole.size / MAX_VOXELS) ** (1 / len(shape)) + 0.5))
    if k == 1:
        return outer, whole, 1
    thin = tuple(slice(s.start, s.stop, k) for s in outer)
    return thin, whole[(slice(None, None, k),) * len(shape)], k


def _features(
    around: Surroundings, proposal: Proposal, tight: tuple[slice, ...], region: Mask, true_size: int
) -> list[float] | None:
    grid, n = around.grid, region.ndim
    box, mask, step = _padded(tight, region, grid.grey.shape, true_size)
    size = int(np.count_nonzero(mask))
    if size < 4:
        return None
    grey, organ, gradient = grid.grey[box], grid.organ[box], around.gradient[box]
    radius = _radius(size, n)
    inner = _depth(mask)
    outer = ndimage.distance_transform_edt(~mask)
    ring = (outer > 1) & (outer <= 1 + _ring_width(radius))
    if np.count_nonzero(ring) < 5:
        return None
    own, beside = grey[mask], grey[ring]
    ring_organ = ring & organ
    near = grey[ring_organ] if np.count_nonzero(ring_organ) > 5 else beside
    mean, sd = float(own.mean()), float(own.std())
    edge, shell = mask & (inner <= 1.0), (outer > 0) & (outer <= 1.5)
    n_edge, n_shell = max(int(np.count_nonzero(edge)), 1), max(int(np.count_nonzero(shell)), 1)
    compact = 4 * np.pi * size / n_edge**2 if n == 2 else np.pi ** (1 / 3) * (6 * size) ** (2 / 3) / n_edge
    deepest = float(inner.max())
    ball = np.pi * deepest**2 if n == 2 else 4 / 3 * np.pi * deepest**3
    points = np.array(np.nonzero(mask), float)
    centre = points.mean(axis=1) * step + np.asarray([s.start for s in box])
    axes = np.sort(np.linalg.eigvalsh(np.cov(points * np.asarray(grid.voxel_mm)[:, None]) + 1e-6 * np.eye(n)))
    rank = float(np.searchsorted(around.ordered, mean)) / len(around.ordered)
    mirror = float(around.from_mirror[box][mask].mean()) * proposal.sign
    low, high = np.percentile(own, [10, 90])
    n_organ, near_mean, near_sd = around.n_organ, float(near.mean()), float(near.std())
    beside_mean, beside_sd = float(beside.mean()), float(beside.std())
    texture, own_gradient = around.texture[box], float(gradient[mask].mean())
    edge_gradient, own_texture = float(gradient[edge].mean()), float(texture[mask].mean())
    rim = sum(
        float(np.count_nonzero(region.take(at, axis=axis)))
        for axis, (side, length) in enumerate(zip(tight, grid.grey.shape, strict=True))
        for at, touches in ((0, side.start == 0), (-1, side.stop == length))
        if touches
    )
    volume_mm3 = true_size * float(np.prod(grid.voxel_mm))
    if n == 2:  # a slice of a body: its area as that of a ball's middle
        volume_mm3 = 4 / 3 / math.sqrt(math.pi) * volume_mm3**1.5
    least, most = around.prior.volumes_mm3
    modality = around.prior.modality
    row = [
        math.log(true_size), math.log(true_size / n_organ + 1e-5), _radius(true_size, n) / n_organ ** (1 / n),
        abs(mean - beside_mean) / math.sqrt(sd**2 + beside_sd**2 + 1e-4), mean - beside_mean,
        abs(mean - near_mean) / math.sqrt(sd**2 + near_sd**2 + 1e-4), mean - near_mean,
        _separation(own, near), _separation(own, around.ordered),
        (mean - around.mode) / around.mad, abs(mean - around.mode) / around.mad,
        abs(mean - around.median) / around.mad, rank, abs(rank - 0.5), sd, sd / max(beside_sd, 1e-3),
        own_texture / around.usual_texture, own_texture / (float(texture[ring].mean()) + 1e-3),
        math.log(edge_gradient / around.usual_gradient + 1e-3), math.log(own_gradient / around.usual_gradient + 1e-3),
        edge_gradient / (own_gradient + 1e-4), float((gradient[edge] > 1.5 * around.usual_gradient).mean()),
        float((np.sign(beside - mean) == -proposal.sign).mean()),
        float(grey[edge].mean() - grey[shell].mean()) * proposal.sign,
        compact, math.log(size / (ball + 1e-6)), math.sqrt(axes[-1] / axes[0]), math.sqrt(axes[-1] / axes[-2]),
        deepest * step / n_organ ** (1 / n), float((mask & organ).sum()) / size, float(organ[ring].mean()),
        float((shell & ~organ).sum()) / n_shell, float(around.depth[box][mask].mean()),
        float(np.linalg.norm((centre - around.centre) / around.reach)),
        mirror, abs(mirror), float(around.organ_mirrored[box][mask].mean()), proposal.sigma, proposal.sign,
        proposal.life, high - low, mean, around.mode, (around.mode - mean) * proposal.sign,
        true_size * abs(mean - near_mean) / (near_sd + 0.02) / n_organ, n, rim / true_size ** ((n - 1) / n),
        math.log(n_organ), proposal.view == "local", proposal.view == "opened", around.prior.sign * proposal.sign,
        max(0.0, math.log(least / volume_mm3)), max(0.0, math.log(volume_mm3 / most)),
        modality == "CT", modality == "MR", modality == "US",
    ]  # fmt: skip
    return [float(value) for value in row]


def _separation(own: NDArray[np.float32], others: NDArray[np.float32]) -> float:
    """|P(own > other) − P(own < other)| of two samples (Cliff's delta), thinned to at most 400 against 2 000 values."""
    few = own[:: max(1, own.size // 400)]
    many = np.sort(others[:: max(1, others.size // 2000)])
    below = np.searchsorted(many, few, side="left").mean()
    above = many.size - np.searchsorted(many, few, side="right").mean()
    return float(abs(below - above) / many.size)
