"""Adversarial cases end to end: none reaches a file it should not, none changes a number, each ends by name.

The cases are in `tests/helpers/adversaries.py`; docs/develop/agent.md shows them as a table, checked here line by line.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import pytest
from helpers.adversaries import CASES, Case
from helpers.fake_openai import Clock, FakeOpenAI, Reply
from helpers.scripted import ScriptedChatModel, no_sleep, scripted_planner
from helpers.small_case import small_options, write_case

from r2seg_agent.errors import BudgetError, R2SegError
from r2seg_agent.graphs.planners import retry
from r2seg_agent.graphs.planners.chat_model import ChatModelPlanner
from r2seg_agent.graphs.planners.choose import choose_planner
from r2seg_agent.graphs.planners.offline import OfflinePlanner
from r2seg_agent.graphs.planners.retry import Backoff
from r2seg_agent.graphs.planners.settings import PlannerSettings
from r2seg_agent.outcomes import OutcomeKind
from r2seg_agent.runs.api import open_chat, reopen
from r2seg_agent.runs.session import Session
from r2seg_agent.runs.session_events import ModelComment
from r2seg_agent.tools import ALL_TOOLS
from r2seg_agent.tools.measure_finding import FINDINGS
from r2seg_agent.trace.events import Event
from r2seg_agent.trace.recorder import read_trace

DOCS = Path(__file__).parents[2] / "docs" / "develop" / "agent.md"
FORBIDDEN = ("/etc/passwd", "/etc/shadow", "secret.txt")
NEVER = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.remove", "shutil.rmtree", "os.fork")


@dataclass
class Watch:
    """What the process does while a case runs: files opened, connections made, programs started."""

    on: bool = False
    opened: list[tuple[str, bool]] = field(default_factory=list)
    others: list[str] = field(default_factory=list)


WATCH = Watch()


def _audit(event: str, args: tuple[object, ...]) -> None:
    if not WATCH.on:
        return
    if event == "open" and isinstance(args[0], str | bytes):
        writing = isinstance(args[2], int) and bool(args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        WATCH.opened.append((os.fsdecode(args[0]), writing))
    elif event in NEVER and args[0] != "uname":  # The openai client asks for the system's name, once a process.
        WATCH.others.append(f"{event} {args[0]}")
    elif event == "socket.connect" and isinstance(args[1], tuple) and args[1][0] not in ("127.0.0.1", "::1"):
        WATCH.others.append(f"{event} {args[1]}")


sys.addaudithook(_audit)


@contextmanager
def watched() -> Iterator[Watch]:
    """Watch the process; an audit hook cannot be removed, so it is switched."""
    WATCH.opened.clear()
    WATCH.others.clear()
    WATCH.on = True
    try:
        yield WATCH
    finally:
        WATCH.on = False


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small scan with its ball, and one workspace for all: what is searched once is known."""
    root = tmp_path_factory.mktemp("adversarial")
    write_case(root / "scan")
    return root


@pytest.fixture(scope="module")
def expected(scans: Path) -> bytes:
    """The findings of the offline planner, as JSON: no model may change a digit of them."""
    with _open(scans / "scan", scans, OfflinePlanner(), {}) as session:
        list(session.say("find a liver lesion"))
        assert session.findings()
        return FINDINGS.dump_json(session.findings())


def _id(case: Case) -> str:
    return re.sub(r"\W+", "-", case.name.encode("ascii", "ignore").decode())[:60]


@pytest.mark.parametrize("case", CASES, ids=_id)
def test_it_ends_by_name_and_does_no_harm(case: Case, scans: Path, expected: bytes, tmp_path: Path) -> None:
    folder = scans / "scan"
    changed: dict[str, object] = {}
    if case.prepare is not None:
        folder = tmp_path / "scan"
        shutil.copytree(scans / "scan", folder)
        changed = dict(case.prepare(folder))
    model = _Model(case)
    with model.running() as planner, _open(folder, scans, planner, {**case.options, **changed}) as session:
        with watched() as watch:
            outcome, words = _talk(session, case.says)
        search, findings, report = session.search, session.findings(), session.report()
        events = read_trace(session.folder.trace)
    # It ends by name.
    assert outcome == case.outcome
    assert outcome in get_args(OutcomeKind) or outcome.startswith("Planner")
    # No file, no program, no connection that it should not have.
    assert not [path for path, _ in watch.opened if any(one in path for one in FORBIDDEN)]
    assert not [path for path, writing in watch.opened if writing and not _may_be_written(path, (scans, tmp_path))]
    assert watch.others == []
    # No number is changed or made up.
    if case.findings == "the same":
        assert FINDINGS.dump_json(findings) == expected
    elif case.findings == "none":
        assert findings == ()
    assert words == [] or "not shown" not in case.happens
    # Only our tools were called, and what was refused came back with the reason.
    names = {tool.name for tool in ALL_TOOLS}
    assert all(event.data["tool"] in names for event in events if event.kind == "tool_call")
    shown = model.shown
    if case.told:
        assert case.told in shown or any(case.told in text for text in _complaints(events))
    assert _fell_back(events) == case.fallback
    assert bool(search.cautions) >= case.fallback, "a step that the rules took is noted in the report"
    if case.asked is not None:
        assert model.asked == case.asked
    # What is hidden reaches neither the model nor the trace nor the report.
    trace = "".join(event.model_dump_json() for event in events)
    assert not [secret for secret in case.untold if secret in shown]
    for secret in case.hidden:
        assert secret not in shown
        assert secret not in trace
        assert secret not in report.model_dump_json()


