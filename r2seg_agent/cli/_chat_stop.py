"""Ctrl-C in a conversation: once ends the turn after the step under way, twice leaves at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from r2seg_agent.errors import BudgetError

if TYPE_CHECKING:
    from r2seg_agent.cli._tool_line import ToolLine
    from r2seg_agent.graphs.session import Session

STOPPING = "finishing this step; Ctrl-C again leaves at once"


@contextmanager
def stoppable(session: Session, tools: ToolLine) -> Iterator[None]:
    """Ctrl-C once ends the turn after the step under way, twice leaves at once (the run can be resumed)."""
    stop = session.context.stop
    stop.clear()

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        # The terminal may be in the middle of a line: nothing is printed here, and Python's own buffers stay untouched.
        if not stop.is_set():
            stop.set()
            tools.remark(STOPPING)
            return
        # A step in a worker thread cannot be broken off, and Python would wait for it: the process ends here. What is
        # on disk is whole at any moment, as after a kill.
        try:
            tools.farewell(f"Left. r2seg chat --resume {session.id} goes on.")
            session.fail(KeyboardInterrupt())
        finally:
            os._exit(BudgetError.exit_status)

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        stop.clear()
