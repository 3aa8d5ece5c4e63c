"""FROC against MONAI and a plain loop, ROC against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.evaluation_cases import candidate, case_of, many_cases
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics.froc import compute_froc_curve_data
from sklearn.metrics import auc, roc_auc_score

from r2seg_agent.evals.detection import free_scan
from r2seg_agent.evals.froc import froc_of, rank_value
from r2seg_agent.evals.models import CaseEvaluation, Criterion
from r2seg_agent.evals.roc import roc_of

SEEDS = st.integers(0, 10_000)


def _probabilities(cases: list[CaseEvaluation], criterion: Criterion) -> tuple[list[float], list[float]]:
    """Scores of the false positives, and of each lesion by its best candidate (0 for none: below all)."""
    false, true = [], []
    for case in cases:
        best = {m.label: 0.0 for m in case.lesions}
        for c in case.candidates or ():
            hits = c.hits_iou if criterion == "iou" else c.hits_overlap
            value = 100 + rank_value(c, "score")
            if not hits:
                false.append(value)
            for label in hits:
                best[label] = max(best[label], value)
        true += list(best.values())
    return false, true


@given(SEEDS, st.sampled_from(["iou", "overlap"]))
@settings(max_examples=30, deadline=None)
def test_the_froc_curve_is_monais(seed: int, criterion: Criterion) -> None:
    cases = many_cases(seed, 12, 5)
    false, true = _probabilities(cases, criterion)
    if not true or not false:
        return
    # MONAI leaves out its lowest threshold: the 0 of missed lesions, but without those a real candidate.
    floor = [] if 0.0 in true else [-1.0]
    rate, found = compute_froc_curve_data(np.array(false), np.array([*true, *floor]), len(true), len(cases))
    theirs = {(round(float(a), 9), round(float(b), 9)) for a, b in zip(rate, found, strict=True)}
    ours = {(round(p.x, 9), round(p.y, 9)) for p in froc_of(cases, "score", criterion).points()}
    assert theirs == ours


@given(SEEDS)
@settings(max_examples=20, deadline=None)
def test_sensitivity_at_a_rate_is_the_best_threshold_that_keeps_it(seed: int) -> None:
    cases = many_cases(seed, 10, 4)
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(4, [0.25] * 4)[[int(case.patient[1:]) for case in cases]].astype(float)
    curve = froc_of(cases, "score", "iou")
    if not (weights[curve.lesion_case].sum() and weights.sum()):
        return
    for rate in (0.0, 0.3, 1.0, 2.0):
        best = 0.0
        for threshold in [np.inf, *curve.thresholds]:
            false = hits = 0.0
            for case, weight in zip(cases, weights, strict=True):
                above = [c for c in case.candidates or () if rank_value(c, "score") >= threshold]
                false += weight * sum(not c.hits_iou for c in above)
                hits += weight * len({label for c in above for label in c.hits_iou})
            if false / weights.sum() <= rate + 1e-12:
                best = max(best, hits / weights[curve.lesion_case].sum())
        assert curve.sensitivity_at(weights[None], [rate])[0, 0] == pytest.approx(best)


def test_a_second_candidate_on_a_lesion_is_neither_hit_nor_false() -> None:
    lesions = np.zeros((3, 6, 6), int)
    lesions[1, 1:3, 1:3] = 1
    both = (candidate("a", 3.0, (1,)), candidate("b", 2.0, (1,)), candidate("c", 1.0), candidate("d", None))
    points = froc_of([case_of(lesions, lesions, candidates=both)], "score", "iou").points()
    assert [(p.x, p.y) for p in points] == [(0, 0), (0, 1), (1, 1), (2, 1)]


def test_cases_without_candidates_are_no_scans_of_the_curve() -> None:
    cases = many_cases(4, 8, 4)
    bare = [case.model_copy(update={"candidates": None, "id": f"x{case.id}"}) for case in cases]
    assert froc_of([*cases, *bare], "score", "iou").points() == froc_of(cases, "score", "iou").points()
    assert roc_of([*cases, *bare], "score").points() == roc_of(cases, "score").points()


def test_false_positives_of_lesion_free_scans_alone() -> None:
    cases = many_cases(9, 20, 10)
    alone = froc_of(cases, "score", "iou", counts=free_scan)
    free = [case for case in cases if not case.bearing]
    false = sum(not c.hits_iou for case in free for c in case.candidates or ())
    assert alone.points()[-1].x == pytest.approx(false / len(free))
    assert froc_of([c for c in cases if c.bearing], "score", "iou", counts=free_scan).points() == ()


@given(SEEDS)
@settings(max_examples=30, deadline=None)
def test_the_area_is_scikit_learns_for_any_weights(seed: int) -> None:
    cases = many_cases(seed, 14, 6)
    if len({case.bearing for case in cases}) < 2:
        return
    rng = np.random.default_rng(seed)
    weights = rng.integers(0, 4, len(cases)).astype(float)
    weights[[next(i for i, c in enumerate(cases) if c.bearing == kind) for kind in (True, False)]] = 1
    scores = [max((rank_value(c, "score") for c in case.candidates or ()), default=-99.0) for case in cases]
    ours = roc_of(cases, "score").auc(weights[None])[0, 0]
    assert ours == pytest.approx(roc_auc_score([c.bearing for c in cases], scores, sample_weight=weights))
    points = roc_of(cases, "score").points()
    assert auc([p.x for p in points], [p.y for p in points]) == pytest.approx(
        roc_of(cases, "score").auc(np.ones((1, len(cases))))[0, 0]
    )


def test_without_both_kinds_of_scan_there_is_no_area() -> None:
    cases = [case for case in many_cases(2, 12, 4) if case.bearing]
    assert np.isnan(roc_of(cases, "score").auc(np.ones((1, len(cases))))).all()
    assert roc_of(cases, "score").points() == ()


def test_p_values_rank_from_small_to_large() -> None:
    assert rank_value(candidate("a", 3.0), "p") > rank_value(candidate("b", 1.0), "p")
    assert rank_value(candidate("c", None), "p") < rank_value(candidate("b", -1.0), "p")
