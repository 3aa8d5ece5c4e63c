"""From searched cases to scores, calibrations, p-values and survivors, by the functions that a run uses.

Nothing here computes a p- or q-value itself: `reject.calibration` and `reject.fdr` do. `thresholds` is the one short
cut, for curves over thousands of calibrations; a test holds it against `case_maximum_p`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.evals.fdr.search import STUDY_SOURCE, GateChoice, SearchedCase, study_plan
from r2seg_agent.reject.calibration import (
    Calibration,
    CaseScores,
    build_calibration,
    candidate_p,
    case_maximum_p,
)
from r2seg_agent.reject.fdr import benjamini_hochberg, benjamini_yekutieli
from r2seg_agent.reject.identity import run_identity
from r2seg_agent.reject.scores import USES_MMD2, ScoreName, score_named
from r2seg_agent.reject.settings import RejectSettings
from r2seg_agent.segment.contrast import ContrastSegmenter

ALPHA = 0.05


def scores_of(case: SearchedCase, score: ScoreName, gates: GateChoice) -> list[float | None]:
    """Each candidate's score as `judge` gives it; None for one that failed its gates or has no MMD² where needed."""
    function, need = score_named(score), score in USES_MMD2
    return [
        None if not passed or (need and mmd2 is None) else function(features, 0.0 if mmd2 is None else mmd2)
        for features, mmd2, passed in zip(case.features, case.mmd2, case.passed[gates], strict=True)
    ]


def calibration_of(cases: Sequence[SearchedCase], score: ScoreName, gates: GateChoice, *, seed: int = 0) -> Calibration:
    """A real calibration from lesion-free cases, one patient each."""
    identity = run_identity(
        ContrastSegmenter().info,
        STUDY_SOURCE,
        study_plan(),
        RejectSettings(mode="conformal", score=score),
        rounds=1,
        preprocessing={},
        gates={"ours": gates == "all"},
    )
    named = [
        CaseScores(case=str(k), patient=str(k), scores=tuple(s for s in scores_of(case, score, gates) if s is not None))
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


Adjust = Callable[[Sequence[float]], NDArray[np.float64]]
"""p-values of a case's candidates → q-values."""
READINGS: Mapping[str, tuple[Callable[[Calibration, float], float], Adjust]] = {
    "case maximum": (case_maximum_p, lambda p: np.asarray(p, dtype=np.float64)),
    "candidate + BH": (candidate_p, benjamini_hochberg),
    "candidate + BY": (candidate_p, benjamini_yekutieli),
}
"""How conformal mode may read a calibration: the p-value of a score, and what pays for several candidates."""


def conformal_tested(
    cases: Sequence[SearchedCase],
    calibration: Calibration,
    score: ScoreName,
    gates: GateChoice,
    *,
    reading: str = "case maximum",
    alpha: float = ALPHA,
) -> list[Tested]:
    """Conformal mode on each case; `reading` is a key of `READINGS`."""
    read, adjust = READINGS[reading]
    known: dict[float, float] = {}
    results = []
    for case in cases:
        scores = scores_of(case, score, gates)
        family = [(k, s) for k, s in enumerate(scores) if s is not None]
        p = [known[s] if s in known else known.setdefault(s, read(calibration, s)) for _, s in family]
        q = adjust(p)
        survivors = [k for (k, _), value in zip(family, q.tolist(), strict=True) if value <= alpha]
        results.append(_outcome(case, survivors, min(p, default=1.0)))
    return results


def paper_tested(cases: Sequence[SearchedCase], gates: GateChoice) -> list[Tested]:
    """Paper mode on each case (at its α of 0.05)."""
    results = []
    for case in cases:
        p = [v for v, passed in zip(case.paper_p, case.passed[gates], strict=True) if passed and v is not None]
        survivors = [k for k, survived in enumerate(case.paper_survived[gates]) if survived]
        results.append(_outcome(case, survivors, min(p, default=1.0)))
    return results


def _outcome(case: SearchedCase, survivors: Sequence[int], p: float) -> Tested:
    hits, false = case.hits, case.false
    return Tested(
        p=p, hit=any(hits[k] for k in survivors), false=sum(false[k] for k in survivors), survivors=len(survivors)
    )


def maxima(cases: Sequence[SearchedCase], score: ScoreName, gates: GateChoice) -> NDArray[np.float64]:
    """Each case's largest score; −∞ without candidates."""
    return np.asarray([max((s for s in scores_of(c, score, gates) if s is not None), default=-math.inf) for c in cases])


def hit_scores(cases: Sequence[SearchedCase], score: ScoreName, gates: GateChoice) -> NDArray[np.float64]:
    """The largest score among the candidates that find the case's lesion; −∞ where none does."""
    return np.asarray(
        [
            max((s for s, hit in zip(scores_of(c, score, gates), c.hits, strict=True) if hit and s is not None),
                default=-math.inf)
            for c in cases
        ]
    )  # fmt: skip


def thresholds(
    pool: NDArray[np.float64], n: int, *, draws: int, rng: np.random.Generator, alpha: float = ALPHA
) -> NDArray[np.float64]:
    """What a score must exceed to get a case-maximum p ≤ α, for `draws` calibrations of n cases drawn from `pool`.

    p(s) = (1 + #{M_i ≥ s}) / (n + 1) ≤ α says that fewer than k = ⌊α(n + 1)⌋ maxima reach s, that is s > the k-th
    largest; +∞ when n is too small for α. (`case_maximum_p` says the same of one calibration: a test compares them.)
    """
    k = math.floor(alpha * (n + 1) + 1e-9)
    if k == 0:
        return np.full(draws, math.inf)
    chosen = np.stack([rng.choice(pool, n, replace=False) for _ in range(draws)])
    return np.sort(chosen, axis=1)[:, n - k]
