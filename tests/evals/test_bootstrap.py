"""Intervals over patients: against SciPy, and what a bootstrap over patients must and must not do."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from helpers.evaluation_cases import FAST, many_cases
from hypothesis import given, settings
from hypothesis import strategies as st

from r2seg_agent.evals.bootstrap import (
    Estimate,
    Statistic,
    exact_share,
    interval,
    left_out_weights,
    patient_numbers,
    resample,
    resample_weights,
)
from r2seg_agent.evals.evaluate import figures_of, summarise
from r2seg_agent.evals.models import CaseEvaluation, Evaluation


def _mean(values: np.ndarray) -> Statistic:
    return lambda weights: ((weights @ values) / weights.sum(axis=1))[:, None]


@pytest.mark.parametrize("skewed", [False, True])
def test_bca_is_scipys(skewed: bool) -> None:
    rng = np.random.default_rng(3)
    values = rng.exponential(size=40) ** 2 if skewed else rng.normal(size=40)
    drawn = resample([_mean(values)], np.arange(40), 40, resamples=20_000, seed=1)[0]
    ours = interval(drawn.value[0], drawn.resampled[:, 0], drawn.left_out[:, 0], confidence=0.95)
    theirs = scipy.stats.bootstrap((values,), np.mean, method="BCa", n_resamples=20_000, rng=2).confidence_interval
    assert ours.interval == "BCa"
    width = theirs.high - theirs.low
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.03 * width)
    if skewed:
        plain = np.quantile(drawn.resampled, [0.025, 0.975])
        assert ours.low > plain[0]
        assert ours.high > plain[1] + 0.05 * width


def test_a_figure_undefined_in_most_draws_has_no_interval() -> None:
    gone = np.full(100, np.nan)
    gone[:40] = np.linspace(0, 1, 40)
    assert interval(0.5, gone, np.ones(3), confidence=0.95) == (0.5, None, None, "none")
    assert interval(math.nan, gone, np.ones(3), confidence=0.95).value is None


def test_exact_intervals_are_clopper_and_pearsons() -> None:
    for patients in (1, 3, 20):
        for k, value in ((0, 0.0), (patients, 1.0)):
            found = exact_share(Estimate(value, None, None, "none"), patients, 0.95)
            expected = scipy.stats.binomtest(k, patients).proportion_ci(0.95, method="exact")
            assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert exact_share(Estimate(0.0, 0.0, 0.9, "BCa"), 20, 0.95)[1:3] == (0.0, 0.9)


def test_draws_are_whole_patients() -> None:
    index, patients = patient_numbers(["b", "a", "b", "c", "a"])
    assert index.tolist() == [0, 1, 0, 2, 1]
    for weights in resample_weights(index, patients, 300, seed=5):
        assert (weights[:, 0] == weights[:, 2]).all()
        assert (weights[:, 1] == weights[:, 4]).all()
        assert (weights[:, 0] + weights[:, 1] + weights[:, 3] == patients).all()
    out = np.concatenate(list(left_out_weights(index, patients)))
    assert out.tolist() == [[0, 1, 0, 1, 1], [1, 0, 1, 1, 0], [1, 1, 1, 0, 1]]


def test_copies_of_a_patients_scans_do_not_narrow_an_interval() -> None:
    cases = many_cases(11, 24, 8)
    copied = [case.model_copy(update={"id": f"{case.id}{k}"}) for case in cases for k in range(5)]
    once, again = (figures_of(part, FAST, "score") for part in (cases, copied))
    for a, b in zip(once, again, strict=True):
        if a.key.startswith(("volume.agreement", "surface")):
            continue  # the SD of a sample knows its size
        assert (a.value, a.low, a.high) == pytest.approx((b.value, b.low, b.high), abs=1e-9), a.key
        assert a.patients == b.patients
    as_strangers = [case.model_copy(update={"patient": f"{case.patient}{k}"}) for k, case in enumerate(copied)]
    narrow = {f.key: f for f in figures_of(as_strangers, FAST, "score")}
    wide = {f.key: f for f in again}
    key = "lesion.iou.fp_per_scan"
    assert _width(narrow[key]) < 0.7 * _width(wide[key])


def _width(figure: object) -> float:
    low, high = getattr(figure, "low", None), getattr(figure, "high", None)
    assert low is not None
    assert high is not None
    return float(high - low)


def test_intervals_over_patients_cover_where_intervals_over_lesions_do_not() -> None:
    """Patients differ, lesions of one patient resemble each other: share of found lesions, true mean 0.5."""
    rng = np.random.default_rng(8)
    covered, naive, rounds, patients, each = 0, 0, 150, 30, 40
    for k in range(rounds):
        chance = rng.beta(0.8, 0.8, patients)
        found = rng.binomial(each, chance).astype(float)
        drawn = resample([_mean(found / each)], np.arange(patients), patients, resamples=400, seed=k)[0]
        ours = interval(drawn.value[0], drawn.resampled[:, 0], drawn.left_out[:, 0], confidence=0.95)
        assert ours.low is not None
        assert ours.high is not None
        covered += ours.low <= 0.5 <= ours.high
        by_lesion = scipy.stats.binomtest(int(found.sum()), patients * each).proportion_ci()
        naive += by_lesion.low <= 0.5 <= by_lesion.high
    assert covered >= 0.88 * rounds
    assert naive < 0.75 * rounds


@given(st.integers(0, 10_000))
@settings(max_examples=12, deadline=None)
def test_figures_do_not_depend_on_the_order_of_cases_and_keep_their_bounds(seed: int) -> None:
    cases = many_cases(seed, 9, 4)
    shuffled = [cases[k] for k in np.random.default_rng(seed).permutation(len(cases))]
    once = {f.key: f for f in figures_of(cases, FAST, "score")}
    again = {f.key: f for f in figures_of(shuffled, FAST, "score")}
    shares = ("paper.", "slice.", "scan.", "froc.", "voxel.dice", "voxel.s", "voxel.p", "lesion.dice", "lesion.iou.s")
    for key, figure in once.items():
        assert figure.value == pytest.approx(again[key].value, nan_ok=True), key
        assert figure.n == again[key].n
        if figure.low is not None and figure.high is not None:
            assert figure.low <= figure.high
        if key.startswith(shares):
            for value in (figure.value, figure.low, figure.high):
                assert value is None or -1e-9 <= value <= 1 + 1e-9, key


def test_the_same_seed_gives_the_same_bytes_and_json_is_exact() -> None:
    evaluation = _evaluation(many_cases(2, 10, 5))
    text = evaluation.model_dump_json()
    assert _evaluation(many_cases(2, 10, 5)).model_dump_json() == text
    assert Evaluation.model_validate_json(text) == evaluation


def _evaluation(cases: list[CaseEvaluation]) -> Evaluation:
    return summarise(cases, FAST, name="made up")
