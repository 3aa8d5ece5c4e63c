"""The frozen score: plain numbers, checked as they are read; refused where they were fitted on other features."""

from __future__ import annotations

import json
from importlib import resources

import numpy as np
import pytest

from r2seg_agent.errors import InputError
from r2seg_agent.segment.regions.describe import FEATURES
from r2seg_agent.segment.regions.score import MAX_BYTES, Trees, read_score, shipped


def document() -> dict[str, object]:
    read: dict[str, object] = json.loads(
        resources.files("r2seg_agent.segment.regions").joinpath("score.json").read_bytes()
    )
    return read


def test_the_shipped_score_ranks_and_names_what_it_was_fitted_on() -> None:
    score, sha256 = shipped()
    assert len(sha256) == 64
    assert {"images", "patients", "kinds", "licences", "for", "fails"} <= set(score.card)
    assert score.cuts["0.5"] > score.cuts["1"] > score.cuts["3"]
    values = np.random.default_rng(0).normal(size=(50, len(FEATURES)))
    assert np.isfinite(score(values)).all()
    assert len(set(score(values).tolist())) > 10
    assert score(np.zeros((0, len(FEATURES)))).shape == (0,)


def test_a_score_of_another_feature_version_is_refused() -> None:
    with pytest.raises(InputError, match="version 99") as error:
        read_score(json.dumps(document() | {"feature_version": 99}).encode())
    assert "studies.finder.fit" in error.value.hint


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: d["trees"]["left"].__setitem__(0, 10**6),
        lambda d: d["trees"]["right"].__setitem__(0, 0),
        lambda d: d["trees"]["feature"].__setitem__(0, 999),
        lambda d: d["trees"]["value"].pop(),
        lambda d: d["logistic"]["weights"].pop(),
        lambda d: d["trees"].__setitem__("sd", 0.0),
    ],
)
def test_a_damaged_score_is_refused(damage: object) -> None:
    changed = document()
    damage(changed)  # type: ignore[operator]
    with pytest.raises(InputError, match="no score that r2seg can use"):
        read_score(json.dumps(changed).encode())


def test_a_score_of_any_size_is_not_read() -> None:
    with pytest.raises(InputError, match="at most 200 kB"):
        read_score(b" " * (MAX_BYTES + 1))


def test_trees_add_the_leaf_that_each_row_reaches() -> None:
    trees = Trees(
        baseline=1.0, roots=(0,), feature=(2, 0, 0), threshold=(0.5, 0.0, 0.0), left=(1, 0, 0), right=(2, 0, 0),
        value=(0.0, 10.0, 20.0), mean=1.0, sd=2.0,
    )  # fmt: skip
    values = np.zeros((3, len(FEATURES)))
    values[:, 2] = [0.0, 0.5, 0.6]
    assert trees(values).tolist() == [5.0, 5.0, 10.0]


def test_the_share_of_a_group_that_is_too_small_is_that_of_all() -> None:
    score, _ = shipped()
    high = max(row.low for row in score.reference if row.group == "all")
    share = score.share(high + 0.1, "unknown")
    assert share is not None
    assert share.group == "all"
    assert 0.0 <= share.low <= share.share <= share.high <= 1.0
