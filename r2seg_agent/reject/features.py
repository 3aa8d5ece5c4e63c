"""φ: what the two-sample test sees of a voxel, and which voxels it sees (method.md §3: X = φ(I|C_k), Y = φ(I|M*))."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.errors import InputError
from r2seg_agent.imaging.geometry import Box
from r2seg_agent.imaging.volume import Mask, Volume
from r2seg_agent.segment.candidates import Region

Voxels = NDArray[np.int64]
"""(k, 3) voxel indices (z, y, x) on the image grid."""
FeatureMap = Callable[[Voxels], NDArray[np.float64]]
"""(k, 3) voxels → (k, d) features."""
FeatureName = Literal["intensity"]

LOW_PERCENTILE, HIGH_PERCENTILE = 0.5, 99.5
"""Of the ROI's grey values; they become 0 and 1."""
PERCENTILE_VOXELS = 2_000_000
"""Percentiles of a larger ROI come from a regular subset of about this many voxels."""


class Feature(Protocol):
    """A φ plug-in. Register it in `FEATURES` under its name."""

    def prepare(self, volume: Volume, roi: Box) -> FeatureMap:
        """What φ needs to know about the ROI, once; the returned map then serves any voxels of the image."""
        ...


class Intensity:
    """Grey value, scaled so that the ROI's 0.5 and 99.5 percentiles are 0 and 1, and clipped there; d = 1.

    MMD² with the median bandwidth does not change under scaling: what this φ does to the test is the clipping, which
    keeps metal, air and hot voxels from widening the kernel. An ROI of one grey value maps to 0.
    """

    def prepare(self, volume: Volume, roi: Box) -> FeatureMap:
        """See the class."""
        grey = volume.array[roi.slices]
        low, high = np.percentile(_regular_subset(grey), [LOW_PERCENTILE, HIGH_PERCENTILE])
        width = float(high - low)

        def normalised(voxels: Voxels) -> NDArray[np.float64]:
            values = volume.array[tuple(voxels.T)].astype(np.float64)
            unit = (values - low) / width if width > 0 else np.zeros(len(values))
            clipped: NDArray[np.float64] = np.clip(unit, 0.0, 1.0)[:, None]
            return clipped

        return normalised


FEATURES: Mapping[FeatureName, Feature] = {"intensity": Intensity()}


def feature_named(name: str) -> Feature:
    """The φ called `name`; raises `InputError` with the known names."""
    for known in get_args(FeatureName):
        if name == known:
            return FEATURES[known]
    raise InputError(f"no feature `{name}`", f"Choose one of: {', '.join(FEATURES)}.")


def stream(seed: int, *key: str | bytes) -> np.random.Generator:
    """A random stream of its own for each (seed, key): what is drawn for one thing never depends on the others."""
    digest = hashlib.sha256()
    for part in key:
        raw = part.encode() if isinstance(part, str) else part
        digest.update(len(raw).to_bytes(8, "little") + raw)
    words = np.frombuffer(digest.digest(), dtype="<u4")
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, *words.tolist()])))


def region_key(region: Region) -> bytes:
    """The candidate's identity by content: its box and voxels, not its place in a list."""
    frame = np.asarray([region.box.start, region.box.stop], dtype="<i8").tobytes()
    return hashlib.sha256(frame + np.packbits(region.mask).tobytes()).digest()


def sample_voxels(rng: np.random.Generator, mask: Mask, origin: tuple[int, int, int], size: int) -> Voxels:
    """At most `size` true voxels of `mask` (z, y, x), drawn uniformly without replacement, in raster order.

    `origin` is where the mask's first voxel lies on the image grid. Memory is one slice, whatever the mask's size.
    """
    per_slice = np.array([np.count_nonzero(plane) for plane in mask], dtype=np.int64)
    total = int(per_slice.sum())
    ranks = np.arange(total) if total <= size else np.sort(rng.choice(total, size, replace=False, shuffle=False))
    ends = np.cumsum(per_slice)
    voxels = np.empty((ranks.size, 3), dtype=np.int64)
    of_slice = np.searchsorted(ends, ranks, side="right")
    for z in np.unique(of_slice):
        here = of_slice == z
        inside = np.flatnonzero(mask[z])[ranks[here] - (ends[z] - per_slice[z])]
        voxels[here, 0] = z
        voxels[here, 1], voxels[here, 2] = np.divmod(inside, mask.shape[2])
    return voxels + np.asarray(origin, dtype=np.int64)


def _regular_subset(grey: NDArray[np.generic]) -> NDArray[np.float64]:
    """Every k-th voxel in raster order, k prime to the slice, so that the subset visits all rows and columns."""
    step = max(1, grey.size // PERCENTILE_VOXELS)
    plane = grey.shape[1] * grey.shape[2]
    while step > 1 and math.gcd(step, plane) > 1:
        step += 1
    flat = np.arange(0, grey.size, step)
    z, rest = np.divmod(flat, plane)
    y, x = np.divmod(rest, grey.shape[2])
    return grey[z, y, x].astype(np.float64)
