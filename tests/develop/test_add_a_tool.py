"""The worked example of CONTRIBUTING.md, "Add a tool": three edits, carried out on a copy of the package."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
EDITED = ("r2seg_agent/tools/rank_findings.py", "r2seg_agent/tools/__init__.py", "r2seg_agent/graphs/referee.py")

CONVERSATION = """
import json, sys
from pathlib import Path

from helpers.scripted import call, scripted_planner
from helpers.small_case import open_small_chat
from langchain_core.messages import AIMessage
from rich.console import Console

import r2seg_agent
from r2seg_agent.graphs.prompting import planner_prompt
from r2seg_agent.runs.session_events import AnswerSentence, ToolFinished
from r2seg_agent.trace.run import open_run
from r2seg_agent.trace.tree import run_tree
from r2seg_agent.trace.verify import verify_run

done = AIMessage("Done.")
planner = scripted_planner(call("plan_search", targets=["liver lesion"]), done, call("rank_findings"), done)
with open_small_chat(Path(sys.argv[1]), planner) as session:
    list(session.say("find the liver lesion"))
    events = list(session.say("which is the largest?"))
    session.write()
    run = open_run(session.folder.workspace, session.id)
console = Console(width=160, record=True, file=open("/dev/null", "w"))
console.print(run_tree(run))
print(json.dumps({
    "package": r2seg_agent.__file__,
    "offered": list(planner.model.offered[-1]),
    "prompt": planner_prompt().text,
    "finished": [[event.tool, event.line] for event in events if isinstance(event, ToolFinished)],
    "answer": [event.text for event in events if isinstance(event, AnswerSentence)],
    "results": [event.data for event in run.events if event.kind == "tool_result" and event.step == "rank_findings"],
    "tree": console.export_text(),
    "problems": [problem for check in verify_run(run) for problem in check.problems],
}))
"""


def _blocks() -> list[tuple[str, str, str]]:
    """Language, path and contents of the section's code blocks."""
    section = GUIDE.split("## Add a tool\n", 1)[1].split("\n## ", 1)[0]
    found = re.findall(r"```(python|diff)\n# (\S+)\n(.*?)```", section, re.DOTALL)
    return [(language, path, body) for language, path, body in found]


def _apply(file: Path, diff: str) -> None:
    """Add the lines that begin with a plus between the lines around them, which must stand in the file once."""
    text = file.read_text(encoding="utf-8")
    for hunk in diff.split("@@\n")[1:]:
        lines = hunk.splitlines()
        before = "".join(f"{line[1:]}\n" for line in lines if line[0] == " ")
        after = "".join(f"{line[1:]}\n" for line in lines)
        assert text.count(before) == 1, f"{file.name} does not hold these lines once:\n{before}"
        text = text.replace(before, after)
    file.write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What a conversation shows in which a model calls the new tool."""
    folder = tmp_path_factory.mktemp("add_a_tool")
    copy = folder / "copy"
    shutil.copytree(ROOT / "r2seg_agent", copy / "r2seg_agent", ignore=shutil.ignore_patterns("__pycache__"))
    for language, path, body in _blocks():
        if language == "python":
            assert not (copy / path).exists()
            (copy / path).write_text(body, encoding="utf-8")
        else:
            _apply(copy / path, body)
    environment = os.environ | {"PYTHONPATH": f"{copy}{os.pathsep}{ROOT / 'tests'}"}
    done = subprocess.run(
        [sys.executable, "-c", CONVERSATION, str(folder / "case")],
        env=environment, cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    assert str(found["package"]).startswith(str(copy)), "the copy was imported, not this package"
    return found


def test_the_example_is_three_edits() -> None:
    assert tuple(path for _, path, _ in _blocks()) == EDITED


def test_the_prompt_lists_the_new_tool_and_the_referee_offers_it(seen: dict[str, object]) -> None:
    assert '- "which is the largest?": `rank_findings`\n' in str(seen["prompt"])
    assert "rank_findings" in str(seen["offered"])


def test_the_user_gets_the_new_tools_sentence(seen: dict[str, object]) -> None:
    answer = " ".join(seen["answer"])  # type: ignore[arg-type]
    assert re.fullmatch(r"Largest first: finding \d \(\d.* ml\)(, finding \d \(.* ml\))*\.", answer)


def test_the_trace_shows_the_new_tools_line(seen: dict[str, object]) -> None:
    ((tool, line),) = seen["finished"]  # type: ignore[misc]
    (result,) = seen["results"]  # type: ignore[misc]
    assert (tool, line) == ("rank_findings", result["line"])
    assert line == f"by volume, largest first: {', '.join(map(str, result['result']['findings']))}"
    assert result["result"]["volumes_ml"] == sorted(result["result"]["volumes_ml"], reverse=True)
    assert line in str(seen["tree"])


def test_the_run_verifies(seen: dict[str, object]) -> None:
    assert seen["problems"] == []
