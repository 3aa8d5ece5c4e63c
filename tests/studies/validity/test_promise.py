"""The conditions of the promise, small: the rule that holds each of them does, and without it the level is lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from studies.validity.promise import (
    N_CASES,
    SCANNER,
    SURROUNDINGS,
    PromiseResults,
    implant,
    largest_false,
    measure_calibration,
    measure_failures,
    measure_later,
    searched,
)
from studies.validity.promise_page import PAGE, RESULTS, TABLES
from studies.validity.store import SyntheticCell
from studies.validity.tables import replace_tables


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(8)


def test_cases_that_failed_and_were_left_out_cost_the_level(rng: np.random.Generator) -> None:
    found = measure_failures(99, 60, 100, rng)
    assert found.dropped.value - 4 * found.dropped.se > 0.07
    assert found.kept.value <= 0.05 + 4 * found.kept.se


def test_a_level_chosen_later_costs_the_promise_and_the_e_value_keeps_it(rng: np.random.Generator) -> None:
    found = measure_later(39, 30, 40, rng)
    assert found.by_p.value - 4 * found.by_p.se > 1.2
    assert found.by_e.value <= 1.0


def test_the_bound_of_one_calibration_holds_over_three_rounds(rng: np.random.Generator) -> None:
    found = measure_calibration(99, 3, 300, rng)
    assert found.quantile == pytest.approx(found.bound, abs=0.012)
    assert found.held is not None
    assert found.held.value > 0.9


def test_a_lesion_does_not_raise_the_scores_of_other_candidates_unless_they_belong_to_it() -> None:
    """The condition under which false findings beside a lesion are as rare as without one."""
    scenes = [SyntheticCell(scanner=SCANNER).make(N_CASES + k) for k in range(10)]
    before = [largest_false(searched(scene)) for scene in scenes]
    assert np.isfinite(before).any()
    after = {
        name: [largest_false(searched(implant(scene, SURROUNDINGS[name]))) for scene in scenes]
        for name in ("a ball", "a ball with oedema", "a ball with satellites")
    }
    rose = {name: sum(now > then for now, then in zip(own, before, strict=True)) for name, own in after.items()}
    assert rose["a ball"] <= 2
    assert rose["a ball with oedema"] <= 2
    assert rose["a ball with satellites"] >= 3
    assert max(after["a ball"]) <= max(before)


def test_the_page_has_the_figures_of_the_results(tmp_path: Path) -> None:
    results = PromiseResults.model_validate_json(RESULTS.read_bytes())
    copy = tmp_path / PAGE.name
    copy.write_bytes(PAGE.read_bytes())
    replace_tables(copy, {name: table(results) for name, table in TABLES.items()})
    assert copy.read_bytes() == PAGE.read_bytes(), "run: python -m studies.validity.promise_page --tables"
