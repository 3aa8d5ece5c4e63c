"""`WorkingGrid`: the search area on a grid small enough to look at thousands of regions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from r2seg_agent.imaging.geometry import Box, Index3, bounding_box
from r2seg_agent.imaging.volume import FloatArray, Mask, Volume

MAX_SIDE_2D = 384
"""Pixels of the longer side of a slice on the working grid."""
MAX_VOXELS_3D = 600_000
"""Voxels of a volume on the working grid."""
MARGIN = 0.12
"""Share of the mask's box that is kept around it: what surrounds the organ tells as well."""
PERCENTILES = (0.5, 99.5)
"""Grey values near the organ that become 0 and 1."""
NEAR_VOXELS = 5
"""How near, on the working grid."""


@dataclass(frozen=True, eq=False)
class WorkingGrid:
    """Blocks of `factors` voxels of the image (z, y, x), from voxel `start` on; one slice has two axes (y, x).

    `grey` are block means between 0 and 1, `organ` says where normal tissue and lesion can lie, `voxel_mm` is the size
    of a block in mm (pixels where the image has no spacing).
    """

    grey: FloatArray
    organ: Mask
    voxel_mm: tuple[float, ...]
    start: Index3
    factors: Index3
    limit: Index3

    @property
    def ndim(self) -> int:
        """2 for one slice, else 3."""
        return self.grey.ndim

    def on_image(self, box: tuple[slice, ...], mask: Mask) -> tuple[Box, Mask] | None:
        """A region of the working grid as (box, mask) of the image, its outline between blocks taken linearly.

        None where nothing of it lies on the image (blocks at the rim are padded).
        """
        solid = mask[None] if mask.ndim == 2 else mask
        sides = (slice(0, 1), *box) if mask.ndim == 2 else box
        fine = np.pad(
            solid, [(1, 1) if n > 1 or f > 1 else (0, 0) for n, f in zip(solid.shape, self.factors, strict=True)]
        )
        padded = [(p - n) // 2 for p, n in zip(fine.shape, solid.shape, strict=True)]
        if any(f > 1 for f in self.factors):
            grown = ndimage.zoom(fine.astype(np.float32), self.factors, order=1, mode="nearest", grid_mode=True)
            fine = grown >= 0.5
        corner = [
            start + (side.start - pad) * factor
            for start, side, pad, factor in zip(self.start, sides, padded, self.factors, strict=True)
        ]
        low = [max(0, -c) for c in corner]
        high = [min(n, limit - c) for n, limit, c in zip(fine.shape, self.limit, corner, strict=True)]
        if any(b <= a for a, b in zip(low, high, strict=True)):
            return None
        kept = fine[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
        tight = bounding_box(kept)
        if tight is None:
            return None
        at = (corner[0] + low[0], corner[1] + low[1], corner[2] + low[2])
        return tight.shifted(at), np.ascontiguousarray(kept[tight.slices])

    def of_image(self, box: Box, mask: Mask) -> tuple[tuple[slice, ...], Mask] | None:
        """A region of the image on the working grid: blocks that it covers by half; None where there is none."""
        corner = [b - s for b, s in zip(box.start, self.start, strict=True)]
        low = [math.floor(c / f) for c, f in zip(corner, self.factors, strict=True)]
        high = [math.ceil((c + n) / f) for c, n, f in zip(corner, box.shape, self.factors, strict=True)]
        whole = np.zeros([(h - lo) * f for lo, h, f in zip(low, high, self.factors, strict=True)], dtype=np.float32)
        at = [c - lo * f for c, lo, f in zip(corner, low, self.factors, strict=True)]
        whole[tuple(slice(a, a + n) for a, n in zip(at, box.shape, strict=True))] = mask
        blocks = _pooled(whole, self.factors) >= 0.5
        shape = self.grey.shape if self.ndim == 3 else (1, *self.grey.shape)
        inside = [(max(lo, 0), min(h, n)) for lo, h, n in zip(low, high, shape, strict=True)]
        if any(b <= a for a, b in inside):
            return None
        cut = blocks[tuple(slice(a - lo, b - lo) for (a, b), lo in zip(inside, low, strict=True))]
        tight = bounding_box(cut)
        if tight is None:
            return None
        found = tight.shifted((inside[0][0], inside[1][0], inside[2][0])).slices
        part = np.ascontiguousarray(cut[tight.slices])
        return (found, part) if self.ndim == 3 else (found[1:], part[0])


def working_grid(volume: Volume, mask: Mask) -> WorkingGrid | None:
    """The area of `mask` (z, y, x, on the image grid) with its surroundings; None for an empty mask."""
    organ = bounding_box(mask)
    if organ is None:
        return None
    flat = volume.geometry.is_2d
    z, y, x = (0 if flat and axis == 0 else int(MARGIN * n) + 3 for axis, n in enumerate(organ.shape))
    box = organ.dilated((z, y, x), volume.geometry.shape)
    factors = _factors(box, volume)
    grey = _pooled(volume.array[box.slices], factors)
    share = _pooled(mask[box.slices], factors)
    inside = share >= 0.5
    if not inside.any():
        inside = share > 0
    spacing = tuple(s * f for s, f in zip(volume.geometry.spacing_mm, factors, strict=True))
    if flat:
        grey, inside, spacing = grey[0], inside[0], spacing[1:]
    inside = ndimage.binary_fill_holes(inside)  # a lesion that the anchor left out is no less inside
    near = ndimage.binary_dilation(inside, iterations=NEAR_VOXELS)
    low, high = np.percentile(grey[near], PERCENTILES)
    scaled = np.clip((grey - low) / (high - low + 1e-6), 0.0, 1.0).astype(np.float32)
    return WorkingGrid(scaled, inside, spacing, box.start, factors, volume.geometry.shape)


def _factors(box: Box, volume: Volume) -> Index3:
    """Voxels per block: 1 along coarse axes, so many along fine ones that blocks are near cubes and few enough."""
    spacing = volume.geometry.spacing_mm
    if volume.geometry.is_2d:
        k = math.ceil(max(box.shape[1:]) / MAX_SIDE_2D)
        return (1, k, k)
    target = min(spacing)
    while True:
        factors = tuple(max(1, round(target / s)) for s in spacing)
        if math.prod(math.ceil(n / f) for n, f in zip(box.shape, factors, strict=True)) <= MAX_VOXELS_3D:
            return (factors[0], factors[1], factors[2])
        target *= 1.1


def _pooled(array: np.ndarray, factors: Index3) -> FloatArray:
    """Block means, the rim padded by its own values."""
    if all(f == 1 for f in factors):
        return np.ascontiguousarray(array, dtype=np.float32)
    fz, fy, fx = factors
    slabs = []
    for z in range(0, array.shape[0], fz):
        slab = array[z : z + fz].mean(axis=0, dtype=np.float32)
        slab = np.pad(slab, [(0, -slab.shape[0] % fy), (0, -slab.shape[1] % fx)], mode="edge")
        h, w = slab.shape
        slabs.append(slab.reshape(h // fy, fy, w // fx, fx).mean(axis=(1, 3), dtype=np.float32))
    return np.stack(slabs)
