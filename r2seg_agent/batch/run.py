"""`run_batch`: cases through an engine into a journal and tables; what is done is never done again."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from r2seg_agent.batch.engine import Engine, Work
from r2seg_agent.batch.gallery import gallery_html
from r2seg_agent.batch.journal import Journal, read_rows
from r2seg_agent.batch.local import run_local
from r2seg_agent.batch.one_reason import OneReason
from r2seg_agent.batch.row import CaseRow, Job
from r2seg_agent.batch.run_case import run_job
from r2seg_agent.batch.summary import BatchSummary, summarise, summary_markdown
from r2seg_agent.batch.table import (
    batch_findings,
    case_columns,
    case_q_values,
    case_records,
    write_findings,
    write_table,
)
from r2seg_agent.errors import BudgetError, InputError, R2SegError
from r2seg_agent.files import check_folder, write_text_atomic
from r2seg_agent.outcomes import DISCLAIMER
from r2seg_agent.reject.alpha import DEFAULT_ALPHA
from r2seg_agent.report.models import Report
from r2seg_agent.report.table_rows import dataframe, to_dataframe
from r2seg_agent.runs.options import RunOptions
from r2seg_agent.store.runs import RunFolder

if TYPE_CHECKING:
    from pandas import DataFrame

OnRow = Callable[[CaseRow, int, int], None]
"""Called with each new row, how many jobs are done, and how many there are."""


@dataclass(frozen=True, repr=False)
class BatchResult:
    """The rows of all cases by number, their summary, and the names of the files in the batch's `folder`."""

    rows: tuple[CaseRow, ...]
    summary: BatchSummary
    files: tuple[str, ...]
    repeated: int
    folder: Path

    def report(self, number: int) -> Report:
        """The report of case `number`, with its masks. Raises `InputError` for a case without one."""
        row = next((row for row in self.rows if row.number == number), None)
        if row is None or not row.run_id:
            known = ", ".join(str(row.number) for row in self.rows if row.run_id)
            raise InputError(f"there is no report of case {number}", f"Cases with a report: {known or 'none'}.")
        return Report.of_run(self.folder / "runs" / row.run_id)

    def to_dataframe(self, table: Literal["cases", "findings"] = "cases") -> DataFrame:
        """`results.csv` or `findings.csv` as a `pandas.DataFrame`; `MissingDependencyError` without pandas."""
        if table == "findings":
            return to_dataframe(batch_findings(self.folder, self.rows))
        return dataframe(case_columns(self.rows), case_records(self.rows, case_q_values(self.rows)))

    def __repr__(self) -> str:
        done = ", ".join(f"{count} {status.replace('_', ' ')}" for status, count in self.summary.statuses.items())
        return f"BatchResult({len(self.rows)} cases: {done or 'none'}; {self.summary.findings} findings. {DISCLAIMER})"

    def _repr_html_(self) -> str:
        return f"<p>{escape(repr(self))}</p><p>{escape(self.summary.guarantee)}</p>"


def shard(jobs: Sequence[Job], text: str) -> tuple[Job, ...]:
    """The part `i/n` (1-based) of `jobs`: every n-th, so that long neighbours spread. Raises `InputError`."""
    first, count = _part(text)
    return tuple(jobs[first - 1 :: count])


