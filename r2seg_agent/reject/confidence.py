"""How far the level of one calibration may be from the promise, which speaks of the mean over calibrations.

Given its n cases, the chance that a lesion-free scan has p ≤ k / (n + 1) is distributed as Beta(k, n + 1 − k) over
calibrations (Vovk 2012): its mean is k / (n + 1), a single small calibration may be off by a factor of three. This is
exact for one search round and continuous scores; over several rounds it was measured (docs/evidence/validity-level.md).
"""

from __future__ import annotations

import math

import numpy as np
from scipy import special

BOUND_CONFIDENCE = 0.95
"""Of the bound that is told with every promise."""


def level_bound(n: int, alpha: float, confidence: float = BOUND_CONFIDENCE) -> float:
    """U: by a calibration of `n` cases, the chance of a false finding at `alpha` is at most this with `confidence`."""
    k = rejected_ranks(n, alpha)
    return 0.0 if k == 0 else float(special.betaincinv(k, n + 1 - k, confidence)) if k <= n else 1.0


def confident_ranks(n: int, alpha: float, confidence: float) -> int:
    """The largest k such that p ≤ k / (n + 1) has a chance of at most `alpha` with `confidence`; 0 where none has."""
    ranks = np.arange(1, min(rejected_ranks(n, alpha), n) + 1)
    return int(np.count_nonzero(special.betainc(ranks, n + 1 - ranks, alpha) >= confidence))


def cases_for(alpha: float, confidence: float) -> int:
    """Smallest n at which `alpha` can be held with `confidence`: 1 − (1 − alpha)ⁿ ≥ confidence."""
    return math.ceil(math.log(1.0 - confidence) / math.log(1.0 - alpha) - 1e-9)


def rejected_ranks(n: int, alpha: float) -> int:
    """k = ⌊alpha · (n + 1)⌋: how many of n + 1 ranks have a p of at most `alpha`."""
    return math.floor(alpha * (n + 1) + 1e-9)
