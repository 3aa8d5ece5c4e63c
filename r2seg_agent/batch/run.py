"""`run_batch`: cases through an engine into a journal and tables; what is done is never done again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from r2seg_agent.batch.engine import Engine, Work
from r2seg_agent.batch.journal import Journal, read_rows
from r2seg_agent.batch.local import run_local
from r2seg_agent.batch.row import CaseRow, Job
from r2seg_agent.batch.table import BatchSummary, write_tables
from r2seg_agent.batch.work import run_job
from r2seg_agent.errors import BudgetError, InputError
from r2seg_agent.preparation import RunOptions
from r2seg_agent.store.runs import RunFolder

OnRow = Callable[[CaseRow, int, int], None]
"""Called with each new row, how many jobs are done, and how many there are."""


@dataclass(frozen=True)
class BatchResult:
    """The rows of all cases by number, their summary, and the names of the files in the batch's folder."""

    rows: tuple[CaseRow, ...]
    summary: BatchSummary
    files: tuple[str, ...]
    repeated: int


def shard(jobs: Sequence[Job], text: str) -> tuple[Job, ...]:
    """The part `i/n` (1-based) of `jobs`: every n-th, so that long neighbours spread. Raises `InputError`."""
    first, _, second = text.partition("/")
    if not (first.isdigit() and second.isdigit() and 1 <= int(first) <= int(second)):
        raise InputError(f"`--shard {text}` is no part", "Give i/n with 1 ≤ i ≤ n, for example 3/16.")
    return tuple(jobs[int(first) - 1 :: int(second)])


def run_batch(
    jobs: Sequence[Job],
    out: Path,
    *,
    engine: Engine = run_local,
    workers: int = 1,
    gpus_per_worker: float = 0.0,
    timeout_s: float | None = None,
    max_failures: int | None = None,
    alpha: float = 0.05,
    on_row: OnRow | None = None,
    stop: threading.Event | None = None,
    work: Work = run_job,
) -> BatchResult:
    """Run the jobs that `out/journal.jsonl` does not hold as done, then write the tables.

    A job that failed, timed out or crashed before is tried again. Raises `BudgetError` (resumable) once more than
    `max_failures` cases of this call have failed, or after `stop` was set; cases under way are finished first. One
    process at a time holds `out`.
    """
    if len({job.key for job in jobs}) < len(jobs):
        raise InputError("a case is listed twice", "Remove the repeated row.")
    with RunFolder(out, "batch").lock():
        finished = {row.key for row in read_rows(out / "journal.jsonl") if row.status == "done"}
        due = [job for job in jobs if job.key not in finished]
        stop = stop or threading.Event()
        journal, failures, done = Journal(out / "journal.jsonl"), 0, len(jobs) - len(due)
        placed = (job.model_copy(update={"options": _placed(job, out)}) for job in due)
        rows = engine(
            placed,
            workers=min(workers, max(1, len(due))),
            gpus_per_worker=gpus_per_worker,
            timeout_s=timeout_s,
            stop=stop,
            work=work,
        )
        try:
            for row in rows:
                journal.add(row)
                done += 1
                failures += row.status != "done"
                if on_row is not None:
                    on_row(row, done, len(jobs))
                if max_failures is not None and failures > max_failures:
                    stop.set()
        finally:
            rows.close()
            journal.close()
            last = _last_rows(out / "journal.jsonl", jobs)
            summary, files = write_tables(out, last, alpha)
    if stop.is_set() and done < len(jobs):
        why = "stopped by you"
        if max_failures is not None and failures > max_failures:
            why = f"{failures} case{'s' * (failures != 1)} failed, more than --max-failures {max_failures}"
        hint = "The table says which and why. Give the same command again to go on; finished cases are not repeated."
        raise BudgetError(f"{why}; {done} of {len(jobs)} cases are dealt with", hint)
    return BatchResult(last, summary, files, len(jobs) - len(due))


def _last_rows(path: Path, jobs: Sequence[Job]) -> tuple[CaseRow, ...]:
    """The last row of every job that has one. Read at the end, so that the driver's memory stays flat until then."""
    wanted = {job.key for job in jobs}
    rows = {row.key: row for row in read_rows(path) if row.key in wanted}
    return tuple(rows.values())


def _placed(job: Job, out: Path) -> RunOptions:
    """The job's options with its run below `out`; a case is done again rather than resumed, so nothing checkpoints."""
    return job.options.model_copy(update={"workspace": out, "store": "memory:", "out": None, "interactive": False})
