"""Runs from checked options: what the verbs `find`, `chat`, `resume` and `fork` and the Python functions call."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from r2seg_agent.errors import BudgetError, InputError, R2SegError, RunFailedError, readable_text
from r2seg_agent.files import check_folder, copy_files
from r2seg_agent.imaging.in_memory import ScanInMemory
from r2seg_agent.names import utf8_path
from r2seg_agent.outcomes import EXIT_STATUS
from r2seg_agent.progress import Progress, silent
from r2seg_agent.reason.plan import Choice
from r2seg_agent.report.models import Report
from r2seg_agent.runs.options import RunOptions
from r2seg_agent.runs.prepare import prepare
from r2seg_agent.store.artifacts import recipe_sha256
from r2seg_agent.store.runs import RunFolder, run_folder

if TYPE_CHECKING:
    from r2seg_agent.graphs.planner import Planner
    from r2seg_agent.reason.plan import AnatomyPlan
    from r2seg_agent.runs.loaded import LoadedModels
    from r2seg_agent.runs.results import Written
    from r2seg_agent.runs.session import Session

MAX_QUESTIONS = 5
"""Questions that one `find` puts to the user before it stops, resumable."""

FindOptions = RunOptions

AskUser = Callable[[str, tuple[Choice, ...]], str | None]
"""Puts a question with choices to the user; None when they give no answer."""


@dataclass(frozen=True)
class FindResult:
    """The report, the folder that holds its files, and the exit status that the outcome means."""

    report: Report
    folder: Path
    files: tuple[str, ...]

    @property
    def exit_status(self) -> int:
        """See `EXIT_STATUS`."""
        return EXIT_STATUS[self.report.outcome]


def run_find(
    request: str,
    image: str | ScanInMemory,
    options: RunOptions,
    progress: Progress = silent,
    *,
    ask: AskUser | None = None,
    opened: Callable[[Session], None] | None = None,
    planner: Planner | None = None,
    models: LoadedModels | None = None,
) -> FindResult:
    """Check the input, run the search graph, write the results; the same call gives the same bytes.

    `ask` answers questions where a person is there. `opened` gets the session before it works, e.g. to stop it.
    `planner` is used instead of the one that `options` name. `models` are those that earlier runs left loaded.
    """
    from r2seg_agent.runs.session import Session
    from r2seg_agent.trace.redact import redact

    if not request.strip():
        raise InputError("the request is empty", 'Say what to find, for example "find the lung nodule".')
    image, request = _scan_in_utf8(image), readable_text(request)
    options = options.model_copy(update={"interactive": ask is not None})
    _check_out(options.out)
    used = planner or planner_of(options)
    prepared = prepare(image, options, progress, models, request=request)
    folder = RunFolder(options.workspace, prepared.run_id(redact(" ".join(request.split()))))
    session = Session(folder, "find", image, options, prepared, used, anew=True, request=request, progress=progress)
    with session:
        written = _finish(session, request, ask, opened)
    return _handed_over(session, written)


def open_chat(
    image: str | ScanInMemory,
    options: RunOptions,
    progress: Progress = silent,
    *,
    planner: Planner | None = None,
    session_id: str | None = None,
) -> Session:
    """A new conversation over the scan `image`."""
    image = _scan_in_utf8(image)
    options = options.model_copy(update={"interactive": True})
    used = planner if options.planner == "offline" else planner or planner_of(options)
    with _importing("langchain.tools"):
        prepared = prepare(image, options, progress)
    from r2seg_agent.runs.record import new_chat_id
    from r2seg_agent.runs.session import Session

    used = used or planner_of(options)
    folder = RunFolder(options.workspace, session_id or new_chat_id())
    return Session(folder, "chat", image, options, prepared, used, anew=True, progress=progress)


def reopen(
    name: str,
    workspace: Path,
    progress: Progress = silent,
    *,
    image: str | ScanInMemory | None = None,
    planner: Planner | None = None,
    models: LoadedModels | None = None,
    look: bool = False,
    changes: Mapping[str, object] | None = None,
) -> Session:
    """The run or conversation `name` (an id or its beginning), as its last finished step left it.

    `image` names the scan where it has moved; `changes` are options of this process: budgets, `store`, `interactive`.
    `look`: only to read it, or to fork from it. Raises `InputError` when the scan is another one than the run's.
    """
    from r2seg_agent.runs.record import choice_of, file_of_run, options_of
    from r2seg_agent.runs.session import Session

    folder = run_folder(workspace, name)
    inputs = folder.inputs()
    given = {key: value for key, value in (changes or {}).items() if value is not None}
    options = options_of(inputs).changed({"workspace": workspace, **given})
    used = planner or planner_of(options)
    path = file_of_run(inputs, folder.id) if image is None else _scan_in_utf8(image)
    prepared = prepare(path, options, progress, models, choice=choice_of(inputs))
    original = _traced_image(folder)
    if original is not None and original != prepared.image.sha256:
        raise InputError(
            f"the scan is not the one of run `{folder.id}`", "Name the right one with --image, or start a new run."
        )
    return Session(folder, inputs.kind, path, options, prepared, used, anew=False, look=look, progress=progress)


def _scan_in_utf8(image: str | ScanInMemory) -> str | ScanInMemory:
    return image if isinstance(image, ScanInMemory) else utf8_path(str(image))


def _traced_image(folder: RunFolder) -> str | None:
    """The scan's hash as the run's trace has it; None where the run never got so far."""
    from r2seg_agent.trace.recorder import read_trace

    events = read_trace(folder.trace) if folder.trace.exists() else ()
    started = next((event for event in events if event.kind == "run_started"), None)
    image = None if started is None else started.data.get("image")
    return str(image["sha256"]) if isinstance(image, dict) else None


def run_resume(
    name: str,
    workspace: Path,
    progress: Progress = silent,
    *,
    ask: AskUser | None = None,
    opened: Callable[[Session], None] | None = None,
    planner: Planner | None = None,
    image: str | ScanInMemory | None = None,
    changes: Mapping[str, object] | None = None,
) -> FindResult:
    """Continue a single run that was killed, stopped or ended by a budget; finished steps are not repeated."""
    given = {**(changes or {}), "interactive": ask is not None}
    folder = run_folder(workspace, name)
    if folder.inputs().kind == "chat":
        raise InputError(f"`{folder.id}` is a conversation", f"r2seg chat IMAGE --resume {folder.id}")
    _check_out(_out_of(folder))
    session = reopen(folder.id, workspace, progress, image=image, planner=planner, changes=given)
    with session:
        written = _finish(session, session.folder.inputs().request, ask, opened)
    return _handed_over(session, written)


def run_fork(
    name: str,
    step: int,
    workspace: Path,
    progress: Progress = silent,
    *,
    plans: tuple[AnatomyPlan, ...] = (),
    opened: Callable[[Session], None] | None = None,
    image: str | ScanInMemory | None = None,
    changes: Mapping[str, object] | None = None,
) -> FindResult:
    """A new run that begins as `name` stood after trace event `step`, by other `plans` where some are given.

    Its results stay in its own folder in the workspace: the parent's `--out` holds those of the parent.
    """
    with reopen(name, workspace, progress, image=image, look=True, changes=changes) as session:
        dumped = [plan.model_dump(mode="json") for plan in plans]
        run_id = recipe_sha256({"fork": session.id, "step": step, "plans": dumped})[:12]
        fork = session.fork_at(step, plans, run_id, progress)
        with fork:
            written = _finish(fork, fork.search.request, None, opened)
    return _handed_over(fork, written)


def _finish(session: Session, request: str, ask: AskUser | None, opened: Callable[[Session], None] | None) -> Written:
    """Drive a single run to its end and write its results."""
    from r2seg_agent.runs.session_events import QuestionAsked

    if opened is not None:
        opened(session)
    events = session.resume() if session.search.turns else session.say(request)
    questions = 0
    while True:
        asked = next((event for event in list(events) if isinstance(event, QuestionAsked)), None) or session.question
        if asked is None:
            break
        questions += 1
        reply = None if ask is None or questions > MAX_QUESTIONS else ask(asked.question, asked.choices)
        if reply is None:
            raise BudgetError(
                f"{asked.question} (choices: {', '.join(choice.line for choice in asked.choices)})",
                f"Answer with: r2seg resume {session.id}",
            )
        events = session.say(reply)
    try:
        return session.write()
    except MemoryError as error:
        raise RunFailedError("the machine ran out of memory", "Crop the scan or use a machine with more.") from error


def _out_of(folder: RunFolder) -> Path | None:
    """The `--out` that a run was started with."""
    from r2seg_agent.runs.record import options_of

    return options_of(folder.inputs()).out


def _check_out(out: Path | None) -> None:
    """Before any work."""
    if out is not None:
        check_folder(out, f"`--out {out}`")


def _handed_over(session: Session, written: Written) -> FindResult:
    """Copy the results to `--out` once the run is closed: whatever fails here, the run in the workspace is whole."""
    folder = session.folder.path
    if session.options.out is not None:
        folder = session.options.out
        try:
            copy_files(session.folder.path, folder, (*written.files, "trace.jsonl"), f"`--out {folder}`")
        except R2SegError as error:
            raise type(error)(error.message, f"{error.hint} The run is finished: {session.folder.path}") from error
    return FindResult(report=written.report, folder=folder, files=(*written.files, "trace.jsonl"))


@contextmanager
def _importing(module: str) -> Iterator[None]:
    """Import `module` while something else is done: half of the start-up of a conversation is imports, and reading a
    scan needs no interpreter. `module` must share no import with what is done meanwhile."""
    thread = threading.Thread(target=importlib.import_module, args=(module,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def planner_of(options: RunOptions) -> Planner:
    """The planner that `options` name."""
    if options.planner == "offline":
        from r2seg_agent.graphs.planners.offline import OfflinePlanner

        return OfflinePlanner()
    from r2seg_agent.graphs.planners.choose import choose_planner

    return choose_planner(options.planner, base_url=options.base_url)
