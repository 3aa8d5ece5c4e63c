"""Intervals by the bootstrap over patients: whole patients are drawn, with all their scans, slices and lesions.

Every figure is a function of the weights of the cases, so that a resample is a row of weights (how often each patient
was drawn), and all resamples are a few matrix products. Intervals are BCa (Efron 1987: bias-corrected and accelerated,
the acceleration by leaving out one patient at a time), percentile intervals where BCa is undefined.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.evals.models import Interval

Weights = NDArray[np.float64]
"""(resamples, cases): how often each case counts."""
Statistic = Callable[[Weights], NDArray[np.float64]]
"""(b, cases) weights → (b, k) values, NaN where undefined."""

CHUNK = 200
MAX_JACKKNIFE = 2000
"""With more patients the acceleration, which falls with 1/√n, is taken for 0."""
MIN_DEFINED = 0.5
"""Share of the resamples in which a figure must be defined to have an interval."""

TIE = 1e-12
"""Values closer than this (relative above 1) are equal: the order of a sum must not move an interval."""


class Estimate(NamedTuple):
    """A value with its interval; None where it is undefined."""

    value: float | None
    low: float | None
    high: float | None
    interval: Interval


class Resampling(NamedTuple):
    """Values of one statistic: on the data (k,), on the resamples (b, k), leaving out each patient (p, k)."""

    value: NDArray[np.float64]
    resampled: NDArray[np.float64]
    left_out: NDArray[np.float64]


def patient_numbers(patients: Sequence[str]) -> tuple[NDArray[np.intp], int]:
    """For each case the number of its patient in order of appearance, and how many patients there are."""
    numbers: dict[str, int] = {}
    index = [numbers.setdefault(patient, len(numbers)) for patient in patients]
    return np.asarray(index, dtype=np.intp), len(numbers)


def resample_weights(index: NDArray[np.intp], patients: int, resamples: int, seed: int) -> Iterator[Weights]:
    """Weights of the cases in `resamples` draws of patients with replacement, in pieces of at most `CHUNK` rows."""
    rng = np.random.default_rng(seed)
    share = np.full(patients, 1.0 / max(patients, 1))
    for start in range(0, resamples if patients else 0, CHUNK):
        drawn = rng.multinomial(patients, share, size=min(CHUNK, resamples - start))
        yield drawn.astype(np.float64)[:, index]


def left_out_weights(index: NDArray[np.intp], patients: int) -> Iterator[Weights]:
    """Weights that leave out one patient after the other; nothing beyond `MAX_JACKKNIFE` patients."""
    if not 2 <= patients <= MAX_JACKKNIFE:
        return
    for start in range(0, patients, CHUNK):
        out = np.arange(start, min(start + CHUNK, patients))
        yield (index[None, :] != out[:, None]).astype(np.float64)


def resample(
    statistics: Sequence[Statistic], index: NDArray[np.intp], patients: int, *, resamples: int, seed: int
) -> list[Resampling]:
    """Every statistic on the same draws, so that two of them may be compared draw by draw."""
    drawn: list[list[NDArray[np.float64]]] = [[] for _ in statistics]
    out: list[list[NDArray[np.float64]]] = [[] for _ in statistics]
    for weights in resample_weights(index, patients, resamples, seed):
        for rows, statistic in zip(drawn, statistics, strict=True):
            rows.append(statistic(weights))
    for weights in left_out_weights(index, patients):
        for rows, statistic in zip(out, statistics, strict=True):
            rows.append(statistic(weights))
    once = np.ones((1, len(index)))
    values = [statistic(once)[0] for statistic in statistics]
    return [
        Resampling(
            value,
            np.concatenate(a) if a else np.empty((0, len(value))),
            np.concatenate(b) if b else np.empty((0, len(value))),
        )
        for value, a, b in zip(values, drawn, out, strict=True)
    ]


def interval(
    value: float, resampled: NDArray[np.float64], left_out: NDArray[np.float64], *, confidence: float
) -> Estimate:
    """The BCa interval of one figure (value, (b,) resampled, (p,) leaving out a patient).

    Draws in which the figure is undefined are left out; with fewer than half of them left there is no interval. With
    z0 = Φ⁻¹(share of resamples below the value, ties half) and a = Σd³ / 6(Σd²)^1.5, d = mean − left out, the ends are
    the quantiles Φ(z0 + (z0 + z)/(1 − a(z0 + z))) at z = ±Φ⁻¹((1 + confidence)/2).
    """
    from scipy.special import ndtr, ndtri

    if not np.isfinite(value):
        return Estimate(None, None, None, "none")
    usable = resampled[np.isfinite(resampled)]
    if usable.size < MIN_DEFINED * max(resampled.size, 1) or usable.size == 0:
        return Estimate(value, None, None, "none")
    tie = TIE * max(1.0, abs(value))
    if np.ptp(usable) <= tie:
        return Estimate(value, None, None, "none")
    tail = (1 - confidence) / 2
    levels, kind = np.array([tail, 1 - tail]), "percentile"
    below = (np.count_nonzero(usable < value - tie) + np.count_nonzero(usable <= value + tie)) / (2 * usable.size)
    others = left_out[np.isfinite(left_out)]
    if 0 < below < 1:
        gaps = others.mean() - others if others.size > 1 else np.zeros(1)
        spread = float((gaps**2).sum()) ** 1.5
        a = float((gaps**3).sum()) / (6 * spread) if spread > 0 else 0.0
        shifted = ndtri(below) + ndtri(levels)
        adjusted = ndtr(ndtri(below) + shifted / (1 - a * shifted))
        if np.isfinite(adjusted).all() and adjusted[0] < adjusted[1]:
            levels, kind = adjusted, "BCa"
    low, high = np.quantile(usable, levels)
    return Estimate(value, float(low), float(high), "BCa" if kind == "BCa" else "percentile")


def exact_share(estimate: Estimate, patients: int, confidence: float) -> Estimate:
    """Clopper-Pearson interval of a share of exactly 0 or 1 seen in `patients`, where a bootstrap sees too little.

    A bootstrap interval that reaches farther (a curve that other patients move) is kept.
    """
    if patients < 1 or estimate.value is None:
        return estimate
    edge = math.exp(math.log((1 - confidence) / 2) / patients)
    low, high = (0.0, 1 - edge) if estimate.value == 0 else (edge, 1.0)
    if estimate.low is not None and estimate.high is not None:
        low, high = min(low, estimate.low), max(high, estimate.high)
    return Estimate(estimate.value, low, high, "exact")
