"""`TracedRun`: one run as it lies on disk, opened for reading only: record, trace, report, artifacts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from r2seg_agent.errors import InputError, RunFailedError
from r2seg_agent.report.models import Report
from r2seg_agent.store.artifacts import ArtifactStore
from r2seg_agent.store.runs import RunFolder, RunRecord, run_folder
from r2seg_agent.trace.events import TRACE_SCHEMA_VERSION, Event
from r2seg_agent.trace.payloads import RunFinished, RunStarted, payload
from r2seg_agent.trace.recorder import read_trace


@dataclass(frozen=True)
class TracedRun:
    """`record` is None for a run of r2seg 0.1, whose trace has version 1: it can be shown and no more."""

    folder: RunFolder
    record: RunRecord | None
    events: tuple[Event, ...]

    @property
    def id(self) -> str:
        """The run's id."""
        return self.folder.id

    @property
    def store(self) -> ArtifactStore:
        """The workspace's artifacts."""
        return ArtifactStore(self.folder.workspace / "artifacts")

    @property
    def version(self) -> str:
        """The schema version of its first event."""
        return self.events[0].schema_version if self.events else TRACE_SCHEMA_VERSION

    @property
    def old(self) -> bool:
        """True for a trace of an earlier version."""
        return any(event.schema_version != TRACE_SCHEMA_VERSION for event in self.events)

    @property
    def started(self) -> RunStarted:
        """The first event; raises `RunFailedError` where the trace does not begin with it."""
        if not self.events or self.events[0].kind != "run_started":
            raise RunFailedError(f"the trace of run `{self.id}` does not begin with `run_started`")
        return payload(self.events[0], RunStarted)

    @property
    def finished(self) -> RunFinished | None:
        """What the run last ended with; None where it never did. A conversation continues after it was written out."""
        last = next((event for event in reversed(self.events) if event.kind == "run_finished"), None)
        return None if last is None else payload(last, RunFinished)

    def report(self) -> Report | None:
        """`report.json`; None where there is none, `RunFailedError` where it cannot be read."""
        path = self.folder.path / "report.json"
        try:
            return Report.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            raise RunFailedError(
                f"`report.json` of run `{self.id}` cannot be read: it is damaged or changed"
            ) from error

    def need_current(self, what: str) -> None:
        """Raise `InputError` where `what` needs more than a trace of an earlier version holds."""
        if self.old or self.record is None:
            raise InputError(
                f"run `{self.id}` has a trace of version {self.version}, written by an earlier r2seg: `{what}` needs "
                f"version {TRACE_SCHEMA_VERSION}",
                "`r2seg trace show` can read it; run the same command again for a new trace.",
            )


def open_run(workspace: Path, name: str) -> TracedRun:
    """The run whose id is `name` or begins with it. Raises `InputError` for an unknown one and names the near ones."""
    old = _old_run(workspace, name)
    folder = old or run_folder(workspace, name)
    if not folder.trace.exists():
        raise RunFailedError(f"run `{folder.id}` has no trace", "It was stopped before it began; run it again.")
    record = None if old else folder.record()
    return TracedRun(folder=folder, record=record, events=read_trace(folder.trace))


def old_runs(workspace: Path) -> tuple[str, ...]:
    """Ids of runs of r2seg 0.1: they have a trace and no `run.json`."""
    folders = (path.parent for path in (workspace / "runs").glob("*/trace.jsonl"))
    return tuple(sorted(folder.name for folder in folders if not (folder / "run.json").exists()))


def glance(workspace: Path, record: RunRecord) -> tuple[str, float]:
    """What was asked first and how long the run worked, from its trace; ("", 0.0) where that cannot be read."""
    try:
        events = read_trace(RunFolder(workspace, record.id).trace)
    except RunFailedError:
        return record.request, 0.0
    asked = next((str(event.data.get("text", "")) for event in events if event.kind == "user_message"), "")
    return record.request or asked, events[-1].seconds if events else 0.0


def _old_run(workspace: Path, name: str) -> RunFolder | None:
    fits = [run for run in old_runs(workspace) if name and run.startswith(name)]
    return RunFolder(workspace, fits[0]) if len(fits) == 1 else None
