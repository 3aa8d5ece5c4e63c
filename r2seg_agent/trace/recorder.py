"""`Recorder`: appends events to `trace.jsonl`, each with the system before the next step starts; `read_trace` reads."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ValidationError

from r2seg_agent.errors import RunFailedError
from r2seg_agent.trace.events import READABLE_VERSIONS, TRACE_SCHEMA_VERSION, Event, EventKind, chain_sha256


class Recorder:
    """Writes one run's trace. A killed run keeps every event that was recorded.

    A resumed run gives `keep`, the number of events that belong to its checkpoint: what was traced after it is cut
    off, since it will happen again, and `seq` and `seconds` go on from the last kept event. `read_only` leaves the file
    as it is, and records nothing.
    """

    def __init__(self, path: Path, keep: int = 0, *, read_only: bool = False) -> None:
        """Raises `RunFailedError` where the file cannot be written, or holds fewer than `keep` readable events."""
        self._path = path
        self._seq = keep
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            size, seconds = _kept(path, keep) if keep else (0, 0.0)
            # Unbuffered: a write that the disk refuses must not be tried again when the file is closed.
            self._file = path.open("rb" if read_only else "ab", buffering=0)
            if not read_only:
                self._file.truncate(size)
        except OSError as error:
            raise RunFailedError(
                f"cannot write the trace: {error.strerror}", "Choose another folder with --workspace or --out."
            ) from error
        self._started = time.monotonic() - seconds

    @property
    def count(self) -> int:
        """How many events the trace holds."""
        return self._seq

    def record(self, kind: EventKind, step: str, data: Mapping[str, object]) -> Event:
        """Append one event and return it; its `seq` is what reports link to."""
        seconds = round(time.monotonic() - self._started, 3)
        event = Event.model_validate(
            {"seq": self._seq + 1, "kind": kind, "step": step, "data": data, "seconds": seconds}
        )
        line = event.model_dump_json().encode() + b"\n"
        try:
            written = self._file.write(line)
        except OSError as error:
            raise _unwritable(error.strerror) from error
        if written != len(line):
            self._file.truncate(self._file.tell() - (written or 0))
            raise _unwritable("no space for a whole event")
        self._seq += 1
        return event

    def finish(self, step: str, data: Mapping[str, object]) -> Event:
        """Append `run_finished`, with the hash over all events before it."""
        before = read_trace(self._path) if self._seq else ()
        return self.record("run_finished", step, {**data, "chain": chain_sha256(before)})

    def close(self) -> None:
        """Make sure that every event is on disk."""
        if not self._file.closed:
            if self._file.writable():
                os.fsync(self._file.fileno())
            self._file.close()


def _unwritable(why: str | None) -> RunFailedError:
    return RunFailedError(
        f"cannot write the trace: {why}", "Free space there, then `r2seg resume` the run: finished steps are kept."
    )


class _Version(BaseModel):
    schema_version: str


def read_trace(path: Path) -> tuple[Event, ...]:
    """All whole events of a trace; a last line cut by a kill is left out.

    Raises `RunFailedError` for a missing file, a line that is no event, and a version that this r2seg cannot read.
    """
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except OSError as error:
        raise RunFailedError(f"the trace `{path.name}` cannot be read: {error.strerror}") from error
    return tuple(_event(line, number) for number, line in enumerate(lines, start=1) if line.endswith(b"\n"))


def _event(line: bytes, number: int) -> Event:
    try:
        version = _Version.model_validate_json(line).schema_version
        if version not in READABLE_VERSIONS:
            raise RunFailedError(
                f"the trace has schema version {version!r}; this r2seg reads {' and '.join(READABLE_VERSIONS)}",
                "Use the r2seg that wrote it.",
            )
        return Event.model_validate_json(line)
    except ValidationError as error:
        raise RunFailedError(
            f"line {number} of the trace is no event: {error.errors()[0]['msg']}",
            "The file was changed after it was written; run the same command again for a new one.",
        ) from error


def _kept(path: Path, keep: int) -> tuple[int, float]:
    """Where the first `keep` events end (bytes), and the `seconds` of the last of them."""
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    kept = [line for line in lines[:keep] if line.endswith(b"\n")]
    if len(kept) < keep:
        raise RunFailedError(
            f"the trace holds {len(kept)} whole events, the run's checkpoint belongs to {keep}",
            "Something cut the trace; run the same command again from its start.",
        )
    last = _event(kept[-1], keep)
    if last.seq != keep or last.schema_version != TRACE_SCHEMA_VERSION:
        raise RunFailedError(
            f"event {keep} of the trace is numbered {last.seq} (schema version {last.schema_version})",
            "The trace does not belong to this run's checkpoint; run the same command again from its start.",
        )
    return sum(len(line) for line in kept), last.seconds
