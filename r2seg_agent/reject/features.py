"""φ: what the two-sample test sees of a voxel, and which voxels it sees (method.md §3: X = φ(I|C_k), Y = φ(I|M*))."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.errors import InputError
from r2seg_agent.imaging.geometry import Box
from r2seg_agent.imaging.volume import Mask, Volume
from r2seg_agent.reason.plan import Window
from r2seg_agent.reject import multiscale
from r2seg_agent.reject.projection import PROJECTED, PROJECTION_SEED, projection
from r2seg_agent.segment.candidates import Region
from r2seg_agent.segment.protocol import HasFeatures, Segmenter

Voxels = NDArray[np.int64]
"""(k, 3) voxel indices (z, y, x) on the image grid."""
FeatureMap = Callable[[Voxels], NDArray[np.float64]]
"""(k, 3) voxels → (k, d) features."""
FeatureName = Literal["intensity", "multiscale", "segmenter"]

LOW_PERCENTILE, HIGH_PERCENTILE = 0.5, 99.5
"""Of the ROI's grey values; they become 0 and 1."""
PERCENTILE_VOXELS = 2_000_000
"""Percentiles of a larger ROI come from a regular subset of about this many voxels."""


class Feature(Protocol):
    """A φ plug-in; `feature_named` makes it."""

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


class Multiscale:
    """Grey value and edge strength at several scales (`multiscale.py`); d = 7. Voxels must lie inside the ROI."""

    def prepare(self, volume: Volume, roi: Box) -> FeatureMap:
        """See the class."""
        return lambda voxels: multiscale.multiscale(volume, roi, voxels)


@dataclass(frozen=True)
class SegmenterMaps:
    """The segmenter's own maps of the image, made before any prompt, projected to `PROJECTED` features.

    Maps that depend on the prompt would be circular: a candidate is where the prompt's mask features are high, so they
    differ between candidate and organ by construction, lesion or not.
    `around` is the box of the organ on the image grid and `window` the plan's: with them the segmenter can look at the
    very views that it has encoded already.
    """

    segmenter: HasFeatures
    window: Window | None = None
    around: Box | None = None

    def prepare(self, volume: Volume, roi: Box) -> FeatureMap:
        """See the class."""
        around = self.around or roi

        def projected(voxels: Voxels) -> NDArray[np.float64]:
            raw = self.segmenter.features_at(volume, around, self.window, voxels).astype(np.float64)
            product: NDArray[np.float64] = raw @ projection(raw.shape[1])
            return product

        return projected


FEATURES: Mapping[FeatureName, str] = {
    "intensity": "grey value, as in the paper",
    "multiscale": "grey value and gradient at " + ", ".join(f"{sigma:g}" for sigma in multiscale.SIGMAS_MM) + " mm",
    "segmenter": f"the segmenter's maps of the image before any prompt, projected to {PROJECTED}",
}


def feature_named(
    name: str, segmenter: Segmenter | None = None, *, window: Window | None = None, around: Box | None = None
) -> Feature:
    """The φ called `name`; `segmenter` needs that run's segmenter.

    Raises `InputError` with the known names, or when the segmenter has no maps to offer (`HasFeatures`).
    """
    if name == "intensity":
        return Intensity()
    if name == "multiscale":
        return Multiscale()
    if name == "segmenter":
        return SegmenterMaps(_with_features(segmenter), window, around)
    raise InputError(f"no feature `{name}`", f"Choose one of: {', '.join(get_args(FeatureName))}.")


def check_feature(name: str, segmenter: Segmenter) -> None:
    """Raise what `feature_named` would, before long work."""
    feature_named(name, segmenter)


def feature_settings(name: FeatureName) -> Mapping[str, str | int]:
    """What fixes the numbers of a φ besides its name, for a calibration's identity; empty for `intensity`."""
    if name == "multiscale":
        return {"feature_maps": " ".join(multiscale.NAMES)}
    if name == "segmenter":
        return {"feature_dimensions": PROJECTED, "feature_projection_seed": PROJECTION_SEED}
    return {}


def _with_features(segmenter: Segmenter | None) -> HasFeatures:
    if segmenter is not None and segmenter.info.feature_names and isinstance(segmenter, HasFeatures):
        return segmenter
    who = "no segmenter" if segmenter is None else f"the segmenter `{segmenter.info.name}`, which has no maps to offer"
    raise InputError(
        f"the feature `segmenter` reads the segmenter's own maps of the image; this run has {who}",
        "Use `--segmenter lite-medsam`, or another feature: intensity, multiscale.",
    )


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
