"""One p over several search rounds: as defined, valid for exchangeable cases, and no maximum over scales."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from r2seg_agent.reject.rounds import RoundMaxima, least_count, weight


def _by_definition(all_cases: NDArray[np.float64]) -> float:
    """P of the last of (n + 1, rounds) cases, all rounds of all cases known."""
    rounds = all_cases.shape[1]
    ranks = (all_cases[None, :, :] >= all_cases[:, None, :]).sum(axis=1)
    best = [min((weight(r + 1) * int(k[r]), r) for r in range(rounds)) for k in ranks]
    return sum(one <= best[-1] for one in best) / len(best)


maxima = st.integers(1, 3).flatmap(
    lambda rounds: st.lists(
        st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.0, 5.0, -math.inf]), min_size=rounds, max_size=rounds),
        min_size=2,
        max_size=12,
    )
)


@given(cases=maxima)
def test_what_the_search_knows_gives_no_smaller_p_than_knowing_all(cases: list[list[float]]) -> None:
    table = np.array(cases)
    look_up = RoundMaxima(table[:-1].T)
    known = min((look_up.p(s, r) for r, s in enumerate(table[-1], start=1) if s > -math.inf), default=1.0)
    assert known >= _by_definition(table) - 1e-12 or (table[-1] == -math.inf).all()


@given(cases=st.lists(st.floats(-9, 9), min_size=1, max_size=30), score=st.floats(-10, 10))
def test_one_round_is_the_case_maximum(cases: list[float], score: float) -> None:
    expected = (1 + sum(m >= score for m in cases)) / (len(cases) + 1)
    assert RoundMaxima([cases]).p(score) == expected


@given(cases=maxima, more=st.floats(0.1, 3.0))
def test_a_larger_score_has_no_larger_p(cases: list[list[float]], more: float) -> None:
    table = np.array(cases)
    look_up = RoundMaxima(table.T)
    for r in range(1, table.shape[1] + 1):
        assert look_up.p(1.0 + more, r) <= look_up.p(1.0, r)


def test_the_level_is_held_over_all_rounds_and_candidates() -> None:
    """Rounds on scales of their own, dependent within a case; a lesion-free case is called no more often than alpha."""
    rng = np.random.default_rng(4)
    scale, n, alpha = np.array([1.0, 50.0, 200.0]), 79, 0.05

    def draw(count: int) -> NDArray[np.float64]:
        return (rng.gamma(2.0, size=(count, 1)) + rng.gamma(1.0, size=(count, 3))) * scale

    called, tests = 0, 0
    for _ in range(60):
        look_up = RoundMaxima(draw(n).T)
        for one in draw(40):
            called += min(look_up.p(s, r) for r, s in enumerate(one, start=1)) <= alpha
            tests += 1
    error = math.sqrt(alpha * (1 - alpha) / tests) + math.sqrt(alpha * (1 - alpha) / (n + 2) / 60)
    assert alpha / 2 < called / tests <= alpha + 4 * error


def test_a_round_of_large_scores_does_not_hide_a_finding_of_the_first() -> None:
    rng = np.random.default_rng(5)
    first, later = rng.normal(0, 1, 99), rng.normal(230, 60, 99)
    assert (1 + np.count_nonzero(np.maximum(first, later) >= 6.0)) / 100 == 1.0
    assert RoundMaxima([first, later, later + 1]).p(6.0, 1) == 0.01


def test_later_rounds_need_more_cases_for_the_same_p() -> None:
    cases = np.array([np.arange(59.0), np.arange(59.0)[::-1]])
    look_up = RoundMaxima(cases)
    assert look_up.p(100.0, 1) == 1 / 60
    assert look_up.p(100.0, 2) == 3 / 60


def test_not_a_number_is_no_finding() -> None:
    assert RoundMaxima([[1.0, 2.0]]).p(math.nan) == 1.0
    assert RoundMaxima([[1.0, 2.0], [1.0, 2.0]]).p(math.nan) == 1.0


def test_a_round_that_the_calibration_never_searched_is_refused() -> None:
    with pytest.raises(ValueError, match="round 2 of a calibration of 1"):
        RoundMaxima([[1.0]]).p(1.0, 2)


@given(cases=maxima)
def test_the_e_values_of_exchangeable_cases_have_the_mean_1(cases: list[list[float]]) -> None:
    """Exactly, for every table: whichever case is the scan, so the scan's has the expectation 1."""
    table = np.array(cases)
    values = [RoundMaxima(np.delete(table, i, axis=0).T).e(table[i].tolist()) for i in range(len(table))]
    assert np.mean(values) == pytest.approx(1.0)
    assert all(
        RoundMaxima(np.delete(table, i, axis=0).T).e(table[i, :1].tolist()) <= values[i] + 1e-12
        for i in range(len(table))
    ), "a round that was not reached counts as nothing"


def test_a_round_without_any_candidate_says_nothing() -> None:
    empty = RoundMaxima([[-math.inf] * 19] * 3)
    assert empty.e([-math.inf] * 3) == pytest.approx(1.0)
    assert empty.e([math.nan]) == pytest.approx(0.5)


def test_the_largest_of_all_has_the_largest_e() -> None:
    cases = RoundMaxima([np.arange(99.0)] * 3)
    ranks = np.arange(1, 101.0)
    largest = 100 / (1 / ranks**2).sum()
    assert cases.e([1000.0]) == pytest.approx(largest / 2)
    assert cases.e([-1.0, 1000.0]) == pytest.approx(largest / 4 + 1e-4 * largest / 2)
    assert RoundMaxima([np.arange(99.0)]).e([1000.0]) == pytest.approx(largest)
    with pytest.raises(ValueError, match="2 rounds reached of a calibration of 1"):
        RoundMaxima([[1.0]]).e([1.0, 2.0])


def test_the_least_p_of_a_round_is_reached_where_no_case_is_large_twice() -> None:
    cases = RoundMaxima([np.arange(79.0), np.roll(np.arange(79.0), 5), np.roll(np.arange(79.0), 9)])
    assert [round(80 * cases.p(1e9, r)) for r in (1, 2, 3)] == [least_count(r) for r in (1, 2, 3)] == [1, 3, 4]
