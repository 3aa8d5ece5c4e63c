"""q-values against scipy, and the properties that make them q-values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import false_discovery_control

from r2seg_agent.reject.alpha import within
from r2seg_agent.reject.fdr import benjamini_hochberg

p_lists = st.lists(st.floats(0, 1), min_size=1, max_size=60)


@settings(deadline=None)
@given(p_lists)
def test_agrees_with_scipy(p: list[float]) -> None:
    assert np.allclose(benjamini_hochberg(p), false_discovery_control(p, method="bh"), rtol=1e-12)


@settings(deadline=None)
@given(p_lists)
def test_q_keeps_the_order_of_p_and_never_lies_below_it(p: list[float]) -> None:
    q = benjamini_hochberg(p)
    order = np.argsort(p, kind="stable")
    assert (np.diff(q[order]) >= 0).all()
    assert (q >= np.array(p) * (1 - 1e-12)).all()
    assert (q <= 1).all()


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


@pytest.mark.parametrize("p", [[1.2], [-0.1, 0.5], [float("nan")]])
def test_refuses_what_is_no_p_value(p: list[float]) -> None:
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        benjamini_hochberg(p)


def test_a_q_that_is_the_level_in_exact_arithmetic_is_within_it() -> None:
    """p = k / 1000 at rank j of K: q = p · K / j, exactly 0.05 in many, above it in floating point in some of them."""
    ties = [(k, j, K) for K in range(1, 60) for j in range(1, K + 1) for k in range(1, 51) if 20 * k * K == 1000 * j]
    q = [benjamini_hochberg([k / 1000] * j + [1.0] * (K - j))[0] for k, j, K in ties]
    assert sum(value > 0.05 for value in q) > 0.02 * len(q)
    assert all(within(value, 0.05) for value in q)
    assert not within(0.05 + 1e-9, 0.05)
    assert not within(float("nan"), 0.05)
