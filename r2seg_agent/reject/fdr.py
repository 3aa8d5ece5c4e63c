"""False discovery rate: step-up adjusted p-values (q-values) over the candidates of a case, and e-values.

An e-value is non-negative with expectation at most 1 for a null candidate. e-BH turns K of them into decisions whose
FDR is at most α whatever their dependence (Wang & Ramdas 2022, JRSS B 84:822), because for any values at all the share
of false rejections is at most α/K times the sum of the e-values of the nulls.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SOFTNESS = 2.0
"""How strongly the largest null scores count in an e-value: with 0 not at all (e = 1), with ∞ they alone."""
MAD_TO_SD = 1.4826
PValues = Sequence[float] | NDArray[np.float64]


def benjamini_hochberg(p: PValues) -> NDArray[np.float64]:
    """q_(i) = min over j ≥ i of p_(j)·K / j, at most 1, in the order of `p` (Benjamini and Hochberg 1995, JRSS B 57).

    Rejecting where q ≤ α keeps the FDR at α for independent or positively dependent valid p-values.
    Raises ValueError for values outside [0, 1].
    """
    return _step_up(p, 1.0)


def benjamini_yekutieli(p: PValues) -> NDArray[np.float64]:
    """As `benjamini_hochberg`, times Σ 1/i: valid under any dependence (Benjamini and Yekutieli 2001)."""
    return _step_up(p, float((1.0 / np.arange(1, len(p) + 1)).sum()))


def e_benjamini_hochberg(e: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """q of e-BH, in the order of `e`: rejecting where q ≤ α rejects the k largest e, k the largest with e_(k) ≥ K/(αk).

    So it is Benjamini-Hochberg on 1/e, at most 1; no rounding can make it reject more.
    Raises ValueError for negative values and NaN.
    """
    values = np.asarray(e, dtype=np.float64)
    if values.ndim != 1 or not (values >= 0).all():
        raise ValueError(f"e-values are a list of numbers of at least 0, got {e}")
    return _step_up(1.0 / np.maximum(values, 1.0), 1.0)


def conformal_e_values(
    null: Sequence[float] | NDArray[np.float64], scores: Sequence[float] | NDArray[np.float64]
) -> NDArray[np.float64]:
    """e-values of `scores` against n `null` scores: (n + 1) g(s) / (g(s) + Σ g(null_i)), g(s) = exp(`SOFTNESS` s / τ).

    τ is the standard deviation (1.4826 MAD) of the n + 1 scores together, so it is the same whichever of them is called
    the test's: for a score exchangeable with the null ones the expectation is exactly 1 (conformal e-values, see Vovk
    et al., arXiv 2006.02329). At most n + 1, reached by scores far beyond all null
    ones; where a p-value stops at 1/(n + 1) for all of them alike, e still falls with every null score that comes near.
    1 for every score without null scores.
    """
    below = np.sort(np.asarray(null, dtype=np.float64))
    found = np.empty(len(scores))
    for k, score in enumerate(np.asarray(scores, dtype=np.float64)):
        everyone = np.insert(below, np.searchsorted(below, score), score)
        spread = MAD_TO_SD * float(np.median(np.abs(everyone - np.median(everyone))))
        if spread <= 0:  # most scores are one and the same: by the ranks that are left
            weight = (everyone > everyone[len(everyone) // 2]).astype(np.float64)
            own = float(score > everyone[len(everyone) // 2])
        else:
            scale = SOFTNESS / spread
            weight = np.exp(scale * (everyone - everyone[-1]))
            own = float(np.exp(scale * (score - everyone[-1])))
        total = float(weight.sum())
        found[k] = len(everyone) * own / total if total > 0 else 1.0
    return found


def _step_up(p: PValues, factor: float) -> NDArray[np.float64]:
    values = np.asarray(p, dtype=np.float64)
    if values.ndim != 1 or not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"p-values are a list of numbers in [0, 1], got {p}")
    order = np.argsort(values, kind="stable")
    ranks = np.arange(1, values.size + 1)
    stepped = np.minimum.accumulate((values[order] * (factor * values.size) / ranks)[::-1])[::-1]
    q = np.empty_like(values)
    q[order] = np.minimum(stepped, 1.0)
    return q
