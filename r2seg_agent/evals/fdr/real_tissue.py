"""`python -m r2seg_agent.evals.fdr.real_tissue`: modes and scores on blocks of real lesion-free tissue.

The blocks of an organ (`tissue.py`) serve as cases; calibration blocks come from the same scan, from the other half of
the same organ, or from other scans. Synthetic lesions are implanted into blocks, with the scan's own noise. The tables
stand in docs/validity-real-tissue.md, with what they cannot show: blocks are not patients.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from r2seg_agent.evals.fdr.intervals import Share, share_of
from r2seg_agent.evals.fdr.search import STUDY_SOURCE, GateChoice, SearchedCase, search_case
from r2seg_agent.evals.fdr.tissue import LUNG, Tissue, blocks_of, plan_of, with_lesion
from r2seg_agent.imaging.geometry import Float3
from r2seg_agent.reject.calibration import Calibration, CaseScores, build_calibration, case_maximum_p
from r2seg_agent.reject.identity import run_identity
from r2seg_agent.reject.scores import SCORES, ScoreName
from r2seg_agent.reject.settings import RejectSettings
from r2seg_agent.segment.contrast import ContrastSegmenter

ALPHAS = (0.05, 0.10)
VOLUMES_ML = (0.25, 0.5, 1.0, 2.0)
CNRS: Mapping[str, tuple[float, ...]] = {LUNG: (4.0, 8.0, 12.0)}
"""Lesion contrast in robust standard deviations of the organ's grey values. A lung's is 60–120 HU, and its vessels
stand out by 600 HU: what would be plain in a liver is nothing there."""
DEFAULT_CNRS = (2.0, 3.0, 4.0)
LESION_BLOCKS = 30
"""Blocks per tissue that get lesions, drawn at random."""
GATES: GateChoice = "all"


class Lesion(NamedTuple):
    """What was implanted: volume, and contrast in the organ's standard deviations."""

    volume_ml: float
    cnr: float


@dataclass(frozen=True, eq=False)
class SearchedTissue:
    """Every block searched: `free[k]` lesion-free at `centres_mm[k]`; `implanted[lesion][k]` the same with a lesion."""

    tissue: Tissue
    centres_mm: tuple[Float3, ...]
    free: tuple[SearchedCase, ...]
    implanted: Mapping[Lesion, Mapping[int, SearchedCase]]


def search_tissue(tissue: Tissue, *, lesions: bool = True, permutations: int = 199, seed: int = 0) -> SearchedTissue:
    """Search every block of `tissue` as it is and, with `lesions`, `LESION_BLOCKS` of them with each lesion."""
    blocks, plan = blocks_of(tissue), plan_of(tissue)
    rng = np.random.default_rng(seed)
    free = [search_case(b.scene.volume, b.scene.organ, plan=plan, permutations=permutations) for b in blocks]
    implanted: dict[Lesion, dict[int, SearchedCase]] = {}
    chosen = rng.permutation(len(blocks))[:LESION_BLOCKS].tolist() if lesions else []
    sign = 1 if plan.expected_contrast == "brighter" else -1
    for lesion in lesions_of(tissue) if lesions else ():
        found = {}
        for k in chosen:
            scene = with_lesion(blocks[k], volume_ml=lesion.volume_ml, cnr=lesion.cnr, sign=sign, seed=k)
            found[k] = search_case(scene.volume, scene.organ, scene.truth, plan=plan, permutations=permutations)
        implanted[lesion] = found
    return SearchedTissue(tissue, tuple(b.centre_mm for b in blocks), tuple(free), implanted)


def lesions_of(tissue: Tissue) -> tuple[Lesion, ...]:
    """Every volume with every contrast."""
    return tuple(Lesion(v, c) for v in VOLUMES_ML for c in CNRS.get(tissue.request, DEFAULT_CNRS))


def scores_of(case: SearchedCase, score: ScoreName) -> tuple[float, ...]:
    """Scores of the candidates that pass their gates, in their order; −inf for those that do not."""
    function = SCORES[score]
    return tuple(
        function(f, 0.0 if m is None else m) if ok else -math.inf
        for f, m, ok in zip(case.features, case.mmd2, case.passed[GATES], strict=True)
    )