def run_batch(
    jobs: Sequence[Job],
    out: Path,
    *,
    engine: Engine = run_local,
    workers: int = 1,
    gpus_per_worker: float = 0.0,
    timeout_s: float | None = None,
    max_failures: int | None = None,
    alpha: float = DEFAULT_ALPHA,
    part: str | None = None,
    about: tuple[str, ...] = (),
    on_row: OnRow | None = None,
    stop: threading.Event | None = None,
    work: Work = run_job,
) -> BatchResult:
    """Run the jobs that no journal in `out` holds as done, then write table, summary and picture page.

    A job that failed, timed out or crashed before is tried again. Raises `BudgetError` (resumable) once more than
    `max_failures` cases of this call have failed, or after `stop` was set; cases under way are finished first. Without
    `max_failures` a batch whose first cases all fail for one reason (`OneReason`) stops, and raises that error.

    One process at a time holds `out`; with `part` (`i/n`) one for each part, which takes those jobs alone and has a
    journal and tables of its own (`journal-3-of-16.jsonl`). A later call without `part` finds all of them. `about` says
    how the data set was read, for the summary.
    """
    if len({job.key for job in jobs}) < len(jobs):
        raise InputError("a case is listed twice", "Remove the repeated row.")
    suffix = "" if part is None else "-{}-of-{}".format(*_part(part))
    own = jobs if part is None else shard(jobs, part)
    check_folder(out, f"`--out {out}`")
    with RunFolder(out, f"batch{suffix}").lock():
        finished = {row.key for row in _all_rows(out) if row.status == "done"}
        due = [job for job in own if job.key not in finished]
        stop = stop or threading.Event()
        journal, failures, done = Journal(out / f"journal{suffix}.jsonl"), 0, len(own) - len(due)
        one_reason, hopeless = OneReason(), False
        rows = engine(
            (_placed(job, out) for job in due),
            workers=min(workers, max(1, len(due))),
            gpus_per_worker=gpus_per_worker,
            timeout_s=timeout_s,
            stop=stop,
            work=work,
        )
        try:
            with contextlib.closing(journal), contextlib.closing(rows):
                for row in rows:
                    journal.add(row)
                    done += 1
                    failures += row.status != "done"
                    if on_row is not None:
                        on_row(row, done, len(own))
                    one_reason.add(row)
                    hopeless = hopeless or (max_failures is None and one_reason.enough)
                    if hopeless or (max_failures is not None and failures > max_failures):
                        stop.set()
        except BaseException:
            with contextlib.suppress(R2SegError):  # a full disk would hide what happened first
                _write(out, _last_rows(out, own), alpha, suffix, len(own), about)
            raise
        last = _last_rows(out, own)
        summary, files = _write(out, last, alpha, suffix, len(own), about)
    if hopeless or one_reason.of_the_set_up:
        one_reason.give_up(len(own) - done)
    if stop.is_set() and done < len(own):
        why = "stopped by you"
        if max_failures is not None and failures > max_failures:
            why = f"{failures} case{'s' * (failures != 1)} failed, more than --max-failures {max_failures}"
        hint = "The table says which and why. Give the same command again to go on; finished cases are not repeated."
        raise BudgetError(f"{why}; {done} of {len(own)} cases are finished", hint)
    return BatchResult(last, summary, files, len(own) - len(due), out)


def _part(text: str) -> tuple[int, int]:
    first, _, second = text.partition("/")
    if not (first.isdigit() and second.isdigit() and 1 <= int(first) <= int(second)):
        raise InputError(f"`--shard {text}` is no part", "Give i/n with 1 ≤ i ≤ n, for example 3/16.")
    return int(first), int(second)


def _write(
    out: Path, rows: Sequence[CaseRow], alpha: float, suffix: str, listed: int, about: tuple[str, ...]
) -> tuple[BatchSummary, tuple[str, ...]]:
    q = case_q_values(rows)
    files = (*write_table(out, rows, q, suffix), write_findings(out, rows, suffix))
    summary = summarise(rows, q, alpha, listed=listed, about=about)
    names = (f"summary{suffix}.json", f"summary{suffix}.md", f"index{suffix}.html")
    write_text_atomic(out / names[0], summary.model_dump_json(indent=2) + "\n")
    write_text_atomic(out / names[1], summary_markdown(summary, rows, q, suffix))
    write_text_atomic(out / names[2], gallery_html(out, summary, rows, q))
    return summary, (*files, *names)


def _all_rows(out: Path) -> Iterator[CaseRow]:
    for path in sorted(out.glob("journal*.jsonl")):
        yield from read_rows(path)


def _last_rows(out: Path, jobs: Sequence[Job]) -> tuple[CaseRow, ...]:
    """The row of every job that has one, by number: the last, but a done one before a failed one of another journal.

    Read at the end, so that the driver's memory stays flat until then.
    """
    numbers = {job.key: (job.number, job.case.further) for job in jobs}
    found: dict[str, CaseRow] = {}
    for row in _all_rows(out):
        if row.key in numbers and (row.status == "done" or found.get(row.key, row).status != "done"):
            number, further = numbers[row.key]
            found[row.key] = row.model_copy(update={"number": number, "further": further})
    return tuple(sorted(found.values(), key=lambda row: row.number))


def _placed(job: Job, out: Path) -> Job:
    """The job with its run below `out`; a case is done again rather than resumed, so nothing checkpoints."""
    placed = {"workspace": out, "store": "memory:", "out": None, "interactive": False}
    options: RunOptions = job.options.model_copy(update=placed)
    return job.model_copy(update={"options": options})
