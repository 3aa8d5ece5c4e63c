"""The tables of a batch: one row per case, as CSV and, where it can be written, Parquet; one row per finding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from r2seg_agent.batch.row import CaseRow
from r2seg_agent.files import write_bytes_atomic, write_text_atomic
from r2seg_agent.reject.fdr import benjamini_hochberg
from r2seg_agent.report.table_rows import FINDINGS_FILE, FindingRow, csv_text, findings_csv, read_findings_csv

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
    columns, records = case_columns(rows), case_records(rows, q)
    name = f"results{part}.csv"
    write_text_atomic(folder / name, csv_text(columns, records))
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        return (name,)
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist([{name: r[name] for name in columns} for r in records]), sink)
    write_bytes_atomic(folder / f"results{part}.parquet", sink.getvalue().to_pybytes())
    return (name, f"results{part}.parquet")


def case_columns(rows: Sequence[CaseRow]) -> tuple[str, ...]:
    """The columns of the table of cases: r2seg's own, those of the user's table, and last those that differ from run
    to run.
    """
    further = dict.fromkeys(_further_name(name) for row in rows for name in row.further)
    return (*(c for c in _OWN if c not in TIMES), *further, *TIMES)


_OWN = (*(name for name in CaseRow.model_fields if name != "further"), "q")


def _further_name(name: str) -> str:
    """A column of the user's table; one that is called as one of r2seg's own is marked."""
    return f"table_{name}" if name in _OWN else name


def case_records(rows: Sequence[CaseRow], q: Mapping[str, float]) -> list[dict[str, object]]:
    """One record per case, with its q-value where it has one."""
    further = dict.fromkeys(name for row in rows for name in row.further)
    return [
        {
            **{_further_name(name): row.further.get(name, "") for name in further},
            **row.model_dump(mode="json", exclude={"further"}),
            "q": q.get(row.key),
        }
        for row in rows
    ]


def write_findings(folder: Path, rows: Sequence[CaseRow], part: str = "") -> str:
    """Write `findings.csv`, the findings of all cases in the order of `rows`; the file's name."""
    name = f"findings{part}.csv"
    write_text_atomic(folder / name, findings_csv(batch_findings(folder, rows)))
    return name


def batch_findings(folder: Path, rows: Sequence[CaseRow]) -> Iterator[FindingRow]:
    """The rows of the findings table, each with the patient that the list of cases names.

    A run whose folder is gone, or was written by an older version, has none; its case still counts its findings.
    """
    for row in rows:
        if row.findings:
            yield from _findings_of(folder / "runs" / row.run_id, row.patient)


def _findings_of(run: Path, patient: str) -> tuple[FindingRow, ...]:
    try:
        return read_findings_csv((run / FINDINGS_FILE).read_text(encoding="utf-8"), patient=patient)
    except (OSError, ValueError):
        return ()
