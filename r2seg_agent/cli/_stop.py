"""Ctrl-C: once finishes what is under way and leaves the rest resumable, twice leaves at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from r2seg_agent.errors import BudgetError

STOPPING = "finishing this step; Ctrl-C again leaves at once"


@dataclass
class Stopping:
    """What the first Ctrl-C sets, and what is done before the second one ends the process.

    A step in a worker thread cannot be broken off, and Python would wait for it: with `leave` the process ends at once.
    What is on disk is whole at any moment, as after a kill. Without `leave` the second Ctrl-C raises `BudgetError`.
    """

    stop: threading.Event | None = None
    leave: Callable[[], None] | None = None


def to_stderr(text: str) -> None:
    """Write past Python's own buffers: a signal may come in the middle of one."""
    os.write(2, f"\nr2seg: {text}\n".encode())


@contextmanager
def stop_on_interrupt(tell: Callable[[str], None] = to_stderr) -> Iterator[Stopping]:
    """Yields what Ctrl-C acts on; fill it once there is something to stop. Before that, Ctrl-C raises `BudgetError`."""
    acting = Stopping()

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        if acting.stop is not None and not acting.stop.is_set():
            acting.stop.set()
            tell(STOPPING)
        elif acting.stop is not None and acting.leave is not None:
            try:
                acting.leave()
            finally:
                os._exit(BudgetError.exit_status)
        else:
            raise BudgetError("stopped by Ctrl-C", "`r2seg trace list` shows the run; `r2seg resume ID` continues it.")

    if threading.current_thread() is not threading.main_thread():
        yield acting
        return
    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield acting
    finally:
        signal.signal(signal.SIGINT, before)
