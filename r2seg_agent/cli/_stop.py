"""Ctrl-C: once finishes the current step and leaves the run resumable, twice leaves at once."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from r2seg_agent.errors import BudgetError


@contextmanager
def stop_on_interrupt(tell: Callable[[str], None] | None = None) -> Iterator[Callable[[threading.Event], None]]:
    """Yields a function that names the event to set at the first Ctrl-C; the second raises `BudgetError`.

    Before an event is named, the first raises it too. `tell` shows the notice instead of stderr.
    """
    named: list[threading.Event] = []

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        if not named or named[0].is_set():
            raise BudgetError("stopped at once by you", "`r2seg trace list` shows the run, `r2seg resume ID` goes on.")
        named[0].set()
        notice = "finishing the current step; Ctrl-C again leaves at once"
        if tell is not None:
            tell(notice)
        else:
            sys.stderr.write(f"\nr2seg: {notice}\n")

    if threading.current_thread() is not threading.main_thread():
        yield named.append
        return
    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield named.append
    finally:
        signal.signal(signal.SIGINT, before)
