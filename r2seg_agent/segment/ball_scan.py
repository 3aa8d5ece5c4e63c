"""The scan statistic of a candidate: the best z-score of a ball-shaped mean, over ball sizes, against the whole organ.

A candidate's own outline is drawn by the noise that made it, so a mean over it is biased towards chance. Balls of fixed
sizes are not. For every radius r and place v in the organ let c_r(v) be the mean contrast over the part of the ball
around v that lies in the organ, w_r(v) the share of the ball that does, and s_r the robust spread of √w_r c_r over the
organ. Then

    scan(C) = max over r, max over v in C of  √w_r |c_r(v)| / s_r − √(2 ln(V_organ / V_r))

in the sign of the candidate. The second term is how large the maximum over V_organ / V_r places is by chance, so that
no size has an advantage (scale space: Siegmund & Worsley 1995, Ann Stat 23:608; Dümbgen & Spokoiny 2001,
Ann Stat 29:124). s_r is measured, not derived from a model of the noise: noise that reaches farther makes it larger,
which is why the statistic means nearly the same on scanners of different noise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np

from r2seg_agent.imaging.geometry import Box, Float3, Index3, bounding_box
from r2seg_agent.imaging.volume import FloatArray, Mask, Volume
from r2seg_agent.segment.organ import HU_RANGE, clipped, filled
from r2seg_agent.segment.smoothing import pool, pooled_cells

RADII_MM = (3.0, 4.0, 5.0, 6.5, 8.5, 11.0)
"""Balls of 0.1 to 5.6 ml, a factor of about 2 in volume apart: whatever lies between loses at most a tenth of its z."""
CELL_MM = 1.0
"""Computed on cells of this size or of a voxel, whichever is larger …"""
MAX_CELLS = 2_000_000
"""… or larger still, to keep memory (about 100 MB) and time bounded for an organ of any size."""
MIN_SHARE = 0.25
"""Where less of a ball lies in the organ, its mean says little."""
MIN_ORGAN_CELLS = 200
MAD_TO_SD = 1.4826


class BallScan:
    """Maps of one organ, computed at the first question: `z` of every radius on a coarse grid."""

    def __init__(self, volume: Volume, organ: Mask) -> None:
        self._volume, self._organ = volume, organ

    def statistic(self, box: Box, mask: Mask, *, brighter: bool) -> tuple[float, float]:
        """(scan statistic, radius in mm where it is reached) of the candidate `mask` (z, y, x) that covers `box`.

        (0, 0) where the organ is too small to measure, or the candidate lies outside it.
        """
        maps = self._maps
        if maps is None:
            return 0.0, 0.0
        return maps.best(box, mask, 1.0 if brighter else -1.0)

    @cached_property
    def _maps(self) -> _Maps | None:
        found = bounding_box(self._organ)
        if found is None:
            return None
        maps = _Maps(self._volume, self._organ, found)
        return maps if maps.usable else None


class _Maps:
    """Signed z of every radius on cells over the organ's box."""

    def __init__(self, volume: Volume, organ: Mask, box: Box) -> None:
        image, spacing = volume.array[box.slices], volume.geometry.spacing_mm
        domain = filled(organ[box.slices])
        clip = HU_RANGE if volume.unit == "HU" else None
        median = np.float32(np.median(clipped(image[domain], clip)))
        self._box, self._shape = box, image.shape
        self._cells = _cells(image.shape, spacing)
        cell = tuple(s * n / k for s, n, k in zip(spacing, image.shape, self._cells, strict=True))
        self._cell_mm: Float3 = (cell[0], cell[1], cell[2])
        weight = pool(lambda part: domain[part].astype(np.float32), image.shape, self._cells)
        contrast = pool(lambda part: (clipped(image[part], clip) - median) * domain[part], image.shape, self._cells)
        self._inside = weight > 0.5
        self.usable = int(np.count_nonzero(self._inside)) >= MIN_ORGAN_CELLS
        self._z: list[tuple[float, float, FloatArray]] = []
        if not self.usable:
            return
        flat = image.shape[0] == 1
        organ_size = float(weight.sum(dtype=np.float64)) * math.prod(self._cell_mm[flat:])
        for radius, z in self._z_maps(contrast, weight):
            size = math.pi * radius**2 if flat else 4.0 / 3.0 * math.pi * radius**3
            if organ_size > size:
                self._z.append((radius, math.sqrt(2.0 * math.log(organ_size / size)), z))
        self.usable = bool(self._z)

    def _z_maps(self, contrast: FloatArray, weight: FloatArray) -> Iterator[tuple[float, FloatArray]]:
        """(radius, z of the ball means) of every radius that the organ is large enough for."""
        from scipy import fft

        flat_axes = [a for a in range(3) if weight.shape[a] == 1]
        reach = [0 if a in flat_axes else math.ceil(max(RADII_MM) / mm) for a, mm in enumerate(self._cell_mm)]
        # Room for the ball beside the organ, since the transform is periodic.
        padded = [
            n if r == 0 else fft.next_fast_len(max(n + r, 2 * r + 1), real=True)
            for n, r in zip(weight.shape, reach, strict=True)
        ]
        image_ft, weight_ft = (fft.rfftn(array, s=padded) for array in (contrast, weight))
        own = tuple(slice(0, n) for n in weight.shape)
        for radius in RADII_MM:
            ball_ft = fft.rfftn(_ball(padded, self._cell_mm, radius))
            share: FloatArray = fft.irfftn(weight_ft * ball_ft, s=padded)[own]
            z: FloatArray = fft.irfftn(image_ft * ball_ft, s=padded)[own]
            enough = self._inside & (share >= MIN_SHARE)
            z /= np.sqrt(np.maximum(share, np.float32(MIN_SHARE)))
            values = z[enough]
            z -= np.float32(np.median(values)) if values.size else np.float32(0)
            spread = MAD_TO_SD * float(np.median(np.abs(z[enough]))) if values.size >= MIN_ORGAN_CELLS else 0.0
            if spread > 0:
                z /= np.float32(spread)
                z[~enough] = 0
                yield radius, z

    def best(self, box: Box, mask: Mask, sign: float) -> tuple[float, float]:
        common = box.intersection(self._box)
        if common is None:
            return 0.0, 0.0
        voxels = np.argwhere(mask[common.within(box).slices]) + np.asarray(common.within(self._box).start)
        if not len(voxels):
            return 0.0, 0.0
        cells = tuple(
            np.minimum((voxels[:, a] * k) // n, k - 1)
            for a, (n, k) in enumerate(zip(self._shape, self._cells, strict=True))
        )
        if not self._inside[cells].any():
            return 0.0, 0.0
        return max((float((sign * z[cells]).max()) - chance, radius) for radius, chance, z in self._z)


def _cells(shape: Sequence[int], spacing: Float3) -> Index3:
    size = CELL_MM
    while math.prod(cells := pooled_cells(shape, spacing, size)) > MAX_CELLS:
        size *= 1.1
    return cells


def _ball(shape: Sequence[int], cell_mm: Float3, radius_mm: float) -> FloatArray:
    """The ball's indicator, of sum 1, around voxel (0, 0, 0) of a periodic grid."""
    axes = [np.fft.fftfreq(n, 1.0 / n) * mm for n, mm in zip(shape, cell_mm, strict=True)]
    z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
    inside = (z * z + y * y + x * x <= radius_mm**2).astype(np.float32)
    ball: FloatArray = inside / inside.sum(dtype=np.float64).astype(np.float32)
    return ball
