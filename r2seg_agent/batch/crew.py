"""Worker processes, each with a channel of its own: whatever happens to one, the others and their jobs are untouched.

Pools of the libraries share one queue between all workers. A worker that is killed while it holds the queue's lock, or
between two jobs, then breaks the pool or takes a job with it.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import multiprocessing.connection
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import NamedTuple

from r2seg_agent.batch.engine import Work
from r2seg_agent.batch.row import CaseRow, Job
from r2seg_agent.batch.worker import Answer, serve
from r2seg_agent.errors import RunFailedError

START_S = 300.0
"""A process that is not ready after so long is killed: a network file system that hangs, for one."""
LOOK_S = 1.0
"""How often workers are looked at that say nothing."""
MAX_FAILED_STARTS = 3
"""Processes that may die before they are ready, one after the other, until the crew gives up."""
LEAVE_S = 5.0
"""Time for idle workers to leave by themselves."""


class Ended(NamedTuple):
    """A job that a worker is done with: a row, an error, or `died`/`late` when the process is gone."""

    job: Job
    attempt: int
    seconds: float
    row: CaseRow | None = None
    error: str = ""
    died: str = ""
    late: bool = False


@dataclass
class _Worker:
    slot: int
    process: SpawnProcess
    channel: Connection
    ready: bool = False
    job: Job | None = None
    attempt: int = 0
    since: float = 0.0

    def deadline(self, timeout_s: float | None) -> float:
        """When, on the monotonic clock, it must be done with what it does."""
        if not self.ready:
            return self.since + START_S
        return math.inf if self.job is None or timeout_s is None else self.since + timeout_s


class Crew:
    """Processes that work until they are told to stop; one that ends is replaced."""

    def __init__(self, work: Work, environments: Sequence[Mapping[str, str]], timeout_s: float | None) -> None:
        """One worker for each of `environments`, which its process gets before it imports anything heavy."""
        # spawn: workers start clean, whatever threads and locks the driver holds.
        self._context = multiprocessing.get_context("spawn")
        self._work, self._environments, self._timeout_s = work, environments, timeout_s
        self._failed_starts = 0
        self._workers = [self._started(slot) for slot in range(len(environments))]

    @property
    def idle(self) -> int:
        """How many workers are ready for a job."""
        return sum(worker.ready and worker.job is None for worker in self._workers)

    @property
    def busy(self) -> int:
        """How many jobs are under way."""
        return sum(worker.job is not None for worker in self._workers)

    def give(self, job: Job, attempt: int) -> None:
        """Hand a job to an idle worker. A worker that died meanwhile is found by `ended`, as if in mid-job."""
        worker = next(worker for worker in self._workers if worker.ready and worker.job is None)
        worker.job, worker.attempt, worker.since = job, attempt, time.monotonic()
        with contextlib.suppress(OSError):
            worker.channel.send((self._work, job))

    def ended(self) -> Iterator[Ended]:
        """Wait until something happens; the jobs that ended. Raises `RunFailedError` when no process can start."""
        first = min(worker.deadline(self._timeout_s) for worker in self._workers)
        wait_s = min(LOOK_S, max(0.0, first - time.monotonic()))
        multiprocessing.connection.wait([worker.channel for worker in self._workers], wait_s)
        for worker in self._workers:
            yield from self._look_at(worker)

    def stop(self, *, at_once: bool) -> None:
        """End all processes: idle ones are let go, unless `at_once`."""
        for worker in self._workers:
            worker.channel.close()
        deadline = time.monotonic() + (0.0 if at_once else LEAVE_S)
        for worker in self._workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
        for worker in self._workers:
            worker.process.join()
            worker.process.close()

    def _look_at(self, worker: _Worker) -> Iterator[Ended]:
        now = time.monotonic()
        # Asked before the channel is read: a row that a dying process has sent still counts.
        gone = not worker.process.is_alive()
        try:
            answer: Answer | None = worker.channel.recv() if worker.channel.poll() else None
        except (EOFError, OSError):
            answer, gone = None, True
        if answer is not None and not worker.ready:
            worker.ready, self._failed_starts = True, 0
        elif answer is not None and worker.job is not None:
            ended = Ended(worker.job, worker.attempt, now - worker.since, row=answer.row, error=answer.error)
            worker.job = None
            yield ended
        elif gone:
            yield from self._replace(worker, late=False)
        elif now > worker.deadline(self._timeout_s):
            yield from self._replace(worker, late=True)

    def _replace(self, worker: _Worker, *, late: bool) -> Iterator[Ended]:
        if not late:
            worker.process.join(LEAVE_S)  # it is ending: killed now, it could not say how
        worker.process.kill()
        worker.process.join()
        died = _how(worker.process.exitcode)
        worker.channel.close()
        worker.process.close()
        if not worker.ready:
            self._failed_starts += 1
            if self._failed_starts >= MAX_FAILED_STARTS:
                self._workers.remove(worker)
                raise RunFailedError(
                    f"worker processes cannot start: {died}",
                    "Try one case with `r2seg find`, and look at the memory that is free.",
                )
        self._workers[self._workers.index(worker)] = self._started(worker.slot)
        if worker.job is not None:
            seconds = time.monotonic() - worker.since
            yield Ended(worker.job, worker.attempt, seconds, died="" if late else died, late=late)

    def _started(self, slot: int) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=serve, args=(theirs, self._environments[slot]), name=f"r2seg-{slot}")
        with _without_ctrl_c():
            process.start()
        theirs.close()
        return _Worker(slot, process, ours, since=time.monotonic())


@contextlib.contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """A process that is started here never sees Ctrl-C, not even while it still imports."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _how(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        name = signal.Signals(-exit_code).name
        also = ", often for want of memory" if name == "SIGKILL" else ""
        return f"killed by {name}{also}"
    return f"exit code {exit_code}"
