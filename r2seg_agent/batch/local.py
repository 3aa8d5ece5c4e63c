"""The local engine: worker processes on this machine. A crash, a hang or an out-of-memory touches only its own case."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator, Iterable

from r2seg_agent.batch.crew import Crew, Ended
from r2seg_agent.batch.engine import Work
from r2seg_agent.batch.gpus import VARIABLE, gpu_shares, visible_gpus
from r2seg_agent.batch.row import CaseRow, Job
from r2seg_agent.batch.run_case import failed_row, run_job

ATTEMPTS = 2
"""A case whose process died is tried once more: the kernel may have killed it for a neighbour's memory."""


def run_local(
    jobs: Iterable[Job],
    *,
    workers: int,
    gpus_per_worker: float = 0.0,
    timeout_s: float | None = None,
    stop: threading.Event | None = None,
    work: Work = run_job,
) -> Generator[CaseRow, None, None]:
    """The `Engine` of one machine; see there. Raises `RunFailedError` when worker processes cannot start at all."""
    waiting = _Waiting(jobs)
    if not waiting:
        return
    shares = gpu_shares(visible_gpus() if gpus_per_worker else (), workers, gpus_per_worker)
    environments = [{VARIABLE: share} for share in shares] or [{} for _ in range(workers)]
    stopped = threading.Event() if stop is None else stop
    crew = Crew(work, environments, timeout_s)

    def hand_out() -> None:
        while crew.idle and waiting and not stopped.is_set():
            crew.give(*waiting.next())

    finished = False
    try:
        while True:
            hand_out()
            if not crew.busy and (stopped.is_set() or not waiting):
                finished = True
                return
            for ended in crew.ended():
                if ended.died and ended.attempt < ATTEMPTS and not stopped.is_set():
                    waiting.again(ended.job, ended.attempt + 1)
                    continue
                row = _row(ended, timeout_s)
                if row.status == "done":
                    hand_out()  # before the row is written: the worker need not wait for the disk
                yield row.model_copy(update={"attempts": ended.attempt})
    finally:
        crew.stop(at_once=not finished)


class _Waiting:
    """Jobs not yet begun, one looked ahead, with those to be tried again before the rest; false when none is left."""

    def __init__(self, jobs: Iterable[Job]) -> None:
        self._jobs = iter(jobs)
        self._first: deque[tuple[Job, int]] = deque()

    def __bool__(self) -> bool:
        if not self._first and (job := next(self._jobs, None)) is not None:
            self._first.append((job, 1))
        return bool(self._first)

    def next(self) -> tuple[Job, int]:
        """The next job and which attempt it is; only while there is one."""
        return self._first.popleft()

    def again(self, job: Job, attempt: int) -> None:
        """Put a job back."""
        self._first.appendleft((job, attempt))


def _row(ended: Ended, timeout_s: float | None) -> CaseRow:
    if ended.row is not None:
        return ended.row
    if ended.late:
        return failed_row(ended.job, "timed_out", f"took longer than {timeout_s:g} s", ended.seconds)
    if ended.died:
        return failed_row(ended.job, "crashed", f"the worker's process died ({ended.died})", ended.seconds)
    return failed_row(ended.job, "failed", ended.error, ended.seconds)
