"""Runs of a workspace: `runs/<id>/` holds what was asked (`inputs.json`, private), how it stands (`run.json`), a
lock and the trace."""

from __future__ import annotations

import difflib
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from filelock import FileLock, Timeout
from pydantic import AfterValidator, JsonValue, ValidationError

from r2seg_agent.errors import InputError, RunFailedError, RunIsOpenError
from r2seg_agent.files import file_sha256, write_bytes_atomic
from r2seg_agent.frozen import Frozen
from r2seg_agent.outcomes import OutcomeKind

RunKind = Literal["find", "chat"]
RunStatus = Literal["running", "stopped", "finished", "failed"]


def _is_time(text: str) -> str:
    if datetime.fromisoformat(text).tzinfo is None:
        raise ValueError("a time without its zone")
    return text


UtcTime = Annotated[str, AfterValidator(_is_time)]
"""As `utc_now` gives it."""

_Model = TypeVar("_Model", bound=Frozen)
_LEGAL_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


class RunRecord(Frozen):
    """How a run stands. `status` running with no process behind it is a run that was killed: it can be resumed.

    `created` and `updated` are UTC times; `resumed` counts how often it went on; `parent` is the run it forked from.
    `trace_sha256` is the hash of the trace as it was when the run was last put down, `record_sha256` that of this
    record itself (None where an earlier r2seg wrote it).
    """

    id: str
    kind: RunKind
    status: RunStatus
    request: str
    image: str
    outcome: OutcomeKind | None = None
    findings: int = 0
    created: UtcTime
    updated: UtcTime
    resumed: int = 0
    parent: str | None = None
    trace_sha256: str | None = None
    record_sha256: str | None = None

    @property
    def own_sha256(self) -> str:
        """What `record_sha256` must be."""
        return hashlib.sha256(self.model_copy(update={"record_sha256": None}).model_dump_json().encode()).hexdigest()


class RunInputs(Frozen):
    """Everything needed to resume a run. Holds the user's file paths: it never leaves the workspace.

    `segmenter_choice` is why `auto` chose the segmenter among `options` (`segment/auto.py`); None where it was named.
    """

    kind: RunKind
    request: str
    image: str
    options: dict[str, JsonValue]
    segmenter_choice: dict[str, JsonValue] | None = None
    parent: str | None = None


def utc_now() -> str:
    """Now, to the second, as ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class RunFolder:
    """The folder of one run."""

    def __init__(self, workspace: Path, run_id: str) -> None:
        if not _LEGAL_ID.fullmatch(run_id):
            raise InputError(f"`{run_id}` is not the id of a run", "`r2seg trace list` shows the ids.")
        self.workspace = workspace
        self.id = run_id
        self.path = workspace / "runs" / run_id

    @property
    def trace(self) -> Path:
        """The run's trace."""
        return self.path / "trace.jsonl"

    def exists(self) -> bool:
        """True when something of this run is on disk."""
        return (self.path / "run.json").exists()

    def record(self) -> RunRecord:
        """How the run stands; `RunFailedError` when its file is damaged."""
        return _load(self.path / "run.json", RunRecord)

    def write_record(self, record: RunRecord) -> None:
        """Replace `run.json`; a run that is put down gets the hash of its trace."""
        sealed = file_sha256(self.trace) if record.status != "running" and self.trace.exists() else None
        dated = record.model_copy(update={"updated": utc_now(), "trace_sha256": sealed})
        self._write("run.json", dated.model_copy(update={"record_sha256": dated.own_sha256}))

    def inputs(self) -> RunInputs:
        """What the run was asked; `RunFailedError` when its file is missing or damaged."""
        return _load(self.path / "inputs.json", RunInputs)

    def write_inputs(self, inputs: RunInputs) -> None:
        """Write `inputs.json`, readable by its owner alone."""
        self._write("inputs.json", inputs, private=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run: a second process that opens it gets an `InputError`."""
        held = self.acquire()
        try:
            yield
        finally:
            held.release()

    def acquire(self) -> FileLock:
        """Like `lock`, for a holder that releases it itself."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path / "lock")
            lock.acquire(timeout=0)
        except Timeout as error:
            raise RunIsOpenError(
                f"run `{self.id}` is open in another process",
                "Wait until it ends, or start another session; two sessions in one workspace are fine.",
            ) from error
        except OSError as error:
            raise _unwritable(self.workspace, error) from error
        return lock

    def _write(self, name: str, value: Frozen, *, private: bool = False) -> None:
        write_bytes_atomic(self.path / name, (value.model_dump_json(indent=2) + "\n").encode(), private=private)


def list_runs(workspace: Path) -> tuple[RunRecord, ...]:
    """All runs of a workspace, newest first; folders without a readable record are left out."""
    found = []
    for path in (workspace / "runs").glob("*/run.json"):
        try:
            found.append(RunRecord.model_validate_json(path.read_bytes()))
        except (OSError, ValidationError):
            continue
    return tuple(sorted(found, key=lambda run: (run.created, run.id), reverse=True))


def run_folder(workspace: Path, name: str) -> RunFolder:
    """The run whose id is `name` or begins with it; `InputError` names the near or the several ones."""
    known = sorted(path.parent.name for path in (workspace / "runs").glob("*/run.json"))
    if not known:
        raise InputError(
            f"there are no runs in the workspace `{workspace}`", "`r2seg find` makes one; --workspace names another."
        )
    if name in known:
        return RunFolder(workspace, name)
    fits = [run for run in known if name and run.startswith(name)]
    if len(fits) == 1:
        return RunFolder(workspace, fits[0])
    if fits:
        raise InputError(f"`{name}` fits several runs: {', '.join(fits)}", "Give more of the id.")
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    raise InputError(
        f"there is no run `{name}` in the workspace `{workspace}`" + (f"; near: {', '.join(near)}" if near else ""),
        "`r2seg trace list` shows all runs.",
    )


def _load(path: Path, model: type[_Model]) -> _Model:
    try:
        return model.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise RunFailedError(
            f"`{path.name}` of run `{path.parent.name}` is missing or damaged", "Run the same command again."
        ) from error


def _unwritable(workspace: Path, error: OSError) -> InputError:
    return InputError(
        f"cannot write to the workspace `{workspace}`: {os.strerror(error.errno) if error.errno else error}",
        "Choose another folder with --workspace, or free space and check its permissions.",
    )
