"""φ = grey value and edge strength at several scales: what a voxel and its surroundings look like."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.imaging.geometry import Box, Float3
from r2seg_agent.imaging.volume import FloatArray, Volume
from r2seg_agent.segment.smoothing import gaussian

SIGMAS_MM = (1.0, 2.0, 4.0)
"""Gaussian scales; the grey value itself comes before them. Pixels in an image without spacing."""
NAMES = ("grey", *(f"{kind}_{sigma:g}mm" for sigma in SIGMAS_MM for kind in ("grey", "gradient")))
LOW_PERCENTILE, HIGH_PERCENTILE = 0.5, 99.5
PERCENTILE_VOXELS = 500_000
"""Percentiles of a map come from about this many of the ROI's voxels, on a regular grid."""
ROUNDING = 1e-5
"""A spread below this share of the largest grey value is rounding, not a spread."""
SLAB_VOXELS = 8_000_000
"""Maps are computed in slabs of about this many voxels, and only what is asked for is kept."""


class _Map(NamedTuple):
    """One feature at the asked voxels (k,), and on a regular subset of the ROI."""

    asked: NDArray[np.float64]
    subset: FloatArray


def multiscale(volume: Volume, roi: Box, voxels: NDArray[np.int64]) -> NDArray[np.float64]:
    """(k, 1 + 2 · scales) features of `voxels` (k, 3), indices (z, y, x) on the image grid inside `roi`.

    The grey value, then for each σ of `SIGMAS_MM` the grey value smoothed by σ and the length of its gradient (per mm).
    Smoothing stays inside the ROI (weights that would fall outside are left out). Each feature is scaled so that its
    0.5 and 99.5 percentiles over the ROI are 0 and 1, and clipped there: no feature outweighs another, and a scan in
    other grey units gets the same numbers. A feature without spread is 0.
    """
    columns = []
    for sigma in (0.0, *SIGMAS_MM):
        maps = _maps(volume, roi, voxels, sigma)
        rounding = ROUNDING * float(np.abs(maps[0].subset).max(initial=0.0))
        for map_ in maps:
            low, high = np.percentile(map_.subset.astype(np.float64), [LOW_PERCENTILE, HIGH_PERCENTILE])
            width = float(high - low)
            unit = (map_.asked - low) / width if width > rounding else np.zeros(len(voxels))
            columns.append(np.clip(unit, 0.0, 1.0))
    return np.stack(columns, axis=1)


def _maps(volume: Volume, roi: Box, voxels: NDArray[np.int64], sigma: float) -> list[_Map]:
    """Grey values for σ = 0, smoothed grey values and gradients else."""
    local = voxels - np.asarray(roi.start)
    n_maps = 2 if sigma > 0 else 1
    asked = [np.zeros(len(voxels), dtype=np.float64) for _ in range(n_maps)]
    subsets: list[list[FloatArray]] = [[] for _ in range(n_maps)]
    # A grid that keeps its share along every axis, so that the subset of a flipped scan is nearly the flipped subset.
    step = max(1, round((np.prod(roi.shape) / PERCENTILE_VOXELS) ** (1 / 3)))
    for own, maps in _slabs(volume, roi, sigma):
        here = (local[:, 0] >= own.start) & (local[:, 0] < own.stop)
        at = (local[here, 0] - own.start, local[here, 1], local[here, 2])
        for n, map_ in enumerate(maps):
            asked[n][here] = map_[at]
            subsets[n].append(map_[-own.start % step :: step, ::step, ::step].ravel())
    return [_Map(values, np.concatenate(parts)) for values, parts in zip(asked, subsets, strict=True)]


def _slabs(volume: Volume, roi: Box, sigma: float) -> Iterator[tuple[slice, list[FloatArray]]]:
    """Ranges of the ROI's slices with their maps, (z, y, x) float32."""
    nz, ny, nx = roi.shape
    depth = max(1, SLAB_VOXELS // (ny * nx))
    spacing = volume.geometry.spacing_mm
    image = volume.array[roi.slices]
    halo = int(np.ceil(3.0 * sigma / spacing[0])) + 2
    for start in range(0, nz, depth):
        own = slice(start, min(nz, start + depth))
        around = slice(max(0, own.start - halo), min(nz, own.stop + halo))
        grey = image[around].astype(np.float32)
        inner = slice(own.start - around.start, own.stop - around.start)
        if sigma > 0:
            smooth = gaussian(grey, spacing, sigma)
            smooth /= np.maximum(gaussian(np.ones_like(grey), spacing, sigma), np.float32(1e-6))
            yield own, [smooth[inner], _gradient(smooth, spacing)[inner]]
        else:
            yield own, [grey[inner]]


def _gradient(smooth: FloatArray, spacing: Float3) -> FloatArray:
    """Length of the gradient per mm, central differences; axes of one voxel have none."""
    total = np.zeros_like(smooth)
    for axis, mm in enumerate(spacing):
        if smooth.shape[axis] > 1:
            total += np.gradient(smooth, mm, axis=axis).astype(np.float32) ** 2
    return np.sqrt(total)
