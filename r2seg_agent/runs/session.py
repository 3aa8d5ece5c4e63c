"""`Session`: one run, open in this process. `find` is a session of one turn, `chat` of many; both can be resumed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from typing import Any, cast

from langchain_core.messages import AnyMessage
from langchain_core.runnables import RunnableConfig
from langgraph.types import Command, StateSnapshot
from pydantic import ValidationError

from r2seg_agent.cautions import Caution
from r2seg_agent.errors import BudgetError, InputError, R2SegError, RunFailedError
from r2seg_agent.graphs.graph import RECURSION_LIMIT, build_search_graph
from r2seg_agent.graphs.messages import mark_of, request_message
from r2seg_agent.graphs.planner import Planner, Waits
from r2seg_agent.graphs.planners.telemetry import untraced, untraced_steps
from r2seg_agent.imaging.in_memory import ScanInMemory
from r2seg_agent.method.models import Candidate, Finding
from r2seg_agent.progress import Progress, silent
from r2seg_agent.reason.anchors.protocol import Settles
from r2seg_agent.reason.plan import AnatomyPlan
from r2seg_agent.report.models import Report
from r2seg_agent.runs.checkpoints import checkpoints, storage_error
from r2seg_agent.runs.context import make_context
from r2seg_agent.runs.options import RunOptions
from r2seg_agent.runs.prepare import Models, Prepared, check_plans, without_paths
from r2seg_agent.runs.record import begin_record, inputs_of, new_chat_id, note, started
from r2seg_agent.runs.results import Written, make_report, write_run
from r2seg_agent.runs.session_events import ModelComment, QuestionAsked, SessionEvent, TurnEnded, events_of, question_of
from r2seg_agent.store.artifacts import ArtifactStore
from r2seg_agent.store.runs import RunFolder, RunKind
from r2seg_agent.tools.lookup import all_findings, rejected_candidates
from r2seg_agent.tools.state import GraphState, SearchState, TargetState, Turn, dump_search, load_search
from r2seg_agent.trace.recorder import Recorder, read_trace
from r2seg_agent.trace.redact import redact

MAX_MESSAGE_CHARS = 20_000
"""Longer messages are refused: they would stand in every checkpoint."""


class Session:
    """A run with its graph, store and trace. Holds the run's lock until `close`."""

    def __init__(
        self,
        folder: RunFolder,
        kind: RunKind,
        image: str | ScanInMemory,
        options: RunOptions,
        prepared: Prepared,
        planner: Planner,
        *,
        anew: bool,
        look: bool = False,
        request: str = "",
        parent: str | None = None,
        start: SearchState | None = None,
        history: Sequence[AnyMessage] = (),
        progress: Progress = silent,
    ) -> None:
        """Open the run in `folder`: `anew` forgets what an earlier run of the same id did, else it is resumed.

        `look`: only to read or to fork from it; nothing of the run is written, whatever fails. `start` and `history`
        are what a fork begins with. Raises `InputError` when another process holds the run.
        """
        # From here on the segmenter has a name: a run that is resumed elsewhere keeps the one that it began with.
        options = options.model_copy(update={"segmenter": prepared.segmenter_spec})
        self.folder, self.kind, self.image, self.options = folder, kind, image, options
        self.prepared, self.planner = prepared, planner
        self._start, self._history, self._parent = start, tuple(history), parent
        self._closing = ExitStack()
        self._look = self._ended = look
        lock = folder.acquire()
        self._closing.callback(lock.release)
        try:
            saver = self._closing.enter_context(checkpoints(options.workspace, options.store))
            self._graph = build_search_graph(planner, checkpointer=saver)
            if anew:
                saver.delete_thread(folder.id)
                folder.write_inputs(inputs_of(kind, request, str(image), options, parent, prepared.choice))
            store = ArtifactStore(options.workspace / "artifacts")
            recorder = Recorder(folder.trace, keep=self._kept(anew), read_only=look)
            self._closing.callback(recorder.close)
            self.context = make_context(kind, options, prepared, store, recorder, progress)
            if isinstance(prepared.source, Settles) and (settled := self.search.anchor_source):
                prepared.source.settle_on(settled)
            if isinstance(planner, Waits):
                planner.stop_by(self.context.stop)
            if not look:
                begin_record(folder, kind, prepared.image.name, request, parent, anew=anew)
            if recorder.count == 0 and not look:
                recorder.record("run_started", kind, started(self.report(), planner, prepared, folder, parent))
        except BaseException as error:
            self._closing.close()
            if (failure := storage_error(error)) is not None:
                raise failure from error
            raise

    def _kept(self, anew: bool) -> int:
        """Events that stay: those of the last checkpoint, or all where the run is whole up to its last line."""
        state = self._snapshot()
        if anew or state.tasks or not self.folder.trace.exists():
            return int(state.values.get("events", 0))
        events = read_trace(self.folder.trace)
        whole = events and events[-1].kind == "run_finished" and "error" not in events[-1].data
        return len(events) if whole else int(state.values.get("events", 0))

    def _rewind(self) -> None:
        """Before more is done: take the closing events of an earlier end off the trace."""
        keep = int(self._snapshot().values.get("events", 0))
        if 0 < keep < self._events:
            self.context.recorder.close()
            recorder = Recorder(self.folder.trace, keep=keep)
            self._closing.callback(recorder.close)
            self.context.recorder = recorder
            self._ended = False
            note(self.folder, "running")

    @property
    def id(self) -> str:
        """The run's id."""
        return self.folder.id

    @property
    def search(self) -> SearchState:
        """The state after the last finished step."""
        values = self._snapshot().values
        return load_search(cast(GraphState, values)) if values else self._first_state()

    @property
    def unfinished(self) -> bool:
        """True when a turn was begun and not ended, and it does not wait for the user."""
        # Not `next`: it is empty where a node is done and the checkpoint after it was never written.
        tasks = self._snapshot().tasks
        return bool(tasks) and not any(task.interrupts for task in tasks)

    @property
    def question(self) -> QuestionAsked | None:
        """The question that waits for the user, if one does."""
        search = self.search
        waiting = any(task.interrupts for task in self._snapshot().tasks)
        return QuestionAsked(search.question or "", search.choices) if waiting else None

    def say(self, text: str, *, by_rules: bool = False) -> Iterator[SessionEvent]:
        """One message of the user: a new turn, or the answer to an open question. Yields the events as they happen.

        `by_rules`: a command in the rules' own words ("undo that"), for which no model is asked.
        Raises `BudgetError` (resumable) when it was stopped or the planner's server is gone, `InputError` for an empty
        message or while an earlier turn is unfinished.
        """
        if len(text) > MAX_MESSAGE_CHARS:
            raise InputError(
                f"the message has {len(text)} characters; at most {MAX_MESSAGE_CHARS} are taken",
                "Say what to find; a report need not be pasted whole.",
            )
        clean = redact(" ".join(text.split()))
        if not clean:
            raise InputError("the request is empty", 'Say what to find, for example "find the lung nodule".')
        if self.question is not None:
            yield from self._drive(Command(resume=clean))
            return
        if self.unfinished:
            raise InputError("the last request is not finished", "Resume it first.")
        self._rewind()
        search = self._new_turn(clean, by_rules)
        messages: list[AnyMessage] = [request_message(clean, len(search.turns))]
        if not self._snapshot().values:
            messages = [*self._history, *messages]
        yield from self._drive(GraphState(messages=messages, search=dump_search(search), events=self._events))

    def resume(self) -> Iterator[SessionEvent]:
        """Go on with an unfinished turn, or with a search that a budget ended; nothing where all is done."""
        if self.unfinished:
            yield from self._drive(None)
            return
        self._rewind()
        search = self.search
        if search.turn_open and search.turns and not self._snapshot().values:
            # A fork in the middle of a turn.
            given = GraphState(messages=list(self._history), search=dump_search(search), events=self._events)
            yield from self._drive(given)
            return
        if search.outcome == "budget_exhausted":
            again = search.model_copy(
                update={"outcome": None, "turn_open": True, "answer_sentences": (), "tool_calls": 0}
            )
            for index, target in enumerate(search.targets):
                if target.outcome == "budget_exhausted":
                    again = again.with_target(index, outcome=None, answer="", answer_shown=False)
            yield from self._drive(GraphState(messages=[], search=dump_search(again), events=self._events))

    def findings(self) -> tuple[Finding, ...]:
        """All findings, by number."""
        return all_findings(self.context, self.search)

    def rejected(self) -> tuple[Candidate, ...]:
        """What was rejected, in the order in which the user counts it."""
        return rejected_candidates(self.context, self.search)

    def report(self) -> Report:
        """The report as it stands now."""
        return make_report(self.prepared, self.context, self.search, self.planner, self.id, self.options)

    def write(self) -> Written:
        """Write report, masks and pictures into the run's folder and note their hashes at the end of the trace."""
        self._rewind()
        self.context.progress("report", 0, 1, "")
        written = write_run(
            self.folder.path, self.report(), self.search, self.prepared, self.context, self.options, str(self.image)
        )
        self.context.progress("report", 1, 1, "")
        outcome = written.report.outcome
        self.context.recorder.finish(self.kind, {"outcome": outcome, "files": dict(written.files)})
        self._ended = True
        note(self.folder, "finished", outcome=outcome, findings=len(written.report.findings))
        return written

    def fork(self, turn: int | None = None, run_id: str | None = None, progress: Progress = silent) -> Session:
        """A new session that begins as this one stood before turn `turn` (default: as it stands now)."""
        search = self.search
        history = cast(list[AnyMessage], self._snapshot().values.get("messages", []))
        if turn is not None:
            known = {earlier.index: earlier for earlier in search.turns}
            if turn not in known:
                raise InputError(f"there is no turn {turn}", f"Turns: {', '.join(map(str, known)) or 'none yet'}.")
            before = known[turn].before
            assert before is not None
            search = SearchState.model_validate_json(self.context.store.json(before))
            marks = [mark_of(message) for message in history]
            opens = (i for i, mark in enumerate(marks) if mark is not None and mark.turn == turn)
            history = history[: next(opens, len(history))]
        return self._branch(run_id or new_chat_id(), search, history, progress)

    def fork_at(self, step: int, plans: Sequence[AnatomyPlan], run_id: str, progress: Progress = silent) -> Session:
        """A new run that begins as this one stood after trace event `step`; `plans` replace its targets' plans.

        Raises `InputError` for a step before the first checkpoint, and for a plan that does not fit the run's models.
        """
        remarks = check_plans(plans, self.prepared.volume, Models(self.prepared.source, self.prepared.segmenter))
        states = untraced_steps(lambda: self._graph.get_state_history(self._config()))  # newest first
        reached = (s.values for s in states if s.values.get("search") and int(s.values["events"]) <= step)
        chosen = next(reached, None)
        if chosen is None:
            raise InputError(f"run `{self.id}` has no checkpoint at step {step}", "`r2seg trace show` lists its steps.")
        search = load_search(cast(GraphState, chosen))
        if plans:
            targets = tuple(TargetState(plan=plan, original_plan=plan) for plan in plans)
            search = search.model_copy(update={"targets": targets, "question": None, "choices": ()})
            search = search.with_caution(*(Caution(kind="other_class", text=text) for text in remarks))
        search = search.model_copy(update={"turn_open": True, "outcome": None, "answer_sentences": (), "comment": ""})
        return self._branch(run_id, search, cast(list[AnyMessage], chosen["messages"]), progress)

    def _branch(self, run_id: str, search: SearchState, history: Sequence[AnyMessage], progress: Progress) -> Session:
        source = self.prepared.source
        if isinstance(source, Settles):
            search = search.model_copy(update={"anchor_source": source.settled})
        return Session(
            RunFolder(self.options.workspace, run_id),
            self.kind,
            self.image,
            self.options.model_copy(update={"out": None}),  # that folder holds the results of this run
            self.prepared,
            self.planner,
            anew=True,
            request=search.request,
            parent=self.id,
            start=search.with_levels_of(self.search),
            history=history,
            progress=progress,
        )

    def fail(self, error: BaseException) -> None:
        """Note why the run broke off: what is resumable as stopped, the rest as failed (the trace says why)."""
        if self._look:
            return
        self._ended = True
        words = type(error).__name__  # The text of an unforeseen error may hold anything.
        if isinstance(error, R2SegError):
            words = without_paths(error.message, str(self.image), self.options)
        elif isinstance(error, MemoryError):
            words = "out of memory"
        # Where the disk is full, the first error is the one to report.
        with suppress(R2SegError, OSError):
            if isinstance(error, BudgetError | KeyboardInterrupt):
                note(self.folder, "stopped")
                return
            self.context.recorder.finish(self.kind, {"outcome": "failed", "error": words, "files": {}})
            note(self.folder, "failed", outcome="failed")

    def close(self) -> None:
        """Let go of the run."""
        if not self._ended:
            note(self.folder, "stopped" if self.unfinished or self.question else "finished")
            self._ended = True
        self._closing.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None and not isinstance(error, GeneratorExit):
            self.fail(error)
        self.close()

    @property
    def _events(self) -> int:
        return self.context.recorder.count

    def _config(self) -> RunnableConfig:
        return {"configurable": {"thread_id": self.folder.id}, "recursion_limit": RECURSION_LIMIT}

    def _snapshot(self) -> StateSnapshot:
        return untraced(lambda: self._graph.get_state(self._config()))

    def _first_state(self) -> SearchState:
        if self._start is not None:
            return self._start
        plans, empty = self.prepared.plans, SearchState(request="", image=self.prepared.image, turn_open=False)
        return empty.with_targets(plans, self.context.judged(plans))

    def _new_turn(self, text: str, by_rules: bool) -> SearchState:
        search = self.search
        before = self.context.store.put_json(dump_search(search))
        turn = Turn(index=len(search.turns) + 1, text=text, before=before, by_rules=by_rules)
        message: dict[str, object] = {"turn": turn.index, "text": text, **({"by_rules": True} if by_rules else {})}
        self.context.recorder.record("user_message", f"turn {turn.index}", message)
        if not search.turns:
            for plan in self.prepared.plans:
                self.context.recorder.record("plan", "plan file", plan.model_dump(mode="json"))
        return search.model_copy(
            update={
                "request": search.request or text,
                "turns": (*search.turns, turn),
                "turn_open": True,
                "turn_calls": 0,
                "answer_sentences": (),
                "comment": "",
                "outcome": None,
                "invalid_calls": 0,
            }
        )

    def _drive(self, given: GraphState | Command[Any] | None) -> Iterator[SessionEvent]:
        """Run the graph to the turn's end or to a question."""
        assert not self._look, "a session that only looks takes no step"
        self._ended = False
        n_shown = 0 if isinstance(given, dict) else len(self.search.answer_sentences)
        try:
            for update in untraced_steps(
                lambda: self._graph.stream(
                    given, self._config(), context=self.context, stream_mode="updates", durability="sync"
                )
            ):
                for node, change in cast(dict[str, Any], update).items():
                    if node == "__interrupt__":
                        yield question_of(change[0].value)
                        continue
                    for node_change in change if isinstance(change, list) else [change]:
                        yield from events_of(node_change, n_shown, self.context.store)
                        if node_change and "search" in node_change:
                            n_shown = max(n_shown, len(node_change["search"]["answer_sentences"]))
        except BudgetError as error:
            error.hint = error.hint.replace("`r2seg resume RUN`", f"`r2seg resume {self.id}`")
            error.hint = error.hint or f"r2seg resume {self.id}"
            raise
        except ValidationError as error:
            if error.title != "SearchState":
                raise
            raise RunFailedError(
                "the checkpoint of this run was written by another version of r2seg", "Run the command again."
            ) from error
        except Exception as error:
            if (failure := storage_error(error)) is not None:
                raise failure from error
            raise
        search = self.search
        if self.question is None and search.outcome is not None:
            if search.comment:
                yield ModelComment(search.comment)
            yield TurnEnded(search.outcome, search.answer)