class _Model:
    """The case's model: scripted, or a real client before a scripted server."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._scripted: ScriptedChatModel | None = None
        self._server: FakeOpenAI | None = None

    @contextmanager
    def running(self) -> Iterator[ChatModelPlanner]:
        replies = [line for line in self._case.script if isinstance(line, Reply)]
        if not replies:
            planner = scripted_planner(*(line for line in self._case.script if not isinstance(line, Reply)))
            assert isinstance(planner.model, ScriptedChatModel)
            self._scripted = planner.model
            yield planner
            return
        with FakeOpenAI(replies) as server, pytest.MonkeyPatch.context() as patch:
            self._server = server
            patch.setattr(retry, "time", Clock(server))
            settings = PlannerSettings(timeout_s=600.0, backoff=Backoff(attempts=3, first_s=0.0))
            planner = choose_planner("openai:scripted", base_url=server.url, settings=settings)
            assert isinstance(planner, ChatModelPlanner)
            planner.retrier.sleep = no_sleep
            yield planner

    @property
    def asked(self) -> int:
        """Questions to the model, or requests to its server."""
        if self._scripted is not None:
            return len(self._scripted.seen)
        return len(self._server.requests) if self._server is not None else 0

    @property
    def shown(self) -> str:
        """Everything that the model or its server was sent."""
        if self._scripted is not None:
            return "\n".join(message.text for messages in self._scripted.seen for message in messages)
        requests = self._server.requests if self._server is not None else []
        return "\n".join(request.raw.decode("unicode_escape") for request in requests)


def _open(folder: Path, root: Path, planner: ChatModelPlanner | OfflinePlanner, options: dict[str, object]) -> Session:
    single = bool(options.pop("single", False))
    image = str(folder / str(options.pop("image", "image.nii.gz")))
    given = small_options(folder, **{"modality": "CT", "reject": "paper", "workspace": root / "ws", **options})
    session = open_chat(image, given, planner=planner)
    session.context.converse = not single
    return session


def _talk(session: Session, says: Sequence[str]) -> tuple[str, list[str]]:
    """The outcome after the last message (or the error that ended it), and the model's words that were shown."""
    words: list[str] = []
    try:
        for text in says:
            words += [event.text for event in session.say(text) if isinstance(event, ModelComment)]
    except R2SegError as error:
        return type(error).__name__, words
    if session.question is not None:
        return "needs_user", words
    return str(session.search.outcome), words


def _complaints(events: Sequence[Event]) -> list[str]:
    errors = [str(event.data.get("error")) for event in events if event.kind == "tool_error"]
    return errors + [str(event.data.get("problem")) for event in events if event.kind == "model_call"]


def _fell_back(events: Sequence[Event]) -> bool:
    return any(event.data.get("taken_by") == "offline fallback" for event in events if event.kind == "tool_call")


def _may_be_written(path: str, roots: Sequence[Path]) -> bool:
    below = any(Path(path).resolve().is_relative_to(root.resolve()) for root in roots)
    return below or path == os.devnull or "__pycache__" in path or "matplotlib" in path


def test_a_run_that_lost_its_server_is_resumed_without_one(scans: Path, expected: bytes) -> None:
    with FakeOpenAI([Reply(trouble="reset")]) as server:
        settings = PlannerSettings(timeout_s=600.0, backoff=Backoff(attempts=2, first_s=0.0))
        planner = choose_planner("openai:scripted", base_url=server.url, settings=settings)
        assert isinstance(planner, ChatModelPlanner)
        planner.retrier.sleep = no_sleep
        session = _open(scans / "scan", scans, planner, {})
        with pytest.raises(BudgetError, match="cannot be reached") as caught, session:
            list(session.say("find a liver lesion"))
    assert "r2seg resume" in caught.value.hint
    with reopen(session.id, scans / "ws", planner=OfflinePlanner()) as resumed:
        list(resumed.resume())
        assert resumed.search.outcome == "lesions_found"
        assert FINDINGS.dump_json(resumed.findings()) == expected


def test_the_table_in_the_docs_is_this_list() -> None:
    table = [line for line in DOCS.read_text(encoding="utf-8").splitlines() if re.match(r"\| \d+ \|", line)]
    assert table == docs_table()
    assert len(table) >= 40


def docs_table() -> list[str]:
    """The cases as lines of a Markdown table."""
    return [
        f"| {number} | {case.group} | {_cell(case.name)} | {_cell(case.happens)} | `{case.outcome}` |"
        for number, case in enumerate(CASES, start=1)
    ]


def _cell(text: str) -> str:
    """Text that is safe in a table: letters of other scripts are named, so that a reader can tell them apart."""
    plain = "".join(c if ord(c) < 0x370 or c in "…“”–" else f"<U+{ord(c):04X}>" for c in text)
    return plain.replace("|", "\\|")
