"""The benchmark runs on little data and agrees with its peers (it stops where it does not)."""

from __future__ import annotations

import json

import pytest

from studies.bench.froc import main


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_benchmark_agrees_with_its_peers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--small"]) == 0
    told = capsys.readouterr().out
    rows = json.loads(told.split("```json")[1].split("```")[0])
    assert {row["task"].split(",")[0] for row in rows} >= {"FROC curve", "lesions of a mask", "BCa intervals"}
    assert sum("MONAI" in row["what"] for row in rows) == 2
