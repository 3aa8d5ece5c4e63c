"""q-values against scipy, and the properties that make them q-values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import false_discovery_control

from r2seg_agent.reject.fdr import (
    benjamini_hochberg,
    benjamini_yekutieli,
    conformal_e_values,
    e_benjamini_hochberg,
)

e_lists = st.lists(st.one_of(st.just(0.0), st.floats(0, 1e4)), min_size=1, max_size=40)
p_lists = st.lists(st.floats(0, 1), min_size=1, max_size=60)


@settings(deadline=None)
@given(p_lists)
def test_agrees_with_scipy(p: list[float]) -> None:
    assert np.allclose(benjamini_hochberg(p), false_discovery_control(p, method="bh"), rtol=1e-12)
    assert np.allclose(benjamini_yekutieli(p), false_discovery_control(p, method="by"), rtol=1e-12)


@settings(deadline=None)
@given(p_lists)
def test_q_keeps_the_order_of_p_and_never_lies_below_it(p: list[float]) -> None:
    q = benjamini_hochberg(p)
    order = np.argsort(p, kind="stable")
    assert (np.diff(q[order]) >= 0).all()
    assert (q >= np.array(p) * (1 - 1e-12)).all()
    assert (q <= 1).all()
    assert (benjamini_yekutieli(p) >= q * (1 - 1e-12)).all()


@settings(deadline=None)
@given(p_lists.flatmap(lambda p: st.tuples(st.just(p), st.permutations(range(len(p))))))
def test_order_of_candidates_does_not_matter(case: tuple[list[float], list[int]]) -> None:
    p, order = case
    assert np.array_equal(benjamini_hochberg([p[i] for i in order]), benjamini_hochberg(p)[order])


@settings(deadline=None)
@given(p_lists)
def test_rejections_are_those_of_the_step_up_rule(p: list[float]) -> None:
    """q ≤ α exactly for the k smallest p, k the largest rank with p_(k) ≤ αk/K."""
    alpha, K = 0.1, len(p)
    ranked = sorted(p)
    k = max((i for i in range(1, K + 1) if ranked[i - 1] * K / i <= alpha), default=0)
    assert int((benjamini_hochberg(p) <= alpha).sum()) == sum(v <= ranked[k - 1] for v in p if k)


def test_fdr_is_held_with_some_true_effects() -> None:
    """20 candidates, 15 of them null (uniform p): mean false discovery proportion at most α·15/20 plus 4 SE."""
    rng = np.random.default_rng(0)
    fdp = []
    for _ in range(2000):
        p = np.concatenate([rng.random(15), rng.random(5) * 1e-3])
        rejected = benjamini_hochberg(p) <= 0.1
        fdp.append(rejected[:15].sum() / max(1, rejected.sum()))
    assert np.mean(fdp) <= 0.075 + 4 * np.std(fdp) / np.sqrt(len(fdp))
    assert np.mean(fdp) > 0.05


def test_nothing_in_nothing_out() -> None:
    assert benjamini_hochberg([]).size == 0
    assert benjamini_yekutieli([]).size == 0


@pytest.mark.parametrize("p", [[1.2], [-0.1, 0.5], [float("nan")]])
def test_refuses_what_is_no_p_value(p: list[float]) -> None:
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        benjamini_hochberg(p)


def rejected_by_definition(e: list[float], alpha: float) -> set[int]:
    """e-BH as Wang & Ramdas (2022) write it: the k̂ largest, k̂ = max{k : k e_[k] / K ≥ 1 / α}."""
    order = sorted(range(len(e)), key=lambda k: -e[k])
    k_hat = max((k for k in range(1, len(e) + 1) if k * e[order[k - 1]] / len(e) >= 1 / alpha), default=0)
    return {k for k in range(len(e)) if k_hat and e[k] >= e[order[k_hat - 1]]}


@settings(deadline=None)
@given(e_lists, st.sampled_from([0.01, 0.07, 0.13, 0.31]))
def test_e_bh_rejects_what_its_definition_rejects(e: list[float], alpha: float) -> None:
    assert set(np.flatnonzero(e_benjamini_hochberg(e) <= alpha).tolist()) == rejected_by_definition(e, alpha)


@settings(deadline=None)
@given(e_lists.flatmap(lambda e: st.tuples(st.just(e), st.lists(st.booleans(), min_size=len(e), max_size=len(e)))))
def test_no_dependence_whatever_can_break_the_level_of_e_bh(case: tuple[list[float], list[bool]]) -> None:
    """For every outcome, not on average: false discovery proportion ≤ α/K · Σ of the nulls' e-values. So with e-values
    of expectation at most 1 the FDR is at most α, however an adversary makes them hang together."""
    e, null = np.array(case[0]), np.array(case[1])
    for alpha in (0.05, 0.2):
        rejected = e_benjamini_hochberg(e) <= alpha
        proportion = (rejected & null).sum() / max(1, rejected.sum())
        assert proportion <= alpha / len(e) * e[null].sum() * (1 + 1e-12)


@settings(deadline=None)
@given(st.lists(st.one_of(st.floats(-50, 50), st.sampled_from([0.0, 1.0])), min_size=2, max_size=25))
def test_conformal_e_values_average_to_one_over_who_is_the_test_case(scores: list[float]) -> None:
    """Exchangeability makes every rotation equally likely, so the expectation is this average: exactly 1."""
    e = [conformal_e_values(scores[:k] + scores[k + 1 :], [scores[k]])[0] for k in range(len(scores))]
    assert np.mean(e) == pytest.approx(1.0, rel=1e-9)
    assert min(e) >= 0


def test_e_bh_holds_its_level_where_candidates_share_their_noise() -> None:
    """All null scores of a scan move together (the adversary's choice), a third of the scan is real."""
    rng = np.random.default_rng(4)
    proportions, powers = [], []
    for _ in range(1500):
        null = rng.standard_normal(400)
        scores = np.concatenate([np.full(8, rng.standard_normal()), rng.normal(6, 1, 4)])
        rejected = e_benjamini_hochberg(conformal_e_values(null, scores)) <= 0.1
        proportions.append(rejected[:8].sum() / max(1, rejected.sum()))
        powers.append(rejected[8:].mean())
    assert np.mean(proportions) <= 0.1 * 8 / 12 + 3 * np.std(proportions) / np.sqrt(len(proportions))
    assert np.mean(powers) > 0.5


def test_far_beyond_all_null_scores_an_e_value_reaches_n_plus_one() -> None:
    null = np.random.default_rng(5).standard_normal(99)
    assert conformal_e_values(null, [40.0])[0] == pytest.approx(100.0)
    near, far = conformal_e_values(null, [3.0, 6.0])
    assert 1 < near < far < 100
    assert conformal_e_values([], [3.0]).tolist() == [1.0]
    assert conformal_e_values([2.0] * 20, [1.0])[0] <= 1.0


@pytest.mark.parametrize("e", [[-0.1], [float("nan"), 1.0]])
def test_refuses_what_is_no_e_value(e: list[float]) -> None:
    with pytest.raises(ValueError, match="at least 0"):
        e_benjamini_hochberg(e)
