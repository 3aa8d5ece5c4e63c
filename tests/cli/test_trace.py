"""`r2seg trace` from the command line: what it prints, its JSON, its exit statuses."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.traced_runs import Case, copied
from typer.testing import CliRunner

from r2seg_agent.cli.main import app
from r2seg_agent.errors import InputError
from r2seg_agent.trace.run import TracedRun, open_run

WIDE = {"COLUMNS": "160"}


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(tmp_path_factory.mktemp("case"))


@pytest.fixture(scope="module")
def found(case: Case, tmp_path_factory: pytest.TempPathFactory) -> TracedRun:
    workspace = tmp_path_factory.mktemp("ws")
    return open_run(workspace, case.find(workspace).folder.name)


@pytest.fixture(scope="module")
def chat(case: Case, found: TracedRun) -> TracedRun:
    workspace = found.folder.workspace
    return open_run(workspace, case.chat(workspace, "find a liver lesion", "show me the slice"))


def invoke(run: TracedRun, *arguments: str, status: int = 0) -> str:
    given = ["trace", *arguments, "--workspace", str(run.folder.workspace)]
    result = CliRunner().invoke(app, given, env=WIDE)
    assert result.exit_code == status, (result.output, result.exception)
    return result.stdout


def test_list_names_every_run_with_its_outcome(found: TracedRun, chat: TracedRun) -> None:
    text = invoke(found, "list")
    assert re.search(rf"{found.id} .* find .* find a liver lesion .* lesions found .* 1 ", text)
    assert re.search(rf"{chat.id} .* chat .* find a liver lesion .* lesions found", text)
    rows = json.loads(invoke(found, "list", "--json"))["runs"]
    assert {row["id"] for row in rows} == {found.id, chat.id}
    assert all(row["seconds"] > 0 for row in rows)


def test_list_of_an_empty_workspace_says_what_to_do(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["trace", "list", "-w", str(tmp_path)])
    assert result.exit_code == 0
    assert "r2seg find" in " ".join(result.stdout.split())


def test_show_prints_the_tree_and_one_step_with_its_picture(found: TracedRun, chat: TracedRun) -> None:
    assert "reject_candidates" in invoke(found, "show", found.id[:5])
    events = json.loads(invoke(found, "show", found.id, "--json"))["events"]
    assert [event["seq"] for event in events] == list(range(1, len(found.events) + 1))
    shown = next(e.seq for e in chat.events if e.kind == "tool_result" and e.step == "show_slices")
    assert "picture: " in invoke(chat, "show", chat.id, "--step", str(shown))
    (picture,) = json.loads(invoke(chat, "show", chat.id, "--step", str(shown), "--json"))["pictures"]
    assert Path(picture).is_file()


def test_a_step_that_does_not_exist_and_an_unknown_run_are_explained(found: TracedRun) -> None:
    def error(*arguments: str) -> InputError:
        given = ["trace", "show", *arguments, "-w", str(found.folder.workspace)]
        raised = CliRunner().invoke(app, given).exception
        assert isinstance(raised, InputError)
        return raised

    assert "has no step 999" in error(found.id, "--step", "999").message
    assert f"near: {found.id}" in error(found.id[:-1] + "z").message


def test_diff_tells_same_from_different(found: TracedRun, chat: TracedRun) -> None:
    assert "are the same" in invoke(found, "diff", found.id, found.id)
    text = invoke(found, "diff", found.id, chat.id)
    assert "First differing event: 1" in text
    assert json.loads(invoke(found, "diff", found.id, found.id, "--json"))["same"] is True
    assert json.loads(invoke(found, "diff", found.id, chat.id, "--json"))["first_difference"] == 1


def test_verify_exits_0_or_5(found: TracedRun, tmp_path: Path) -> None:
    assert "is what its trace says" in invoke(found, "verify", found.id)
    run = copied(found, tmp_path / "ws")
    (run.folder.path / "overlay.png").unlink()
    assert "overlay.png is missing" in invoke(run, "verify", run.id, status=5)
    checks = json.loads(invoke(run, "verify", run.id, "--json", status=5))
    assert checks["passed"] is False


def test_replay_exits_0_or_5(found: TracedRun, tmp_path: Path) -> None:
    assert "byte for byte, no model called" in invoke(found, "replay", found.id, "--quiet")
    run = copied(found, tmp_path / "ws")
    text = run.folder.trace.read_text()
    proposed = re.search(r'"candidates":(\d+)', text)
    assert proposed is not None
    n = int(proposed[1])
    run.folder.trace.write_text(text.replace(proposed[0], f'"candidates":{n + 1}'))
    told = json.loads(invoke(run, "replay", run.id, "--json", status=5))
    assert told["same"] is False
    assert any(f"candidates: recorded {n + 1}, replayed {n}" in words for words in told["differences"])


def test_export_writes_a_page_and_spans(found: TracedRun, tmp_path: Path) -> None:
    pytest.importorskip("openinference.semconv.trace", reason="the extra `otel` is not installed")
    page, spans = tmp_path / "run.html", tmp_path / "spans.json"
    text = invoke(found, "export", found.id, "--html", str(page), "--otel", str(spans))
    assert "opens offline" in text
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert json.loads(spans.read_text())["resourceSpans"]
    raised = CliRunner().invoke(app, ["trace", "export", found.id, "-w", str(found.folder.workspace)]).exception
    assert isinstance(raised, InputError)
    assert "--html FILE" in raised.hint


def test_looking_at_traces_loads_neither_torch_nor_langchain(found: TracedRun) -> None:
    """`list`, `show` and `diff` are instant; verify needs torch for the test statistic alone."""
    code = (
        "import sys; from typer.testing import CliRunner; from r2seg_agent.cli.main import app\n"
        "for given in (['list'], ['show', sys.argv[2]], ['diff', sys.argv[2], sys.argv[2]]):\n"
        "    result = CliRunner().invoke(app, ['trace', *given, '-w', sys.argv[1]])\n"
        "    assert result.exit_code == 0, result.output\n"
        "heavy = {'torch', 'langchain_core', 'langgraph', 'SimpleITK', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    given = [sys.executable, "-c", code, str(found.folder.workspace), found.id]
    run = subprocess.run(given, capture_output=True, text=True, env={**os.environ}, check=False)
    assert run.returncode == 0, run.stderr
