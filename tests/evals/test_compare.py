"""Two runs on the same cases: against SciPy's permutation test and binomial test."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from helpers.evaluation_cases import FAST, case_of, many_cases, pair

from r2seg_agent.errors import InputError
from r2seg_agent.evals.compare import compare, mcnemar, paired_cases
from r2seg_agent.evals.evaluate import summarise
from r2seg_agent.evals.models import CaseEvaluation, Comparison, Evaluation
from r2seg_agent.evals.tables import comparison_markdown


def _two(n: int = 9, patients: int = 9, seed: int = 0) -> tuple[Evaluation, Evaluation]:
    """The same lesions, found badly and found well."""
    rng = np.random.default_rng(seed)
    first: list[CaseEvaluation] = []
    second: list[CaseEvaluation] = []
    for number in range(n):
        lesions, findings = pair(rng)
        patient = f"p{number % patients}"
        first.append(case_of(lesions, findings, number=number, patient=patient))
        better = np.where(rng.random(lesions.shape) < 0.97, lesions, 0)
        second.append(case_of(lesions, better, number=number, patient=patient))
    return summarise(first, FAST, name="bad"), summarise(second, FAST, name="good")


def test_differences_are_second_minus_first_and_turn_with_the_order() -> None:
    bad, good = _two()
    there, back = compare(bad, good), compare(good, bad)
    for a, b in zip(there.differences, back.differences, strict=True):
        if a.difference is None:
            continue
        assert a.first is not None
        assert a.second is not None
        assert a.difference == pytest.approx(a.second - a.first)
        assert b.difference == pytest.approx(-a.difference)
        assert (a.p is None) == (b.p is None)
        assert a.p == pytest.approx(b.p)
    gap = there.difference("voxel.dice")
    assert gap.low is not None
    assert gap.low > 0
    assert gap.p is not None
    assert gap.p <= 0.01
    assert Comparison.model_validate_json(there.model_dump_json()) == there
    assert "good against bad" in comparison_markdown(there)


def test_the_permutation_test_is_scipys() -> None:
    bad, good = _two(n=7, patients=7, seed=4)
    dice = [
        np.array([2 * c.voxels.tp / max(2 * c.voxels.tp + c.voxels.fp + c.voxels.fn, 1) for c in e.cases if c.voxels])
        for e in (bad, good)
    ]
    bearing = np.array([case.bearing for case in bad.cases])
    theirs = scipy.stats.permutation_test(
        (dice[1][bearing], dice[0][bearing]),
        lambda a, b: np.mean(a) - np.mean(b),
        permutation_type="samples",
        n_resamples=np.inf,
    )
    assert compare(bad, good).difference("voxel.dice").p == pytest.approx(theirs.pvalue)


def test_a_run_against_itself_differs_in_nothing() -> None:
    bad, _ = _two(n=4)
    same = compare(bad, bad)
    assert all(d.difference in (0.0, None) and d.p in (1.0, None) for d in same.differences)
    assert all(d.only_first == d.only_second == 0 and d.p == 1.0 for d in same.discordances)


def test_scans_of_one_patient_are_swapped_together() -> None:
    """One patient with many scans is one observation: nothing can be shown by it."""
    bad, good = _two(n=8, patients=1)
    found = compare(bad, good)
    assert found.difference("voxel.dice").p == 1.0
    assert found.difference("voxel.dice").low is None


def test_mcnemar_is_the_exact_binomial_test() -> None:
    for a in range(6):
        for b in range(6):
            expected = scipy.stats.binomtest(a, a + b).pvalue if a + b else 1.0
            assert mcnemar(a, b) == pytest.approx(expected)


def test_cases_are_paired_by_scan_and_request_not_by_place() -> None:
    bad, good = _two(n=5)
    turned = good.model_copy(update={"cases": good.cases[::-1][:4]})
    pairs = paired_cases(bad, turned)
    assert [(a.number, b.number) for a, b in pairs] == [(k, k) for k in range(1, 5)]
    found = compare(bad, turned)
    assert (found.paired, found.only_first, found.only_second) == (4, 1, 0)


def test_what_cannot_be_compared_is_refused() -> None:
    bad, good = _two(n=3)
    stricter = summarise(good.cases, FAST.model_copy(update={"iou": 0.5}), name="x")
    with pytest.raises(InputError, match="different settings: iou"):
        compare(bad, stricter)
    with pytest.raises(InputError, match="no evaluated case in common"):
        compare(bad, summarise(many_cases(1, 2, 2), FAST, name="x").model_copy(update={"cases": ()}))
    other = good.cases[0].model_copy(update={"lesions": good.cases[0].lesions[:-1]})
    with pytest.raises(InputError, match="different truths"):
        compare(bad, good.model_copy(update={"cases": (other,)}))
