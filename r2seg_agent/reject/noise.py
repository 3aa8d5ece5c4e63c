"""Noise of a scan inside an organ: its size and how far it is correlated, measured from differences between voxels.

With I = m + white noise smoothed by a Gaussian of standard deviation s, half the variance of I(v + h) − I(v) along one
axis is γ(h) = σ² (1 − exp(−h² / 4s²)). So a lag `SILL_MM` far beyond s gives σ², and the first lag gives s
(Forman et al. 1995, Magn Reson Med 33:636, their equation 5, with differences in place of derivatives). Differences
are blind to what changes slowly over the organ, need no more than two voxels inside it, so its edge does not matter,
and are winsorised, so that vessels and lesions weigh little.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.imaging.geometry import Float3
from r2seg_agent.imaging.volume import FloatArray, Mask, Volume

SILL_MM = 10.0
"""Voxels this far apart share no noise (FWHM up to about 6 mm) and still the same drift."""
MAX_PAIRS = 1_000_000
"""Larger organs are read in every k-th slice."""
MIN_PAIRS = 30
WINSOR_SD = 3.0
WINSOR_SHARE = 0.99501
"""E[min(z², 9)] of a standard normal z: what winsorising at 3 takes from a variance."""
MAD_TO_SD = 1.4826


class Noise(NamedTuple):
    """`sd` in grey values; `fwhm_mm` (z, y, x) of the Gaussian that makes white noise as smooth as this one.

    0 along an axis: neighbours do not resemble each other, or the axis is too short to tell. `sd` 0: not measurable.
    """

    sd: float
    fwhm_mm: Float3


def measure_noise(volume: Volume, mask: Mask) -> Noise:
    """Noise inside `mask` (z, y, x, on the grid of `volume`; at least a few voxels thick to mean anything)."""
    spacing = volume.geometry.spacing_mm
    in_plane = [axis for axis in (1, 2) if mask.shape[axis] > 1]
    sills = [
        variance
        for axis in in_plane
        if (variance := _half_variance(volume, mask, axis, max(2, round(SILL_MM / spacing[axis])))) is not None
    ]
    if not sills or (sill := float(np.mean(sills))) <= 0:
        return Noise(0.0, (0.0, 0.0, 0.0))
    z, y, x = (_fwhm_mm(_half_variance(volume, mask, axis, 1), sill, spacing[axis]) for axis in range(3))
    return Noise(math.sqrt(sill), (z, y, x))


def _fwhm_mm(first: float | None, sill: float, step_mm: float) -> float:
    """From γ(1 voxel) and σ²."""
    if first is None or first >= sill:
        return 0.0
    correlation = 1.0 - first / sill
    return step_mm * math.sqrt(-2.0 * math.log(2.0) / math.log(min(correlation, 1.0 - 1e-6)))


def _half_variance(volume: Volume, mask: Mask, axis: int, lag: int) -> float | None:
    """γ(lag) along `axis`, over pairs of voxels that both lie in `mask`; None for too few."""
    length = mask.shape[axis]
    if length <= lag:
        return None
    every = max(1, math.ceil(np.count_nonzero(mask) / MAX_PAIRS))
    low: list[slice] = [slice(None)] * 3
    high: list[slice] = [slice(None)] * 3
    low[axis], high[axis] = slice(0, length - lag), slice(lag, length)
    if axis == 0:
        low[0], high[0] = slice(0, length - lag, every), slice(lag, length, every)
    else:
        low[0] = high[0] = slice(None, None, every)
    here, there = tuple(low), tuple(high)
    pairs = mask[here] & mask[there]
    if np.count_nonzero(pairs) < MIN_PAIRS:
        return None
    first: FloatArray = volume.array[here][pairs].astype(np.float32)
    difference: NDArray[np.float64] = np.subtract(volume.array[there][pairs], first, dtype=np.float64)
    return 0.5 * _winsorised_variance(difference)


def _winsorised_variance(values: NDArray[np.float64]) -> float:
    """Second moment about 0 of values clipped at `WINSOR_SD` robust standard deviations, unbiased for a Gaussian."""
    limit = WINSOR_SD * MAD_TO_SD * float(np.median(np.abs(values)))
    if limit <= 0:
        return float(np.mean(np.square(values)))
    return float(np.mean(np.square(np.clip(values, -limit, limit)))) / WINSOR_SHARE
