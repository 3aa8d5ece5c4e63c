"""`Recorder`: appends events to `trace.jsonl`, each on disk before the next step starts."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

from r2seg_agent.errors import RunFailedError
from r2seg_agent.trace.events import Event, EventKind


class Recorder:
    """Writes one run's trace. A killed run keeps every event that was recorded."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._started = time.monotonic()
        self._seq = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("w", encoding="utf-8")
        except OSError as error:
            raise RunFailedError(
                f"cannot write the trace: {error.strerror}", "Choose another folder with --workspace or --out."
            ) from error

    def record(self, kind: EventKind, step: str, data: Mapping[str, object]) -> Event:
        """Append one event and return it; its `seq` is what reports link to."""
        self._seq += 1
        seconds = round(time.monotonic() - self._started, 3)
        event = Event.model_validate({"seq": self._seq, "kind": kind, "step": step, "data": data, "seconds": seconds})
        try:
            self._file.write(event.model_dump_json() + "\n")
            self._file.flush()
        except OSError as error:
            raise RunFailedError(f"cannot write the trace: {error.strerror}", "Free space and run again.") from error
        return event

    def close(self) -> None:
        """Make sure that every event is on disk."""
        if not self._file.closed:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()


def read_trace(path: Path) -> tuple[Event, ...]:
    """All whole events of a trace; a last line cut by a kill is left out."""
    events: list[Event] = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if line.endswith("\n"):
            events.append(Event.model_validate_json(line))
    return tuple(events)
