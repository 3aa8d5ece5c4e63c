"""Smoothing, pooling and local maxima in mm, the same for an image and its mirror image (up to rounding)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from r2seg_agent.imaging.geometry import Float3, Index3
from r2seg_agent.imaging.volume import FloatArray


def gaussian(array: FloatArray, spacing_mm: Float3, sigma_mm: float) -> FloatArray:
    """Gaussian of `sigma_mm` along each axis, zero outside the array; axes of one voxel are left alone.

    Outside counts as zero because the callers divide by an equally smoothed weight.
    """
    out = array
    for axis, step in enumerate(spacing_mm):
        sigma = sigma_mm / step
        if array.shape[axis] > 1 and sigma >= 0.2:  # below, the kernel is a delta to float32's eye for our purpose
            out = ndimage.gaussian_filter1d(out, sigma, axis=axis, mode="constant", truncate=3.0, output=np.float32)
    return out if out is not array else array.copy()


def local_maximum(array: FloatArray, spacing_mm: Float3, reach_mm: float) -> FloatArray:
    """Largest value within `reach_mm` along each axis (a box, separable)."""
    size = tuple(
        2 * int(reach_mm / step + 1e-6) + 1 if n > 1 else 1 for n, step in zip(array.shape, spacing_mm, strict=True)
    )
    out: FloatArray = ndimage.maximum_filter(array, size=size, mode="nearest")
    return out


def pooled_cells(shape: Sequence[int], spacing_mm: Float3, cell_mm: float) -> Index3:
    """How many equal cells of about `cell_mm` (never finer than a voxel) each axis is divided into."""
    cells = [max(1, min(n, round(n * step / cell_mm))) for n, step in zip(shape, spacing_mm, strict=True)]
    return (cells[0], cells[1], cells[2])


def pool(array: FloatArray, cells: Index3) -> FloatArray:
    """Means over equal cells of a (z, y, x) array; a voxel that straddles an edge is shared by length.

    Unlike blocks counted from one end, equal cells look the same from both ends: flipping the image flips the result.
    Written with running sums, not as a matrix product: on a busy machine threaded products of thin matrices stall.
    """
    out = array
    for axis in (2, 1, 0):
        n, k = out.shape[axis], cells[axis]
        if n == k:
            continue
        total = np.cumsum(out, axis=axis, dtype=np.float64)
        edges = np.linspace(0.0, n, k + 1)
        low = np.minimum(np.floor(edges).astype(np.intp), n)
        share = (edges - low).reshape([-1 if a == axis else 1 for a in range(3)])
        until = np.concatenate([np.zeros_like(np.take(total, [0], axis=axis)), total], axis=axis)
        at = np.take(until, low, axis=axis)
        at += share * (np.take(until, np.minimum(low + 1, n), axis=axis) - at)
        out = (np.diff(at, axis=axis) * (k / n)).astype(np.float32)
    return out


def unpool(array: FloatArray, shape: Sequence[int]) -> FloatArray:
    """Linear interpolation of cell values back to `shape` voxels, cells centred as in `axis_pooling`."""
    out = array
    for axis, n in enumerate(shape):
        cells = array.shape[axis]
        position = np.clip((np.arange(n) + 0.5) * cells / n - 0.5, 0, cells - 1)
        low = np.floor(position).astype(np.intp)
        high = np.minimum(low + 1, cells - 1)
        weight = (position - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        out = np.take(out, low, axis=axis) * (1 - weight) + np.take(out, high, axis=axis) * weight
    return out.astype(np.float32)
