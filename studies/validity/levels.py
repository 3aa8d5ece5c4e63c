"""From searched cases to scores, calibrations, p-values and survivors, by the functions that a run uses.

Nothing here computes a p- or q-value itself: `reject.calibration` does. `thresholds` is the one short
cut, for curves over thousands of calibrations; a test holds it against `case_maximum_p`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.reject.alpha import within
from r2seg_agent.reject.calibration import (
    Calibration,
    CaseScores,
    build_calibration,
    case_maximum_p,
)
from r2seg_agent.reject.identity import run_identity
from r2seg_agent.reject.profile import ScanProfile
from r2seg_agent.reject.scores import USES_MMD2, ScoreName, score_named
from r2seg_agent.reject.settings import RejectSettings
from r2seg_agent.segment.contrast import ContrastSegmenter
from studies.validity.search import ALPHA, STUDY_SOURCE, GateChoice, SearchedCase, study_plan


@dataclass(frozen=True)
class ScoredCase:
    """The candidates of one case that passed their gates: score, whether it finds the lesion, whether it is false."""

    scores: tuple[float, ...]
    hits: tuple[bool, ...]
    false: tuple[bool, ...]
    profile: ScanProfile | None = None

    @property
    def maximum(self) -> float:
        """The largest score; −∞ without candidates."""
        return max(self.scores, default=-math.inf)

    @property
    def hit_score(self) -> float:
        """The largest score among the candidates that find the lesion; −∞ where none does."""
        return max((s for s, hit in zip(self.scores, self.hits, strict=True) if hit), default=-math.inf)


def scored(cases: Sequence[SearchedCase], score: ScoreName, gates: GateChoice) -> list[ScoredCase]:
    """Score every candidate as `judge` does; one that failed its gates, or has no MMD² where one is needed, is out."""
    function, need = score_named(score), score in USES_MMD2
    results = []
    for case in cases:
        keep = [
            k
            for k, (passed, mmd2) in enumerate(zip(case.passed[gates], case.mmd2, strict=True))
            if passed and not (need and mmd2 is None)
        ]
        values = tuple(function(case.features[k], case.mmd2[k] or 0.0) for k in keep)
        hits, false = case.hits, case.false
        results.append(
            ScoredCase(
                scores=values,
                hits=tuple(hits[k] for k in keep),
                false=tuple(false[k] for k in keep),
                profile=case.profile,
            )
        )
    return results


def calibration_of(
    cases: Sequence[ScoredCase], score: ScoreName, *, seed: int = 0, profiles: bool = False
) -> Calibration:
    """A real calibration from lesion-free cases, one patient each; `profiles`: with the scans' own (slower to hash)."""
    settings = RejectSettings(mode="conformal", score=score)
    identity = run_identity(
        ContrastSegmenter().info, STUDY_SOURCE, study_plan(), settings, rounds=1, preprocessing={}, gates={}
    )
    named = [
        CaseScores(case=str(k), patient=str(k), scores=case.scores, profile=case.profile if profiles else None)
        for k, case in enumerate(cases)
    ]
    return build_calibration(identity, named, seed=seed)


@dataclass(frozen=True)
class Tested:
    """What a mode says of one case. `p` is the case's own (its smallest; 1 without candidates).

    `hit`: a survivor finds the lesion; `false`, `survivors`: how many survivors are no part of a lesion, and in all.
    """

    p: float
    hit: bool
    false: int
    survivors: int

    @property
    def false_share(self) -> float:
        """The false discovery proportion of the case: 0 when nothing survived."""
        return self.false / self.survivors if self.survivors else 0.0


def conformal_tested(cases: Sequence[ScoredCase], calibration: Calibration, alpha: float = ALPHA) -> list[Tested]:
    """Conformal mode on each case: every candidate against the largest scores of the calibration's cases."""
    results = []
    for case in cases:
        p = [case_maximum_p(calibration, score) for score in case.scores]
        survivors = [k for k, value in enumerate(p) if within(value, alpha)]
        results.append(_outcome(case.hits, case.false, survivors, min(p, default=1.0)))
    return results


def paper_tested(cases: Sequence[SearchedCase], gates: GateChoice) -> list[Tested]:
    """Paper mode on each case (at its α of 0.05)."""
    results = []
    for case in cases:
        p = [v for v, passed in zip(case.paper_p, case.passed[gates], strict=True) if passed and v is not None]
        survivors = [k for k, survived in enumerate(case.paper_survived[gates]) if survived]
        results.append(_outcome(case.hits, case.false, survivors, min(p, default=1.0)))
    return results


def _outcome(hits: Sequence[bool], false: Sequence[bool], survivors: Sequence[int], p: float) -> Tested:
    return Tested(
        p=p, hit=any(hits[k] for k in survivors), false=sum(false[k] for k in survivors), survivors=len(survivors)
    )


def maxima(cases: Sequence[ScoredCase]) -> NDArray[np.float64]:
    """Each case's largest score; −∞ without candidates."""
    return np.asarray([case.maximum for case in cases])


def hit_scores(cases: Sequence[ScoredCase]) -> NDArray[np.float64]:
    """Each case's `hit_score`."""
    return np.asarray([case.hit_score for case in cases])


def thresholds(
    pool: NDArray[np.float64], n: int, *, draws: int, rng: np.random.Generator, alpha: float = ALPHA
) -> NDArray[np.float64]:
    """What a score must exceed to get a case-maximum p ≤ α, for `draws` calibrations of n cases drawn from `pool`.

    p(s) = (1 + #{M_i ≥ s}) / (n + 1) ≤ α says that fewer than k = ⌊α(n + 1)⌋ maxima reach s, that is s > the k-th
    largest; +∞ when n is too small for α.
    """
    k = math.floor(alpha * (n + 1) + 1e-9)
    if k == 0:
        return np.full(draws, math.inf)
    chosen = np.stack([rng.choice(pool, n, replace=False) for _ in range(draws)])
    return np.sort(chosen, axis=1)[:, n - k]
