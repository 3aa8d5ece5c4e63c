"""The local engine: worker processes on this machine. A crash, a hang or an out-of-memory touches only its own case."""

from __future__ import annotations

import itertools
import multiprocessing
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import TimeoutError as JobTimeoutError
from functools import partial

from pebble import ProcessExpired, ProcessFuture, ProcessPool

from r2seg_agent.batch.row import CaseRow, Job
from r2seg_agent.batch.work import failed_row, run_job

Work = Callable[[Job], CaseRow]

IN_FLIGHT_PER_WORKER = 2
"""Jobs handed out at once per worker: the next one waits at the door, and a million cases need no memory."""
ATTEMPTS = 2
"""A case whose process died is tried once more: the kernel may have killed it for a neighbour's memory."""


def run_local(
    jobs: Iterable[Job],
    *,
    workers: int,
    timeout_s: float | None = None,
    stop: threading.Event | None = None,
    work: Work = run_job,
) -> Generator[CaseRow, None, None]:
    """Rows as they come, in no order. `timeout_s` bounds one case; a worker that hangs longer is killed and replaced.

    Once `stop` is set no further job is begun; those under way are finished. `work` is what a worker does with a job: a
    function that a fresh process can import.

    Closing the iterator stops the workers at once.
    """
    waiting = iter(jobs)
    first = next(waiting, None)
    if first is None:
        return
    waiting = itertools.chain((first,), waiting)
    # spawn: workers start clean, whatever threads and locks the driver holds.
    context = multiprocessing.get_context("spawn")
    ended: queue.SimpleQueue[tuple[Job, int, float, ProcessFuture[CaseRow]]] = queue.SimpleQueue()
    pool = ProcessPool(max_workers=workers, initializer=_start_worker, context=context)
    in_flight = 0

    def submit(job: Job, attempt: int) -> None:
        future = pool.schedule(work, args=(job,), timeout=timeout_s)
        future.add_done_callback(partial(_note, ended, job, attempt, time.perf_counter()))

    try:
        while True:
            while (
                in_flight < workers * IN_FLIGHT_PER_WORKER
                and not (stop is not None and stop.is_set())
                and (job := next(waiting, None)) is not None
            ):
                submit(job, 1)
                in_flight += 1
            if in_flight == 0:
                return
            job, attempt, started, future = ended.get()
            try:
                row = future.result()
            except JobTimeoutError:
                row = failed_row(job, "timed_out", f"took longer than {timeout_s:g} s", timeout_s or 0.0, attempt)
            except ProcessExpired as error:
                if attempt < ATTEMPTS:
                    submit(job, attempt + 1)
                    continue
                why = f"the worker's process died (exit code {error.exitcode})"
                row = failed_row(job, "crashed", why, time.perf_counter() - started, attempt)
            except Exception as error:  # a bug in what the worker does: this case's alone
                why = f"unexpected {type(error).__name__}: {error}"
                row = failed_row(job, "failed", why, time.perf_counter() - started, attempt)
            in_flight -= 1
            yield row.model_copy(update={"attempts": attempt})
    finally:
        pool.stop()  # type: ignore[no-untyped-call]  # pebble leaves it without annotations
        pool.join()


def _note(
    ended: queue.SimpleQueue[tuple[Job, int, float, ProcessFuture[CaseRow]]],
    job: Job,
    attempt: int,
    started: float,
    future: ProcessFuture[CaseRow],
) -> None:
    ended.put((job, attempt, started, future))


def _start_worker() -> None:
    """Leave Ctrl-C to the driver, and the cores to the other workers."""
    import os
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
