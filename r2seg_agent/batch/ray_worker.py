"""What runs in a worker of a ray cluster. Imported there before anything heavy."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from r2seg_agent.batch.row import CaseRow, Job
from r2seg_agent.batch.run_case import failed_row
from r2seg_agent.imaging.files import file_of

SEEN_WITHIN_S = 5.0
"""Network file systems show a new file to other nodes only after a while."""


class Sight(NamedTuple):
    """What a worker says when it is ready: its node (host name and the start of ray's id for it, as one host can hold
    several), its version of r2seg, and the paths that it cannot see."""

    node: str
    version: str
    unseen: tuple[str, ...]


class CaseWorker:
    """One worker: does one job at a time and keeps its models between them. Ctrl-C is left to the driver."""

    def __init__(self, folder: str, import_paths: Sequence[str], environment: Mapping[str, str]) -> None:
        """Take the driver's folder (relative paths are meant from there), import paths and settings where they are."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        os.environ.update(environment)
        if os.path.isdir(folder):
            os.chdir(folder)
        sys.path.extend(path for path in import_paths if path not in sys.path and os.path.exists(path))

    def prepare(self, work: Callable[[Job], CaseRow], paths: Sequence[str]) -> Sight:
        """Import `work` (by the paths that the constructor took); ready, unless `unseen` names some of `paths`."""
        import ray

        from r2seg_agent.version import __version__

        self._work = work
        deadline = time.monotonic() + SEEN_WITHIN_S
        while (unseen := _unseen(paths)) and time.monotonic() < deadline:
            time.sleep(0.5)
        node = f"{socket.gethostname()}/{ray.get_runtime_context().get_node_id()[:8]}"
        return Sight(node, __version__, unseen)

    def run(self, job: Job) -> CaseRow:
        """Do the job; an error that comes through is a bug, and this case's alone."""
        started = time.perf_counter()
        try:
            return self._work(job)
        except Exception as error:
            why = f"unexpected {type(error).__name__}: {error}"
            return failed_row(job, "failed", why, time.perf_counter() - started)


def _unseen(paths: Sequence[str]) -> tuple[str, ...]:
    return tuple(path for path in paths if not file_of(path).exists())
