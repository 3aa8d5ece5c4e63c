"""FROC: lesions found against false positives per scan, over all candidates at their score, rejected ones too.

A lesion is found at a threshold when a candidate that hits it has at least that score; a candidate that hits no lesion
is a false positive; a second candidate on one lesion is neither (LUNA16's rule). Between two thresholds nothing is
interpolated: the sensitivity at a rate is the largest that some threshold reaches without more false positives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.evals.bootstrap import Weights
from r2seg_agent.evals.models import CandidateMatch, CaseEvaluation, Criterion, CurvePoint, Rank

LOWEST = -1e300
"""Where a candidate without the ranking value stands: below all others, but found."""


def rank_value(candidate: CandidateMatch, rank: Rank) -> float:
    """What orders a candidate, larger first; p-values are turned round. Never a probability of anything."""
    value = {
        "score": candidate.score,
        "auto": candidate.score,
        "p": None if candidate.p is None else -candidate.p,
        "prominence": candidate.prominence,
        "probability": candidate.probability,
    }[rank]
    return LOWEST if value is None else value


@dataclass(frozen=True, eq=False)
class Froc:
    """All candidates and lesions of some scans, ready for any weights of the scans.

    `false_case`, `hit_case`: the case of each false positive and of each found lesion by falling score; `lesion_case`
    that of every lesion. `false_upto`, `hit_upto`: how many of them reach each of the falling `thresholds`.
    """

    thresholds: NDArray[np.float64]
    false_case: NDArray[np.intp]
    hit_case: NDArray[np.intp]
    lesion_case: NDArray[np.intp]
    false_upto: NDArray[np.intp]
    hit_upto: NDArray[np.intp]
    scans: NDArray[np.float64]
    """1 for each case whose false positives count, else 0."""

    def curve(self, weights: Weights) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """False positives per scan and sensitivity, each (b, thresholds + 1), from above the highest score down."""
        with np.errstate(invalid="ignore", divide="ignore"):
            rate = _running(weights, self.false_case)[:, self.false_upto] / (weights @ self.scans)[:, None]
            found = _running(weights, self.hit_case)[:, self.hit_upto]
            sensitivity = found / weights[:, self.lesion_case].sum(axis=1)[:, None]
        return rate, sensitivity

    def sensitivity_at(self, weights: Weights, rates: Sequence[float]) -> NDArray[np.float64]:
        """(b, rates): the sensitivity at each number of false positives per scan."""
        rate, sensitivity = self.curve(weights)
        columns = []
        for wanted in rates:
            last = np.maximum((rate <= wanted + 1e-12).sum(axis=1) - 1, 0)
            reached = sensitivity[np.arange(len(weights)), last]
            columns.append(np.where(np.isfinite(rate[:, 0]), reached, np.nan))
        return np.stack(columns, axis=1)

    def points(self) -> tuple[CurvePoint, ...]:
        """The curve of the scans as they are; empty without lesions or without scans."""
        rate, sensitivity = self.curve(np.ones((1, len(self.scans))))
        if not (np.isfinite(rate).all() and np.isfinite(sensitivity).all()):
            return ()
        return tuple(CurvePoint(x=float(x), y=float(y)) for x, y in zip(rate[0], sensitivity[0], strict=True))


def froc_of(
    cases: Sequence[CaseEvaluation],
    rank: Rank,
    criterion: Criterion,
    *,
    counts: Callable[[CaseEvaluation], bool] = lambda case: True,
    size: str | None = None,
) -> Froc:
    """The candidates of `cases` (those without candidates give none) against their lesions.

    `counts` chooses the scans whose false positives count; `size` the lesions that count.
    """
    false: list[tuple[float, int]] = []
    hits: list[tuple[float, int]] = []
    lesion_case: list[int] = []
    for number, case in enumerate(cases):
        best: dict[int, float] = {}
        for candidate in case.candidates or ():
            value = rank_value(candidate, rank)
            hit = candidate.hits_iou if criterion == "iou" else candidate.hits_overlap
            for lesion in hit:
                best[lesion] = max(value, best.get(lesion, value))
            if not hit and counts(case):
                false.append((value, number))
        wanted = [lesion.label for lesion in case.lesions if size is None or lesion.size == size]
        if case.candidates is not None:
            lesion_case += [number] * len(wanted)
        hits += [(best[label], number) for label in wanted if label in best]
    false.sort(key=lambda item: -item[0])
    hits.sort(key=lambda item: -item[0])
    false_scores, hit_scores = (np.array([score for score, _ in rows], np.float64) for rows in (false, hits))
    thresholds = np.unique(np.concatenate([false_scores, hit_scores]))[::-1]
    return Froc(
        thresholds=thresholds,
        false_case=np.array([case for _, case in false], np.intp),
        hit_case=np.array([case for _, case in hits], np.intp),
        lesion_case=np.array(lesion_case, np.intp),
        false_upto=_upto(false_scores, thresholds),
        hit_upto=_upto(hit_scores, thresholds),
        scans=np.array([case.candidates is not None and counts(case) for case in cases], np.float64),
    )


def _upto(falling: NDArray[np.float64], thresholds: NDArray[np.float64]) -> NDArray[np.intp]:
    """0, then for each threshold how many of the falling scores reach it."""
    reached = np.searchsorted(-falling, -thresholds, side="right")
    return np.concatenate([[0], reached]).astype(np.intp)


def _running(weights: Weights, case: NDArray[np.intp]) -> NDArray[np.float64]:
    """(b, n + 1): running sums of the weights of `case`, from 0."""
    sums = np.zeros((len(weights), len(case) + 1))
    np.cumsum(weights[:, case], axis=1, out=sums[:, 1:])
    return sums