def maximum(case: SearchedCase, score: ScoreName) -> float:
    """The largest score of a case; −inf without a candidate."""
    return max(scores_of(case, score), default=-math.inf)


def calibrate(tissue: Tissue, cases: Iterable[SearchedCase], score: ScoreName) -> Calibration:
    """A calibration in which every block stands for a patient, which it is not."""
    settings = RejectSettings(mode="conformal", score=score)
    identity = run_identity(
        ContrastSegmenter().info, STUDY_SOURCE, plan_of(tissue), settings, rounds=1, preprocessing={}, gates={}
    )
    rows = []
    for number, case in enumerate(cases):
        scores = tuple(s for s in scores_of(case, score) if s > -math.inf)
        rows.append(CaseScores(case=str(number), patient=str(number), scores=scores))
    return build_calibration(identity, rows)


def p_values(calibration: Calibration, scores: Iterable[float]) -> tuple[float, ...]:
    """Case-maximum p of each score."""
    return tuple(case_maximum_p(calibration, score) for score in scores)


class Judged(NamedTuple):
    """The smallest p of each lesion-free block that was judged; `n` calibration blocks each (the smallest number)."""

    p: tuple[float, ...]
    n: int

    def level(self, alpha: float) -> Share | None:
        """Blocks called a finding at `alpha`; None where n blocks cannot serve it."""
        return share_of([p <= alpha for p in self.p]) if self.n + 1 >= 1.0 / alpha - 1e-9 else None


def same_scan(one: SearchedTissue, score: ScoreName) -> Judged:
    """Each block against all others of its scan. By the symmetry of ranks the level cannot exceed α: no evidence."""
    maxima = [maximum(case, score) for case in one.free]
    p = []
    for k, own in enumerate(maxima):
        others = one.free[:k] + one.free[k + 1 :]
        p.extend(p_values(calibrate(one.tissue, others, score), [own]))
    return Judged(tuple(p), len(maxima) - 1)


def halves(one: SearchedTissue) -> tuple[list[int], list[int]]:
    """Blocks of the two halves of the organ, cut across the axis along which its blocks spread most."""
    centres = np.asarray(one.centres_mm)
    axis = int(np.argmax(centres.std(axis=0)))
    order = np.argsort(centres[:, axis], kind="stable").tolist()
    return order[: len(order) // 2], order[len(order) // 2 :]


def other_half(one: SearchedTissue, score: ScoreName) -> Judged:
    """Each half judged by the other one."""
    first, second = halves(one)
    p: list[float] = []
    for own, others in ((first, second), (second, first)):
        calibration = calibrate(one.tissue, [one.free[k] for k in others], score)
        p.extend(p_values(calibration, [maximum(one.free[k], score) for k in own]))
    return Judged(tuple(p), min(len(first), len(second)))


def other_scans(one: SearchedTissue, others: Sequence[SearchedTissue], score: ScoreName) -> Judged:
    """All blocks judged by those of other scans."""
    calibration = calibrate(one.tissue, [case for other in others for case in other.free], score)
    return Judged(p_values(calibration, [maximum(case, score) for case in one.free]), calibration.n_cases)


def found(
    one: SearchedTissue, lesion: Lesion, calibration_for: Callable[[int], Calibration], score: ScoreName, alpha: float
) -> Share:
    """Implanted lesions that survive: a candidate that hits the lesion (IoU ≥ 0.1) with p ≤ `alpha`."""
    survived = []
    for k, case in one.implanted[lesion].items():
        p = p_values(calibration_for(k), scores_of(case, score))
        survived.append(any(hit and value <= alpha for hit, value in zip(case.hits, p, strict=True)))
    return share_of(survived)


def proposed(one: SearchedTissue, lesion: Lesion) -> Share:
    """Implanted lesions that some candidate hits before any test: what the segmenter leaves to be found."""
    return share_of([any(case.hits) for case in one.implanted[lesion].values()])


def same_organ(one: SearchedTissue, all_of_them: Sequence[SearchedTissue]) -> list[SearchedTissue]:
    """The other scans of the same organ, searched by the same request."""
    return [
        other
        for other in all_of_them
        if other is not one and (other.tissue.organ, other.tissue.request) == (one.tissue.organ, one.tissue.request)
    ]
