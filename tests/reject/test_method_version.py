"""The version of the method in a calibration's identity: it changes whenever what a scan scores does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.golden_scores import golden_scores

from r2seg_agent.reject.calibration import METHOD_VERSION

GOLDEN = Path(__file__).with_name("golden_scores.json")


def test_the_scores_of_this_version_are_the_golden_ones() -> None:
    """Where this fails, a calibration made before the change would judge scans by other scores than its own cases'."""
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    found = golden_scores()
    if golden["method"] != METHOD_VERSION:
        pytest.fail(f"write the scores of version {METHOD_VERSION} into {GOLDEN.name}: {json.dumps(found)}")
    assert found.keys() == golden["scores"].keys()
    for name, rounds in golden["scores"].items():
        assert len(found[name]) == len(rounds)
        for now, then in zip(found[name], rounds, strict=True):
            assert now == pytest.approx(then, rel=1e-3), (
                f"`{name}` gives other scores: raise METHOD_VERSION in reject/calibration.py"
            )
