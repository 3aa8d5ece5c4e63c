"""The benchmark of the MMD test runs, says what it skipped, and its numbers come back as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from studies.bench import mmd as bench_mmd


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_mmd, "SIZE", 60)
    monkeypatch.setattr(bench_mmd, "CANDIDATES", 3)
    monkeypatch.setattr(bench_mmd, "PERMUTATIONS", 20)


def test_rows_agree_and_skipped_ones_say_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench_mmd.main(["--skip-hyppo", "--skip-alibi", "--json", str(tmp_path / "b.json")]) == 0
    printed = capsys.readouterr().out
    report = json.loads((tmp_path / "b.json").read_text())
    rows = {row["what"]: row for row in report["rows"]}
    low, exact = rows["r2seg low-rank, 1 candidate"], rows["r2seg exact, 1 candidate"]
    assert low["p"] == exact["p"]
    assert low["note"] == exact["note"]
    assert rows["hyppo MMD"]["seconds"] is None
    assert printed.count("| skipped: on request |") == 2


def test_an_environment_without_alibi_detect_is_a_skipped_row(capsys: pytest.CaptureFixture[str]) -> None:
    bench_mmd.main(["--skip-hyppo", "--alibi-python", sys.executable])
    assert "skipped: ModuleNotFoundError: No module named 'alibi_detect'" in capsys.readouterr().out
