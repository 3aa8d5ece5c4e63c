"""Shares with their uncertainty, for tables and for the bounds of tests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from r2seg_agent.frozen import Frozen


class Share(Frozen):
    """`k` of `n` independent cases."""

    k: int
    n: int

    @property
    def value(self) -> float:
        """k / n; 0 of none is 0."""
        return self.k / self.n if self.n else 0.0

    @cached_property
    def interval(self) -> tuple[float, float]:
        """95 % interval by Wilson (1927): sensible also for 0 of n and n of n."""
        if not self.n:
            return (0.0, 1.0)
        z = 1.959963984540054
        middle = (self.k + z * z / 2) / (self.n + z * z)
        half = z * math.sqrt(self.k * (self.n - self.k) / self.n + z * z / 4) / (self.n + z * z)
        return (max(0.0, middle - half), min(1.0, middle + half))

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.value:.3f} [{low:.3f}, {high:.3f}]"


class Mean(Frozen):
    """A mean with its standard error over `n` independent units."""

    value: float
    se: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.3f} ± {self.se:.3f}"


def share_of(happened: Sequence[bool] | NDArray[np.bool_]) -> Share:
    """How many of the cases."""
    return Share(k=int(np.count_nonzero(happened)), n=len(happened))


def mean_of(values: Sequence[float] | NDArray[np.float64]) -> Mean:
    """Mean and standard error s / √n; the error of fewer than two values is 0 and says nothing."""
    a = np.asarray(values, dtype=np.float64)
    se = float(a.std(ddof=1) / math.sqrt(a.size)) if a.size > 1 else 0.0
    return Mean(value=float(a.mean()) if a.size else 0.0, se=se, n=a.size)


def exact_level(alpha: float, n_calibration: int) -> float:
    """⌊α(n + 1)⌋ / (n + 1): the level that n calibration cases without ties give in the mean over calibrations."""
    return math.floor(alpha * (n_calibration + 1) + 1e-9) / (n_calibration + 1)


def level_given_calibration(alpha: float, n_calibration: int) -> tuple[float, float]:
    """(a, b) of the Beta distribution of the level that one calibration of n cases has, for scores without ties.

    With k = ⌊α(n + 1)⌋ the smallest score with p ≤ α is the k-th largest of the calibration's, and the share of new
    cases beyond it is distributed as Beta(k, n + 1 − k): mean k / (n + 1), standard deviation about √(α(1 − α) / n)
    (Vovk 2012, "Conditional validity of inductive conformal predictors").
    """
    k = math.floor(alpha * (n_calibration + 1) + 1e-9)
    return float(k), float(n_calibration + 1 - k)


def level_se(level: float, n_test: int, n_calibration: int) -> float:
    """Standard error of a measured level: of the test cases, and of the calibration cases that set the threshold.

    `n_calibration` counts all calibration cases that went in (several disjoint calibrations add up).
    """
    variance = level * (1.0 - level)
    return math.sqrt(variance / n_test + variance / (n_calibration + 2))


def largest_count(level: float, n_test: int, n_calibration: int, *, chance: float) -> int:
    """Smallest c such that more than c of `n_test` exceed the level with a probability below `chance`.

    The exact bound of a test in the suite: one calibration of n cases at `level` and n_test new cases that are as the
    calibration's give a beta-binomial number of false-positive cases.
    """
    a, b = level_given_calibration(level, n_calibration)
    if a == 0:
        return 0
    tail = stats.betabinom(n_test, a, b).sf(np.arange(n_test + 1))
    return int(np.argmax(tail < chance))
