"""Grey values as a bundle's manifest wants them; what depends on the scan is taken from all of it, never from a cut."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.imaging.volume import FloatArray
from r2seg_agent.segment.folders.bundle_manifest import (
    AsItIs,
    MinMax,
    Normalisation,
    PercentileScale,
    WindowScale,
    ZScore,
)

SMALLEST_SD: Final = 1e-8
"""A constant scan has no spread: it becomes 0, not infinity."""


def normalised(part: NDArray[Any], scan: NDArray[Any], how: Normalisation) -> FloatArray:
    """A float32 copy of `part`, a cut of `scan` (both of any shape), normalised by the statistics of `scan`."""
    values = part.astype(np.float32)
    if isinstance(how, AsItIs):
        return values
    if isinstance(how, ZScore):
        return _z_scores(values, scan, how)
    low, high = _limits(scan, how)
    np.clip(values, low, high, out=values)
    values -= np.float32(low)
    values *= np.float32((how.to[1] - how.to[0]) / max(high - low, SMALLEST_SD))
    values += np.float32(how.to[0])
    return values


def _limits(scan: NDArray[Any], how: WindowScale | PercentileScale | MinMax) -> tuple[float, float]:
    if isinstance(how, WindowScale):
        return how.low, how.high
    if isinstance(how, MinMax):
        return float(scan.min()), float(scan.max())
    seen = _seen(scan, nonzero=how.nonzero)
    low, high = np.percentile(seen, (how.low, how.high))
    return float(low), float(high)


def _z_scores(values: FloatArray, scan: NDArray[Any], how: ZScore) -> FloatArray:
    empty = values == 0 if how.nonzero else None
    if how.clip is not None:
        np.clip(values, *how.clip, out=values)
    if how.mean is not None and how.sd is not None:
        mean, sd = how.mean, how.sd
    else:
        seen = _seen(scan, nonzero=how.nonzero)
        seen = seen if how.clip is None else np.clip(seen, *how.clip)
        mean, sd = float(seen.mean(dtype=np.float64)), float(seen.std(dtype=np.float64))
    values -= np.float32(mean)
    values /= np.float32(max(sd, SMALLEST_SD))
    if empty is not None:
        values[empty] = 0.0
    return values


def _seen(scan: NDArray[Any], *, nonzero: bool) -> NDArray[Any]:
    """The voxels that count; all of them where none is other than 0."""
    inside = scan[scan != 0] if nonzero else scan
    return inside if inside.size else scan
