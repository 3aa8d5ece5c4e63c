"""What a worker does with one job. Runs in a process of its own; models stay loaded between jobs."""

from __future__ import annotations

import ctypes
import resource
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from r2seg_agent.batch.command import find_command
from r2seg_agent.batch.row import CaseRow, Job
from r2seg_agent.errors import R2SegError, RunIsOpenError
from r2seg_agent.report.models import Report
from r2seg_agent.runs.api import FindResult, run_find
from r2seg_agent.runs.loaded import LoadedModels

if TYPE_CHECKING:
    from r2seg_agent.runs.session import Session

SAME_RUN_WAIT_S = 3600.0

_loaded = LoadedModels()
"""This process's models: a worker has one, for all its cases."""

Finished = Callable[["Session", FindResult], None]
Begun = Callable[["Session"], None]
BrokeOff = Callable[[R2SegError], None]


def run_job(job: Job) -> CaseRow:
    """Run one case. Every error becomes a row: a case that cannot be used must not touch the others."""
    return run_case(job)


def run_case(
    job: Job, finished: Finished | None = None, *, begun: Begun | None = None, broke_off: BrokeOff | None = None
) -> CaseRow:
    """The same; `begun` gets the session before it works, `finished` with its result before the row is made, and
    `broke_off` the error of ours that a case ended with.
    """
    started = time.perf_counter()
    sessions: list[Session] = []

    def opened(session: Session) -> None:
        sessions.append(session)
        if begun is not None:
            begun(session)

    try:
        result = _found(job, opened)
        if finished is not None:
            finished(sessions[0], result)
    except R2SegError as error:
        if broke_off is not None:
            broke_off(error)
        row = failed_row(job, "failed", error.message, time.perf_counter() - started)
        row = row.model_copy(update={"hint": error.hint, "error_status": error.exit_status})
    except MemoryError:
        row = failed_row(job, "failed", "out of memory", time.perf_counter() - started)
    except Exception as error:
        why = f"unexpected {type(error).__name__}: {error}"
        row = failed_row(job, "failed", why, time.perf_counter() - started)
    else:
        row = _row(job, result.report, time.perf_counter() - started)
    _give_back_memory()
    return row.model_copy(update={"peak_mb": peak_mb()})


def _found(job: Job, opened: Begun) -> FindResult:
    """Two cases with the same scan and options are the same run: the second waits, and then finds it done."""
    deadline = time.monotonic() + SAME_RUN_WAIT_S
    while True:
        try:
            return run_find(job.request, job.case.image, job.options, opened=opened, models=_loaded)
        except RunIsOpenError:
            if time.monotonic() > deadline:
                raise
            time.sleep(1.0)


def _give_back_memory() -> None:
    """Return what the case has freed to the system: glibc keeps it in pieces, tens of MB more after a dozen cases."""
    if sys.platform.startswith("linux"):
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def failed_row(job: Job, status: str, error: str, seconds: float, attempts: int = 1) -> CaseRow:
    """The row of a job without a report."""
    return CaseRow.model_validate({**_given(job, seconds), "status": status, "error": error, "attempts": attempts})


def peak_mb() -> float:
    """Peak resident memory of this process in MB (kilobytes on Linux, bytes on macOS)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1e6 if sys.platform == "darwin" else 1e3), 1)


def _given(job: Job, seconds: float) -> dict[str, object]:
    return {
        "number": job.number,
        "key": job.key,
        "image": job.case.image,
        "patient": job.case.patient,
        "request": job.request,
        "planner": job.options.planner,
        "segmenter": job.options.segmenter,
        "seed": job.options.seed,
        "seconds": round(seconds, 3),
        "command": find_command(job),
    }


def _row(job: Job, report: Report, seconds: float) -> CaseRow:
    candidates = [c for target in report.targets for round_ in target.rounds for c in round_.candidates]
    volumes = [finding.measurements.volume_ml for finding in report.findings]
    return CaseRow.model_validate(
        {
            **_given(job, seconds),
            "status": "done",
            "outcome": report.outcome,
            "error": report.answer if report.outcome in ("needs_user", "failed") else "",
            "run_id": report.run_id,
            "findings": len(report.findings),
            "candidates": len(candidates),
            "volume_ml": round(sum(volumes), 6),
            "largest_ml": round(max(volumes, default=0.0), 6),
            "p": case_p(report),
            "dice": None if report.truth is None else report.truth.dice,
            "warnings": len(report.warnings),
            "planner": report.planner,
            "segmenter": report.segmenter.name if report.segmenter is not None else job.options.segmenter,
            "weights_sha256": "" if report.segmenter is None else report.segmenter.weights_sha256 or "",
        }
    )


def case_p(report: Report) -> float | None:
    """The case's p-value: that of its largest score over the rounds of its one target, which is family-wise.

    1 where a search that was carried out proposed nothing: as unremarkable as a case can be. None where no calibration
    judged, where nothing was searched, and for several targets, of which one p does not speak.
    """
    if report.reject is None or report.reject.mode != "conformal" or len(report.targets) != 1:
        return None
    rounds = report.targets[0].rounds
    judged = (c for round_ in rounds for c in round_.candidates if c.passed_gates)
    return min((c.p for c in judged if c.p is not None), default=1.0) if rounds else None
