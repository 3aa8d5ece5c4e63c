"""Target-decoy competition against its definition, and its level where target and decoys are exchangeable."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from r2seg_agent.evals.fdr.competition import compete, decoy_q, decoys_needed, wins_needed

SCORE = st.one_of(st.integers(-3, 6).map(float), st.floats(-50, 50), st.just(-math.inf))


@st.composite
def units(draw: st.DrawFn) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    n, m = draw(st.integers(1, 25)), draw(st.integers(1, 4))
    flat = draw(st.lists(SCORE, min_size=n * (m + 1), max_size=n * (m + 1)))
    table = np.asarray(flat).reshape(n, m + 1)
    return table[:, 0], table[:, 1:]


def by_definition(targets: NDArray[np.float64], decoys: NDArray[np.float64]) -> list[float]:
    """The smallest (1 + D(t)) / (m T(t)) over every threshold t at or below the unit's winning score."""
    m = decoys.shape[1]
    winners = [(max(t, *row), t > max(row)) for t, row in zip(targets.tolist(), decoys.tolist(), strict=True)]
    q = []
    for score, won in winners:
        estimates = [1.0]
        for threshold, _ in winners:
            kept = sum(w for s, w in winners if s >= threshold)
            if threshold <= score and kept:
                estimates.append((1 + sum(not w for s, w in winners if s >= threshold)) / (m * kept))
        q.append(min(estimates) if won else 1.0)
    return q


@given(units())
def test_q_is_the_plus_one_estimator(case: tuple[NDArray[np.float64], NDArray[np.float64]]) -> None:
    assert decoy_q(*case) == pytest.approx(by_definition(*case))


@given(units(), st.integers(0, 9999))
def test_order_does_not_matter(case: tuple[NDArray[np.float64], NDArray[np.float64]], seed: int) -> None:
    targets, decoys = case
    order = np.random.default_rng(seed).permutation(len(targets))
    assert np.array_equal(decoy_q(targets[order], decoys[order][:, ::-1]), decoy_q(targets, decoys)[order])


@given(units())
def test_a_larger_score_never_has_the_larger_q(case: tuple[NDArray[np.float64], NDArray[np.float64]]) -> None:
    contest, q = compete(*case), decoy_q(*case)
    scores, of_winners = contest.score[contest.won], q[contest.won]
    assert (np.diff(of_winners[np.argsort(scores)]) <= 0).all()


@given(units(), st.floats(0.1, 9))
def test_only_the_order_of_scores_counts(case: tuple[NDArray[np.float64], NDArray[np.float64]], by: float) -> None:
    targets, decoys = (np.round(scores, 6) for scores in case)
    assert np.array_equal(decoy_q(targets * by, decoys * by), decoy_q(targets, decoys))


def test_ties_and_empty_regions_are_no_findings() -> None:
    assert decoy_q([-math.inf, 2.0], [-math.inf, 2.0]).tolist() == [1.0, 1.0]


@pytest.mark.parametrize(("m", "needed"), [(1, 20), (4, 5), (19, 2)])
def test_what_it_takes_to_keep_anything(m: int, needed: int) -> None:
    assert wins_needed(0.05, m) == needed
    for wins, some in ((needed - 1, False), (needed, True)):
        q = decoy_q(np.arange(1.0, wins + 1), np.zeros((wins, m)))
        assert bool((q <= 0.05).any()) is some


def test_one_scan_alone_needs_many_decoys() -> None:
    assert decoys_needed(0.05) == 19


@pytest.mark.parametrize("m", [1, 4])
@pytest.mark.parametrize("lesions", [0, 30])
def test_fdr_is_held_where_target_and_decoys_are_exchangeable(m: int, lesions: int) -> None:
    """Scans of very different noise: a scan's scores share a scale that no other scan has."""
    rng, alpha, trials = np.random.default_rng(m + lesions), 0.2, 1500
    share, found = [], 0
    for _ in range(trials):
        scale = np.exp(rng.normal(0, 1.5, (80, 1)))
        scores = scale * rng.gumbel(size=(80, m + 1))
        scores[:lesions, 0] += 12.0 * scale[:lesions, 0]
        kept = decoy_q(scores[:, 0], scores[:, 1:]) <= alpha
        found += int(kept[:lesions].sum())
        share.append(kept[lesions:].sum() / max(1, kept.sum()))
    error = float(np.std(share) / math.sqrt(trials))
    assert np.mean(share) <= alpha + 3 * error
    if lesions:
        assert found / (trials * lesions) > 0.7


def test_without_the_one_nothing_is_controlled() -> None:
    """The canary: the estimator of 2007 calls a finding in most data sets without a single lesion."""
    rng, alpha, trials, n = np.random.default_rng(5), 0.05, 2000, 50
    plain = with_one = 0
    for _ in range(trials):
        targets, decoys = rng.normal(size=(2, n))
        contest = compete(targets, decoys)
        best = np.argmax(contest.score)
        plain += bool(contest.won[best])  # 0 decoys / 1 target = 0
        with_one += bool((decoy_q(targets, decoys) <= alpha).any())
    assert plain / trials > 0.4
    assert with_one <= stats.binom.ppf(0.999, trials, alpha)


@pytest.mark.parametrize(
    ("targets", "decoys"), [([1.0], [1.0, 2.0]), ([[1.0]], [1.0]), ([1.0], np.empty((1, 0))), ([math.nan], [1.0])]
)
def test_refused(targets: object, decoys: object) -> None:
    with pytest.raises(ValueError, match="targets are|NaN"):
        compete(np.asarray(targets, dtype=float), np.asarray(decoys, dtype=float))
