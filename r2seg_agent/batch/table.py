"""The table of a batch: one row per case, as CSV and, where it can be written, Parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from r2seg_agent.batch.row import CaseRow
from r2seg_agent.files import write_bytes_atomic, write_text_atomic
from r2seg_agent.reject.fdr import benjamini_hochberg

TIMES = ("seconds", "peak_mb", "attempts", "node")
"""Columns that differ from run to run; all others are the same whenever the same cases run by the same options."""


def case_q_values(rows: Sequence[CaseRow]) -> dict[str, float]:
    """q by job key over the cases that have a valid p-value."""
    tested = [(row.key, row.p) for row in rows if row.p is not None]
    q = benjamini_hochberg([p for _, p in tested])
    return {key: float(value) for (key, _), value in zip(tested, q.tolist(), strict=True)}


def write_table(folder: Path, rows: Sequence[CaseRow], q: Mapping[str, float], part: str = "") -> tuple[str, ...]:
    """Write `results.csv` and `results.parquet` (with the extra `parquet`), rows in the order given; the file names.

    `part` is put behind `results`.
    """
    columns = (*CaseRow.model_fields, "q")
    columns = (*(c for c in columns if c not in TIMES), *TIMES)
    records = [{**row.model_dump(mode="json"), "q": q.get(row.key)} for row in rows]
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=columns, lineterminator="\n")
    writer.writeheader()
    for record in records:
        writer.writerow({name: _safe(record[name]) for name in columns})
    name = f"results{part}.csv"
    write_text_atomic(folder / name, text.getvalue())
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        return (name,)
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist([{name: r[name] for name in columns} for r in records]), sink)
    write_bytes_atomic(folder / f"results{part}.parquet", sink.getvalue().to_pybytes())
    return (name, f"results{part}.parquet")


def _safe(value: object) -> object:
    """A text that a spreadsheet would take for a formula is quoted."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@") else value
