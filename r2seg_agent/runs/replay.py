"""`replay_run`: the same run again from its scan and its trace, in a fresh workspace, with no model call.

The planner's replies come from the trace (`ReplayPlanner`), the user's messages too; everything else is computed again.
The replay is the same when every event but its time is, and every file has the same bytes.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from langchain_core.messages import AnyMessage, ToolCall
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool

from r2seg_agent.errors import InputError, PlannerUnavailableError, R2SegError
from r2seg_agent.files import file_sha256
from r2seg_agent.graphs.graph import build_search_graph
from r2seg_agent.graphs.planner import PlannerKind, PlannerReply
from r2seg_agent.graphs.planners.telemetry import untraced_steps
from r2seg_agent.imaging.in_memory import ScanInMemory
from r2seg_agent.progress import Progress, silent
from r2seg_agent.runs.checkpoints import checkpoints
from r2seg_agent.runs.prepare import prepare
from r2seg_agent.runs.record import choice_of, file_of_run, options_of
from r2seg_agent.runs.session import Session
from r2seg_agent.store.artifacts import ArtifactStore
from r2seg_agent.store.runs import RunFolder
from r2seg_agent.tools.state import GraphState, SearchState, load_search
from r2seg_agent.trace.diff import Change, changed_fields, describe
from r2seg_agent.trace.events import Event
from r2seg_agent.trace.payloads import ModelCall, payload
from r2seg_agent.trace.recorder import read_trace
from r2seg_agent.trace.run import TracedRun

_SHA256 = re.compile(rb"\b[0-9a-f]{64}\b")


@dataclass(frozen=True)
class Replayed:
    """The result of a replay. `events` and `files` count what was compared; `differences` are in words, first first;
    `changed_files` are the files that were not written again with the same bytes.

    `notes` say what makes a difference likely: other versions of libraries, a time budget.
    """

    events: int
    files: int
    differences: tuple[str, ...] = ()
    changed_files: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def same(self) -> bool:
        """True where every event and every file is the same."""
        return not self.differences


class ReplayPlanner:
    """Gives the recorded replies in their order. It bears the name and kind of the planner that gave them first."""

    def __init__(self, run: TracedRun) -> None:
        self._name, self._kind = run.started.planner, run.started.planner_kind
        # The rules answer the turn of a command again by themselves.
        own = [event for event in run.events if event.kind == "model_call" and event.step == self._name]
        self._replies = iter([payload(event, ModelCall) for event in own])

    @property
    def name(self) -> str:
        """The recorded planner's."""
        return self._name

    @property
    def kind(self) -> PlannerKind:
        """The recorded planner's: the referee treats rules and models differently."""
        return self._kind

    def ask(self, messages: Sequence[AnyMessage], tools: Sequence[BaseTool], *, optional: bool) -> PlannerReply:
        """The next recorded reply; `PlannerUnavailableError` when the record has no more."""
        recorded = next(self._replies, None)
        if recorded is None:
            raise PlannerUnavailableError("the trace holds no further reply of the planner")
        call = (
            None if recorded.call is None else ToolCall(name=recorded.call.tool, args=recorded.call.args, id="replayed")
        )
        return PlannerReply(
            call=call,
            text=recorded.text,
            problem=recorded.problem,
            call_format=recorded.call_format,
            tokens_in=recorded.tokens_in,
            tokens_estimated=recorded.tokens_estimated,
            tokens_out=recorded.tokens_out,
            cost_usd=recorded.cost_usd,
            requests=recorded.requests,
        )


def replay_run(run: TracedRun, image: str | ScanInMemory | None = None, progress: Progress = silent) -> Replayed:
    """Run `run` again and compare. `image` names its scan where it has moved.

    Raises `InputError` when the scan is missing or another one, or when the trace is of an earlier version.
    """
    run.need_current("replay")
    inputs, started = run.folder.inputs(), run.started
    with tempfile.TemporaryDirectory(prefix="r2seg-replay-") as scratch:
        workspace = Path(scratch)
        asked = any(event.kind == "question" for event in run.events)
        options = options_of(inputs).model_copy(
            update={
                "workspace": workspace,
                "out": None,
                "store": None,
                "seconds": None,
                "interactive": asked or inputs.kind == "chat",
            }
        )
        path = image or file_of_run(inputs, run.id)
        prepared = prepare(path, options, progress, choice=choice_of(inputs))
        if prepared.image.sha256 != started.image.sha256:
            raise InputError(
                f"this is not the scan of run `{run.id}`: its voxels or its grid differ",
                "Name the right one with --image.",
            )
        start, history = _fork_start(run, workspace)
        folder = RunFolder(workspace, run.id)
        try:
            with Session(
                folder,
                inputs.kind,
                path,
                options,
                prepared,
                ReplayPlanner(run),
                anew=True,
                request=inputs.request,
                parent=inputs.parent,
                start=start,
                history=history,
                progress=progress,
            ) as session:
                _drive(session, run, forked=start is not None)
        except R2SegError:
            # A run that failed, or one that was stopped, ends like this; whether it did so alike, the events say.
            pass
        return _compare(run, folder)


