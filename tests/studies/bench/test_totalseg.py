"""The benchmark measures one side, compares labels, and prints a table that says when they differ."""

import os
import sys
from pathlib import Path

import pytest

from studies.bench import totalseg as bench

TINY = Path(__file__).parents[2] / "data" / "tiny_totalseg"


def _run(labels: str, seconds: float, gb: float | None) -> bench.Run:
    return bench.Run(first_s=seconds, second_s=seconds / 2, labels_sha256=labels, peak_gb=gb)


def test_our_side_prints_what_it_measured(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(bench, "SPACING_MM", (9.0, 8.0, 8.0))
    assert bench.main(["--side", "ours", "--weights", str(TINY)]) == 0
    first = bench.Run.model_validate_json(capsys.readouterr().out)
    assert first.first_s > 0
    assert first.second_s > 0
    assert bench.measure_here("ours", TINY).labels_sha256 == first.labels_sha256


def test_table_gives_the_ratios_and_the_agreement():
    text = bench.table(bench.Comparison(ours=_run("a", 2.0, 1.0), stock=_run("a", 9.0, 2.5)))
    assert "| 4.5× | 4.5× | 2.5× |" in text
    assert "yes, every voxel" in text


def test_different_labels_are_shouted_and_memory_may_be_unknown():
    text = bench.table(bench.Comparison(ours=_run("a", 2.0, None), stock=_run("b", 9.0, 2.5)))
    assert "Same labels: NO" in text
    assert "n/a" in text


def test_different_labels_fail_the_benchmark(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    different = bench.Comparison(ours=_run("a", 2.0, 1.0), stock=_run("b", 9.0, 2.5))
    monkeypatch.setattr(bench, "compare", lambda weights: different)
    assert bench.main([]) == 1
    assert "NO" in capsys.readouterr().out


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_of_this_session_is_counted():
    assert bench._session_bytes(os.getsid(0)) > 10_000_000
