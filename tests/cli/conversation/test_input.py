"""The prompt: lines, history, completion, Ctrl-C and Ctrl-D, by keys sent through a pipe."""

from __future__ import annotations

import io
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.output import DummyOutput

from r2seg_agent.cli.conversation.input import HISTORY_FILE, Leave, PromptLines, ScriptLines
from r2seg_agent.cli.conversation.words import Vocabulary

ENTER, CTRL_C, CTRL_D, UP = "\r", "\x03", "\x04", "\x1b[A"


@pytest.fixture
def keys() -> Iterator[PipeInput]:
    with create_pipe_input() as pipe, create_app_session(input=pipe, output=DummyOutput()):
        yield pipe


def prompt_in(workspace: Path) -> PromptLines:
    return PromptLines(workspace, lambda: Vocabulary(findings=(1, 2)))


def read(lines: PromptLines) -> str:
    return lines.read(toolbar="scan · session", question=False)


def test_a_line_is_read_and_remembered_for_its_owner_alone(keys: PipeInput, tmp_path: Path) -> None:
    keys.send_text(f"  find the nodule {ENTER}")
    assert read(prompt_in(tmp_path / "ws")) == "find the nodule"
    history = tmp_path / "ws" / HISTORY_FILE
    assert "find the nodule" in history.read_text()
    assert stat.S_IMODE(history.stat().st_mode) == 0o600
    keys.send_text(UP + ENTER)
    assert read(prompt_in(tmp_path / "ws")) == "find the nodule", "the next session can go back to it"


def test_an_open_history_file_is_closed_to_others(keys: PipeInput, tmp_path: Path) -> None:
    (tmp_path / HISTORY_FILE).write_text("")
    (tmp_path / HISTORY_FILE).chmod(0o644)
    prompt_in(tmp_path)
    assert stat.S_IMODE((tmp_path / HISTORY_FILE).stat().st_mode) == 0o600


def test_a_history_that_cannot_be_written_does_not_stop_the_conversation(keys: PipeInput, tmp_path: Path) -> None:
    (tmp_path / HISTORY_FILE).mkdir()
    keys.send_text(f"hello{ENTER}")
    assert read(prompt_in(tmp_path)) == "hello"


def test_the_prompt_completes_what_is_before_the_cursor(keys: PipeInput, tmp_path: Path) -> None:
    completer = prompt_in(tmp_path)._session.completer
    assert completer is not None
    offered = list(completer.get_completions(Document("/exp"), CompleteEvent(completion_requested=True)))
    assert [(one.text, one.start_position) for one in offered] == [("/export", -4)]


def test_ctrl_d_leaves(keys: PipeInput, tmp_path: Path) -> None:
    keys.send_text(CTRL_D)
    with pytest.raises(Leave):
        read(prompt_in(tmp_path))


def test_ctrl_c_drops_the_line_and_twice_on_an_empty_one_leaves(keys: PipeInput, tmp_path: Path) -> None:
    lines = prompt_in(tmp_path)
    keys.send_text(f"wrong{CTRL_C}right{ENTER}")
    assert read(lines) == "right"
    keys.send_text(f"{CTRL_C}still here{ENTER}")
    assert read(lines) == "still here"
    keys.send_text(CTRL_C + CTRL_C)
    with pytest.raises(Leave):
        read(lines)


def test_a_script_is_echoed_and_ends(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("find it\n\n2"))
    lines = ScriptLines()
    assert [lines.read(toolbar="", question=question) for question in (False, False, True)] == ["find it", "", "2"]
    with pytest.raises(Leave):
        lines.read(toolbar="", question=False)
    assert capsys.readouterr().out == "› find it\n› \nanswer › 2\n"