def _drive(session: Session, run: TracedRun, *, forked: bool) -> None:
    """Send the user's messages and write the results where they were written."""
    waiting = _orders(run.events)
    first = next(waiting, None)
    if forked and (first is None or first[0] == "write"):
        list(session.resume())
    while first is not None:
        order, text, by_rules = first
        if order == "say":
            list(session.say(text, by_rules=by_rules))
        else:
            session.write()
        first = next(waiting, None)


def _orders(events: Sequence[Event]) -> Iterator[tuple[str, str, bool]]:
    for event in events:
        if event.kind in ("user_message", "user_answer"):
            yield "say", str(event.data.get("text", "")), event.data.get("by_rules") is True
        elif event.kind == "run_finished" and not event.data.get("error"):
            yield "write", "", False


def _fork_start(run: TracedRun, workspace: Path) -> tuple[SearchState | None, tuple[AnyMessage, ...]]:
    """The state that a fork began with, from its first checkpoint; what it refers to is copied to `workspace`."""
    if run.started.parent is None:
        return None, ()
    found = _first_checkpoint(run)
    if found is None:
        raise InputError(
            f"run `{run.id}` was forked from `{run.started.parent}` and its first checkpoint is gone",
            "Replay its parent instead.",
        )
    search, messages = found
    begins_with_a_message = len(run.events) > 1 and run.events[1].kind == "user_message"
    if begins_with_a_message and search.turns and search.turns[-1].before is not None:
        before = search.turns[-1].before
        search = SearchState.model_validate_json(run.store.json(before))
        messages = messages[:-1]
    _copy_artifacts(run.store, ArtifactStore(workspace / "artifacts"), search.model_dump_json().encode())
    return search, tuple(messages)


def _first_checkpoint(run: TracedRun) -> tuple[SearchState, list[AnyMessage]] | None:
    with checkpoints(run.folder.workspace) as saver:
        graph = build_search_graph(ReplayPlanner(run), checkpointer=saver)
        given: RunnableConfig = {"configurable": {"thread_id": run.id}}
        states = untraced_steps(lambda: graph.get_state_history(given))  # newest first
        oldest = next((state.values for state in reversed(list(states)) if state.values.get("search")), None)
    if oldest is None:
        return None
    values = cast(GraphState, oldest)
    return load_search(values), list(values["messages"])


def _copy_artifacts(source: ArtifactStore, target: ArtifactStore, document: bytes) -> None:
    """Copy every artifact whose hash stands in `document`, and what those documents name in turn."""
    waiting, seen = set(_SHA256.findall(document)), set[bytes]()
    while waiting:
        found = waiting.pop()
        seen.add(found)
        for suffix in (".npy", ".json", ".doc.json", ".png"):
            path = source.path(found.decode(), suffix)
            if not path.is_file():
                continue
            copy = target.path(found.decode(), suffix)
            copy.parent.mkdir(parents=True, exist_ok=True)
            data = path.read_bytes()
            copy.write_bytes(data)
            if suffix == ".doc.json":
                waiting |= set(_SHA256.findall(data)) - seen


def _compare(run: TracedRun, folder: RunFolder) -> Replayed:
    again = read_trace(folder.trace)
    unfinished = run.finished is None
    # A stopped run is compared as far as it went.
    events = again[: len(run.events)] if unfinished else again
    differences: list[str] = []
    for position in range(max(len(run.events), len(events))):
        first = run.events[position] if position < len(run.events) else None
        second = events[position] if position < len(events) else None
        if first is None or second is None or _timeless(first) != _timeless(second):
            differences += _words(position + 1, first, second)
            break
    names = list(run.finished.files) if run.finished else []
    changed: list[str] = []
    for name in names:
        written = (folder.path / name).is_file()
        if written and run.finished and file_sha256(folder.path / name) == run.finished.files[name]:
            continue
        changed.append(name)
        differences.append(f"{name} has other bytes" if written else f"{name} was not written")
    return Replayed(len(run.events), len(names), tuple(differences), tuple(changed), _notes(run, again))


def _timeless(event: Event) -> Event:
    return event.model_copy(update={"seconds": 0.0})


def _words(position: int, first: Event | None, second: Event | None) -> list[str]:
    lines = [f"event {position}: recorded {describe(first)}", f"event {position}: replayed {describe(second)}"]
    fields: tuple[Change, ...] = ()
    if first is not None and second is not None:
        fields = changed_fields(first, second)
    return lines + [f"event {position}: {c.name}: recorded {c.first}, replayed {c.second}" for c in fields[:5]]


def _notes(run: TracedRun, again: Sequence[Event]) -> tuple[str, ...]:
    notes: list[str] = []
    if again and again[0].data.get("versions") != run.events[0].data.get("versions"):
        now, then = again[0].data.get("versions"), dict(run.started.versions)
        if isinstance(now, dict):
            notes += [f"{k}: recorded with {v}, replayed with {now.get(k)}" for k, v in then.items() if now.get(k) != v]
    if any(event.kind == "budget" and event.step == "seconds" for event in run.events):
        notes.append("a time budget ended the run; a replay has none and continues")
    return tuple(notes)
