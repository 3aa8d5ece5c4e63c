"""The median heuristic: the Gaussian kernel's bandwidth from the pooled sample. Needs numpy alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Sample = NDArray[Any]
"""(m,) or (m, d): m observations of d features, any real number type."""
Matrix = NDArray[np.float64]
"""(m, d), finite."""

LARGEST_VALUE = 1e100
"""Larger features are refused: their squares would leave the range of float64."""


def median_bandwidth(z: Sample) -> float:
    """γ: the median of the distances ‖z_i − z_j‖ over pairs i < j (mean of the middle two for an even number).

    Where more than half of the pairs coincide and the median is 0, the median of the positive distances; 0.0 only
    when all observations are equal (or fewer than two). Scalar samples take O(N log N) time and memory.
    """
    a = as_sample(z)
    if len(a) < 2:
        return 0.0
    if a.shape[1] == 1:
        return _median_gap(np.sort(a[:, 0]))
    d = np.concatenate([np.linalg.norm(a[i + 1 :] - a[i], axis=1) for i in range(len(a) - 1)])
    middle = float(np.median(d))
    if middle > 0.0:
        return middle
    positive = d[d > 0]
    return float(np.median(positive)) if positive.size else 0.0


def as_sample(sample: Sample) -> Matrix:
    """The sample as (m, d) float64; raises ValueError for another number of axes and for NaN or infinite values."""
    a = np.ascontiguousarray(sample, dtype=np.float64)
    if a.ndim == 1:
        a = a[:, None]
    if a.ndim != 2 or a.shape[1] == 0:
        raise ValueError(f"a sample is (m,) or (m, d) with d >= 1, got shape {np.shape(sample)}")
    if not (np.abs(a) <= LARGEST_VALUE).all():
        raise ValueError(f"a sample holds NaN, infinite values or values beyond {LARGEST_VALUE:g}")
    return a


def _median_gap(z: Matrix) -> float:
    """Median of z_j − z_i over i < j for sorted `z`; of the positive ones where that is 0."""
    pairs = len(z) * (len(z) - 1) // 2
    middle = _gaps_at(z, (pairs - 1) // 2, pairs // 2)
    if middle > 0.0:
        return middle
    zero = _pairs_within(z, 0.0)
    positive = pairs - zero
    return _gaps_at(z, zero + (positive - 1) // 2, zero + positive // 2) if positive else 0.0


def _gaps_at(z: Matrix, first: int, second: int) -> float:
    """Mean of the gaps z_j − z_i (i < j, `z` sorted) of 0-based ranks `first` and `second` (equal or the next).

    Halve a bracket of gap values until few gaps lie inside, then look at those: never at all N² of them.
    """
    low, below = 0.0, _pairs_within(z, 0.0)
    pairs = len(z) * (len(z) - 1) // 2
    high, upto = float(z[-1] - z[0]), pairs
    if second < below:
        return 0.0
    if first < below:
        steps = np.diff(z)
        return 0.5 * float(steps[steps > 0].min())
    while upto - below > 8 * len(z):
        middle = 0.5 * (low + high)
        if not low < middle < high:
            return high  # neighbouring numbers: all gaps between them are one value
        count = _pairs_within(z, middle)
        if count <= first:
            low, below = middle, count
        elif count > second:
            high, upto = middle, count
        else:  # `middle` lies between the two ranks
            after = np.searchsorted(z, z + middle, side="right")
            has_next = after < len(z)
            return 0.5 * float((z[after - 1] - z).max() + (z[after[has_next]] - z[has_next]).min())
    inner = np.searchsorted(z, z + low, side="right")
    # `z[0] + (z[-1] - z[0])` may round below `z[-1]`: a bracket that holds all pairs ends where the sample does.
    end = np.searchsorted(z, z + high, side="right") if upto < pairs else np.full(len(z), len(z))
    lengths = end - inner
    offset = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    gaps = z[np.repeat(inner, lengths) + offset] - np.repeat(z, lengths)
    gaps.partition((first - below, second - below))
    return 0.5 * float(gaps[first - below] + gaps[second - below])


def _pairs_within(z: Matrix, gap: float) -> int:
    """How many pairs i < j of sorted `z` have z_j − z_i ≤ gap."""
    n = len(z)
    return int(np.searchsorted(z, z + gap, side="right").sum()) - n * (n + 1) // 2
