"""Grey values of one organ: its normal tissue, and its contrast smoothed inside the organ, slab by slab."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import cc3d
import numpy as np
from numpy.typing import NDArray

from r2seg_agent.imaging.geometry import Float3
from r2seg_agent.imaging.volume import FloatArray, Mask
from r2seg_agent.segment.smoothing import gaussian, pool, pooled_cells, unpooled

HALF_WIDTH_SD = 0.6745
"""The central half of a Gaussian reaches this many standard deviations to each side."""
HISTOGRAM_BINS = 65_536
HU_RANGE = (-1024.0, 1500.0)
"""CT is clipped to this, so that metal does not smear."""
CHUNK_VOXELS = 4_000_000
"""The finest scale is computed in slabs of about this many voxels, so that memory does not grow with the scan."""
HALO_SIGMAS = 7.0
"""Slices around a slab that its own values depend on: the Gaussian's reach and, after it, that of the local maximum."""

Slab = tuple[slice, slice, FloatArray, FloatArray]
"""Where a slab lies in the field (range of z), where its own slices lie in the haloed arrays, and these: smoothed
contrast and √w, w the share of the Gaussian inside the organ."""


@dataclass(eq=False)
class OrganField:
    """The organ's box: `image` in its own number type, `domain` the organ (filled), `centre` its normal grey value."""

    image: NDArray[Any]
    domain: Mask
    spacing: Float3
    clip: tuple[float, float] | None
    centre: float = 0.0
    bias: FloatArray | None = None
    """Slow drift of the organ's grey value over coarse cells, subtracted from the contrast; None: none."""

    def remove_bias(self, sigma_mm: float, clip_z: float) -> None:
        """Estimate the drift: the contrast inside the organ, clipped to `clip_z` standard deviations so that lesions
        weigh little, smoothed by `sigma_mm`; then centre again.
        """
        limit = np.float32(clip_z * normal_tissue(self.organ_values).sd)
        cells = pooled_cells(self.image.shape, self.spacing, sigma_mm / 2.0)
        shape = self.image.shape
        drift = pool(lambda part: np.clip(self.contrast(part), -limit, limit), shape, cells)
        weight = pool(lambda part: self.domain[part].astype(np.float32), shape, cells)
        cell_mm = tuple(s * n / k for s, n, k in zip(self.spacing, shape, cells, strict=True))
        at = (cell_mm[0], cell_mm[1], cell_mm[2])
        bias = gaussian(drift, at, sigma_mm)
        bias /= np.maximum(gaussian(weight, at, sigma_mm), np.float32(1e-6))
        self.bias = bias
        self.centre += normal_tissue(lambda: (self.contrast(part)[self.domain[part]] for part in self.slabs())).centre

    def resels(self, sigma_mm: float) -> float:
        """How many independent patches the organ has when smoothed: its size over (√(4π) σ)^d, d = 2 for one slice."""
        axes = [a for a in range(3) if self.image.shape[a] > 1]
        size = float(np.count_nonzero(self.domain)) * float(np.prod([self.spacing[a] for a in axes]))
        return size / float((np.sqrt(4.0 * np.pi) * sigma_mm) ** len(axes))

    def slabs(self) -> Iterator[slice]:
        """Ranges of slices of about `CHUNK_VOXELS`."""
        nz, ny, nx = self.image.shape
        step = max(1, CHUNK_VOXELS // (ny * nx))
        for start in range(0, nz, step):
            yield slice(start, min(nz, start + step))

    def contrast(self, part: slice) -> FloatArray:
        """I − m (− drift) inside the organ, 0 outside, for a range of slices."""
        values = clipped(self.image[part], self.clip)
        values -= np.float32(self.centre)
        if self.bias is not None:
            values -= unpooled(self.bias, self.image.shape, part)
        values *= self.domain[part]
        return values

    def organ_values(self) -> Iterator[FloatArray]:
        """Grey values of the organ, slab by slab."""
        for part in self.slabs():
            yield clipped(self.image[part][self.domain[part]], self.clip)


class SmoothSlabs:
    """The contrast smoothed inside the organ (normalised convolution), slab by slab with a halo; one slab is kept."""

    def __init__(self, field: OrganField, sigma: float) -> None:
        self._field, self._sigma = field, sigma
        self._kept: list[Slab] = []

    def __call__(self) -> Iterator[Slab]:
        """All slabs, from the first slice to the last."""
        if self._kept:
            yield from self._kept
            return
        f = self._field
        nz = f.image.shape[0]
        halo = int(np.ceil(HALO_SIGMAS * self._sigma / f.spacing[0])) + 1
        for own in f.slabs():
            around = slice(max(0, own.start - halo), min(nz, own.stop + halo))
            weight = gaussian(f.domain[around].astype(np.float32), f.spacing, self._sigma)
            contrast = gaussian(f.contrast(around), f.spacing, self._sigma)
            contrast /= np.maximum(weight, np.float32(1e-3))
            contrast *= f.domain[around]
            np.sqrt(weight, out=weight)
            slab = (own, slice(own.start - around.start, own.stop - around.start), contrast, weight)
            if own == slice(0, nz):
                self._kept = [slab]
            yield slab

    def organ_values(self) -> Iterator[FloatArray]:
        """Smoothed contrast times √w of the organ's voxels, slab by slab."""
        for own, inner, contrast, support in self():
            domain = self._field.domain[own]
            yield contrast[inner][domain] * support[inner][domain]


def clipped(values: NDArray[Any], clip: tuple[float, float] | None) -> FloatArray:
    """A float32 copy of `values`, cut off at the limits of `clip`."""
    floats = values.astype(np.float32)
    if clip is not None:
        np.clip(floats, clip[0], clip[1], out=floats)
    return floats


class Normal(NamedTuple):
    """Grey values of normal tissue."""

    centre: float
    sd: float


def normal_tissue(values: Callable[[], Iterator[FloatArray]]) -> Normal:
    """Centre and standard deviation of the majority of values: median of the shortest half, its half width / 0.6745.

    The shortest half (the narrowest interval that holds half of the values; Rousseeuw & Leroy 1987) looks away from
    lesions on one side even when they fill a third of an organ, where median and MAD have long moved with them. For a
    Gaussian both pairs agree. `values()` gives the values piece by piece, the same at each call; the result does not
    depend on their order. Computed on a histogram of `HISTOGRAM_BINS` bins; sd is 0 for constant values.
    """
    limits = [(float(part.min()), float(part.max())) for part in values() if part.size]
    if not limits:
        return Normal(0.0, 0.0)
    low, high = min(a for a, _ in limits), max(b for _, b in limits)
    if high <= low:
        return Normal(low, 0.0)
    counts = np.zeros(HISTOGRAM_BINS, dtype=np.int64)
    for part in values():
        counts += np.histogram(part, bins=HISTOGRAM_BINS, range=(low, high))[0]
    edges = np.linspace(low, high, HISTOGRAM_BINS + 1)
    cumulative = np.concatenate([[0], np.cumsum(counts)]).astype(np.float64)
    half = cumulative[-1] / 2.0
    starts = np.flatnonzero(cumulative <= half)
    width = np.interp(cumulative[starts] + half, cumulative, edges) - edges[starts]
    start = int(starts[np.argmin(width)])
    centre = float(np.interp(cumulative[start] + half / 2.0, cumulative, edges))
    return Normal(centre, float(width.min()) / (2.0 * HALF_WIDTH_SD))


def filled(mask: Mask) -> Mask:
    """`mask` with those holes filled that are enclosed on all sides (in the plane for one slice)."""
    pad = [(1, 1) if n > 1 else (0, 0) for n in mask.shape]
    outside = cc3d.connected_components(np.pad(~mask, pad, constant_values=True), connectivity=6)
    holes = outside[tuple(slice(1, -1) if n > 1 else slice(None) for n in mask.shape)]
    if int(outside.max()) <= 1:
        return mask
    filled: Mask = holes != outside[0, 0, 0]
    return filled
