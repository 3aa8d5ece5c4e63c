"""`Engine`: what carries jobs out. All engines make the same promises; `engines.py` has them by name."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable
from typing import Protocol

from r2seg_agent.batch.row import CaseRow, Job

Work = Callable[[Job], CaseRow]
"""What a worker does with one job: a function that a fresh process can import."""


class Engine(Protocol):
    """Runs jobs in worker processes, each case isolated from the others."""

    def __call__(
        self,
        jobs: Iterable[Job],
        *,
        workers: int,
        gpus_per_worker: float = 0.0,
        timeout_s: float | None = None,
        stop: threading.Event | None = None,
        work: Work = ...,
    ) -> Generator[CaseRow, None, None]:
        """Rows as they come, in no order, one for every job that was begun.

        A case that takes longer than `timeout_s` is killed (`timed_out`), one whose process dies is tried once more
        (`crashed`); `attempts` says how often it was begun. Jobs are taken from the iterator a few at a time. Once
        `stop` is set no further job is begun and those under way are finished. Closing the generator stops the workers
        at once. `gpus_per_worker`: 0 leaves the choice of a GPU alone, 2 gives each worker two of its own, 0.5 lets two
        workers share one. Raises `InputError` when more GPUs are asked for than there are.
        """
        ...
