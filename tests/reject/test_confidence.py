"""The level of one calibration: its bound, and thresholds that hold alpha with a wanted confidence."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from r2seg_agent.reject.confidence import cases_for, confident_ranks, level_bound


@pytest.mark.parametrize(("n", "bound"), [(19, 0.146), (59, 0.103), (99, 0.090), (199, 0.078), (499, 0.067)])
def test_the_bound_is_the_quantile_of_the_levels_of_calibrations(n: int, bound: float) -> None:
    assert level_bound(n, 0.05) == pytest.approx(bound, abs=5e-4)
    cut = np.sort(np.random.default_rng(n).random((4000, n)), axis=1)[:, -int(0.05 * (n + 1) + 1e-9)]
    assert (1.0 - cut <= level_bound(n, 0.05)).mean() == pytest.approx(0.95, abs=0.02)


def test_a_level_that_no_case_can_reach_has_no_false_finding() -> None:
    assert level_bound(18, 0.05) == 0.0
    assert level_bound(3, 0.9999999999) == 1.0


@pytest.mark.parametrize(("n", "ranks"), [(44, 0), (45, 1), (99, 2), (199, 6), (499, 19)])
def test_the_threshold_is_the_largest_that_is_confident(n: int, ranks: int) -> None:
    assert confident_ranks(n, 0.05, 0.9) == ranks
    assert ranks == 0 or stats.beta.cdf(0.05, ranks, n + 1 - ranks) >= 0.9
    assert stats.beta.cdf(0.05, ranks + 1, n - ranks) < 0.9


def test_the_least_number_of_cases_is_told() -> None:
    assert (cases_for(0.05, 0.9), cases_for(0.05, 0.95)) == (45, 59)
    assert [confident_ranks(n, 0.05, 0.95) for n in (58, 59)] == [0, 1]
