"""What a worker process does: take a job, do it, send its row. Imports nothing heavy, so that what it sets in the
environment is there before NumPy and torch load."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from r2seg_agent.batch.row import CaseRow

THREADS: Mapping[str, str] = {"OMP_NUM_THREADS": "1", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1"}
"""One thread a worker: several workers use the cores better than several threads. What the user has set stays."""


class Answer(NamedTuple):
    """What a worker sends: nothing at all when it is ready, then for each job its row or the error of a bug."""

    row: CaseRow | None = None
    error: str = ""


def serve(channel: Connection, environment: Mapping[str, str]) -> None:
    """Do the jobs that come through `channel` until it closes. Ctrl-C is left to the driver."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name, value in THREADS.items():
        os.environ.setdefault(name, value)
    os.environ.update(environment)
    threading.Thread(target=_end_with_driver, daemon=True).start()
    try:
        channel.send(Answer())
        while True:
            work, job = channel.recv()
            try:
                answer = Answer(row=work(job))
            except MemoryError:
                answer = Answer(error="out of memory")
            except Exception as error:  # a bug in what the worker does: this case's alone
                answer = Answer(error=f"unexpected {type(error).__name__}: {error}")
            channel.send(answer)
    except (EOFError, OSError):  # the driver has no more jobs, or is gone
        return


def _end_with_driver() -> None:
    """A driver that is killed cannot stop its workers: each waits for its end and leaves, in mid-case if need be.

    What is on disk is whole at any moment, and the case is run again when the batch goes on.
    """
    driver = multiprocessing.parent_process()
    if driver is not None:
        multiprocessing.connection.wait([driver.sentinel])
        os._exit(1)
