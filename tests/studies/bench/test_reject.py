"""The bench of FDR and look-up compares every peer's numbers with ours before it prints a ratio."""

from __future__ import annotations

import pytest

from studies.bench import reject as bench_reject


def test_tables_have_a_row_per_size(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(bench_reject, "FAMILIES", (5, 20))
    monkeypatch.setattr(bench_reject, "CASES", (30,))
    monkeypatch.setattr(bench_reject, "BATCH_S", 0.0)
    assert bench_reject.main() == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|") and "---" not in line]
    assert [row.split("|")[1].strip() for row in rows] == ["correction", "BH", "BH", "cases", "30"] + ["cases", "30"]
    assert all("nan" not in row for row in rows)


def test_a_peer_that_counts_otherwise_stops_the_bench(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_reject, "CASES", (30,))
    monkeypatch.setattr(bench_reject, "_searchsorted", lambda maxima, score: 0.5)
    with pytest.raises(AssertionError, match="searchsorted"):
        bench_reject.look_ups()
