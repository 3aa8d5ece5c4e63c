"""Smoothing, pooling and local maxima in mm, the same for an image and its mirror image (up to rounding)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.imaging.geometry import Float3, Index3
from r2seg_agent.imaging.volume import FloatArray

SLAB_SLICES = 16
"""Pooling reads and writes this many slices at a time, so that no copy of a large scan is made."""


def gaussian(array: FloatArray, spacing_mm: Float3, sigma_mm: float) -> FloatArray:
    """Gaussian of `sigma_mm` along each axis, zero outside the array; axes of one voxel are left alone.

    Outside counts as zero because the callers divide by an equally smoothed weight.
    """
    from scipy import ndimage

    out = array
    for axis, step in enumerate(spacing_mm):
        sigma = sigma_mm / step
        if array.shape[axis] > 1 and sigma >= 0.2:  # below, the kernel is a delta to float32's eye for our purpose
            out = ndimage.gaussian_filter1d(out, sigma, axis=axis, mode="constant", truncate=3.0, output=np.float32)
    return out if out is not array else array.copy()


def local_maximum(array: FloatArray, spacing_mm: Float3, reach_mm: float) -> FloatArray:
    """Largest value within `reach_mm` along each axis (a box, separable)."""
    from scipy import ndimage

    size = tuple(
        2 * int(reach_mm / step + 1e-6) + 1 if n > 1 else 1 for n, step in zip(array.shape, spacing_mm, strict=True)
    )
    out: FloatArray = ndimage.maximum_filter(array, size=size, mode="nearest")
    return out


def pooled_cells(shape: Sequence[int], spacing_mm: Float3, cell_mm: float) -> Index3:
    """How many equal cells of about `cell_mm` (never finer than a voxel) each axis is divided into."""
    cells = [max(1, min(n, round(n * step / cell_mm))) for n, step in zip(shape, spacing_mm, strict=True)]
    return (cells[0], cells[1], cells[2])


def pool(slabs: Callable[[slice], FloatArray], shape: Sequence[int], cells: Index3) -> FloatArray:
    """Means over equal cells of a (z, y, x) array that `slabs(range of z)` gives piece by piece.

    A voxel that straddles an edge is shared by length. Unlike blocks counted from one end, equal cells look the same
    from both ends: flipping the image flips the result. Written with running sums, not as a matrix product: on a busy
    machine threaded products of thin matrices stall.
    """
    flat: FloatArray = np.empty((shape[0], cells[1], cells[2]), dtype=np.float32)
    for z in range(0, shape[0], SLAB_SLICES):
        part = slice(z, min(shape[0], z + SLAB_SLICES))
        flat[part] = _pool_axis(_pool_axis(slabs(part), 2, cells[2]), 1, cells[1])
    return _pool_axis(flat, 0, cells[0])


def _pool_axis(array: FloatArray, axis: int, cells: int) -> FloatArray:
    n = array.shape[axis]
    if n == cells:
        return array
    total = np.cumsum(array, axis=axis, dtype=np.float64)
    edges = np.linspace(0.0, n, cells + 1)
    low = np.minimum(np.floor(edges).astype(np.intp), n)
    share = (edges - low).reshape([-1 if a == axis else 1 for a in range(3)])
    until = np.concatenate([np.zeros_like(np.take(total, [0], axis=axis)), total], axis=axis)
    at = np.take(until, low, axis=axis)
    at += share * (np.take(until, np.minimum(low + 1, n), axis=axis) - at)
    pooled: FloatArray = (np.diff(at, axis=axis) * (cells / n)).astype(np.float32)
    return pooled


def unpooled_slabs(array: FloatArray, shape: Sequence[int]) -> Iterator[tuple[slice, FloatArray]]:
    """`unpooled` for all of `shape`, piece by piece: (range of z, its voxels)."""
    for z in range(0, shape[0], SLAB_SLICES):
        part = slice(z, min(shape[0], z + SLAB_SLICES))
        yield part, unpooled(array, shape, part)


def unpooled(array: FloatArray, shape: Sequence[int], part: slice) -> FloatArray:
    """Linear interpolation of cell values back to the slices `part` of a grid of `shape`; cells as in `pool`."""
    z_low, z_high, z_weight = _between(shape[0], array.shape[0])
    weight = z_weight[part, None, None]
    out = array[z_low[part]] * (1 - weight) + array[z_high[part]] * weight
    for axis in (1, 2):
        low, high, share = _between(shape[axis], array.shape[axis])
        along = share.reshape([-1 if a == axis else 1 for a in range(3)])
        out = np.take(out, low, axis=axis) * (1 - along) + np.take(out, high, axis=axis) * along
    return out.astype(np.float32)


def _between(n: int, cells: int) -> tuple[NDArray[np.intp], NDArray[np.intp], FloatArray]:
    """For each of n voxels: the cell below, the cell above, and the weight of the one above."""
    position = np.clip((np.arange(n) + 0.5) * cells / n - 0.5, 0, cells - 1)
    low = np.floor(position).astype(np.intp)
    return low, np.minimum(low + 1, cells - 1), (position - low).astype(np.float32)
