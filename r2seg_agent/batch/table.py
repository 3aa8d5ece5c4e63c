"""The results of a batch: one table (CSV, Parquet where it can be written) and a summary."""

from __future__ import annotations

import csv
import io
import statistics
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from r2seg_agent.atomic import write_bytes_atomic, write_text_atomic
from r2seg_agent.batch.row import CaseRow
from r2seg_agent.frozen import Frozen
from r2seg_agent.reject.fdr import benjamini_hochberg

TIMES = ("seconds", "peak_mb", "attempts", "node")
"""Columns that differ from run to run; all others are the same whenever the same cases run by the same options."""


class BatchSummary(Frozen):
    """What a batch came to. `flagged` are the scans whose case-level q is at most `alpha`: the false discovery rate of
    flagged scans is then at most `alpha` (Benjamini-Hochberg over case-level conformal p-values, which share one
    calibration and so depend positively on each other; Bates et al. 2023)."""

    cases: int
    statuses: dict[str, int]
    outcomes: dict[str, int]
    findings: int
    alpha: float
    flagged: int | None
    median_seconds: float | None
    median_dice: float | None


def case_q_values(rows: Sequence[CaseRow]) -> dict[str, float]:
    """q by job key over the cases that have a valid p-value."""
    tested = [(row.key, row.p) for row in rows if row.p is not None]
    q = benjamini_hochberg([p for _, p in tested])
    return {key: float(value) for (key, _), value in zip(tested, q.tolist(), strict=True)}


def write_tables(folder: Path, rows: Sequence[CaseRow], alpha: float) -> tuple[BatchSummary, tuple[str, ...]]:
    """Write `results.csv`, `results.parquet` (with the extra `parquet`) and `summary.json`; rows by case number."""
    ordered = sorted(rows, key=lambda row: row.number)
    q = case_q_values(ordered)
    columns = (*CaseRow.model_fields, "q")
    columns = (*(c for c in columns if c not in TIMES), *TIMES)
    records = [{**row.model_dump(mode="json"), "q": q.get(row.key)} for row in ordered]
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=columns, lineterminator="\n")
    writer.writeheader()
    for record in records:
        writer.writerow({name: _safe(record[name]) for name in columns})
    write_text_atomic(folder / "results.csv", text.getvalue())
    files = ["results.csv"]
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        pass
    else:
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist([{name: r[name] for name in columns} for r in records]), sink)
        write_bytes_atomic(folder / "results.parquet", sink.getvalue().to_pybytes())
        files.append("results.parquet")
    dice = [row.dice for row in ordered if row.dice is not None]
    done = [row.seconds for row in ordered if row.status == "done"]
    summary = BatchSummary(
        cases=len(ordered),
        statuses=dict(sorted(Counter(row.status for row in ordered).items())),
        outcomes=dict(sorted(Counter(str(row.outcome) for row in ordered if row.outcome).items())),
        findings=sum(row.findings for row in ordered),
        alpha=alpha,
        flagged=sum(value <= alpha for value in q.values()) if q else None,
        median_seconds=statistics.median(done) if done else None,
        median_dice=statistics.median(dice) if dice else None,
    )
    write_text_atomic(folder / "summary.json", summary.model_dump_json(indent=2) + "\n")
    return summary, (*files, "summary.json")


def _safe(value: object) -> object:
    """A text that a spreadsheet would take for a formula is quoted."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@") else value
