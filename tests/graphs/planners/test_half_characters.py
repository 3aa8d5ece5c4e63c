"""Half a character from a model (a lone surrogate) stops neither the recorder nor a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from helpers.fake_openai import FakeOpenAI, Reply
from helpers.scripted import Line, call, scripted_planner, written
from helpers.small_case import open_small_chat
from langchain_core.messages import AIMessage, AnyMessage, ToolCall
from langchain_core.tools import BaseTool

from r2seg_agent.errors import readable_json
from r2seg_agent.graphs.planner import PlannerKind, PlannerReply
from r2seg_agent.graphs.planners.choose import choose_planner
from r2seg_agent.graphs.planners.settings import PlannerSettings
from r2seg_agent.runs.replay import replay_run
from r2seg_agent.trace.recorder import read_trace
from r2seg_agent.trace.run import open_run

HALF = "liver lesion \ud83d"


class _OwnPlanner:
    """A planner of a host."""

    name = "own"
    kind: PlannerKind = "model"

    def ask(self, messages: Sequence[AnyMessage], tools: Sequence[BaseTool], *, optional: bool) -> PlannerReply:
        if optional:
            return PlannerReply(call=None, text=f"done \udc00 {HALF}")
        args = {"targets": [HALF], "\ud83d": {"\udc00": 1}}
        return PlannerReply(call=ToolCall(name="plan_search\ud83d", args=args, id="x"), text=HALF)


SCRIPTS: list[tuple[Line, ...]] = [
    (call("plan_search", targets=[HALF]), "ok \ud83d"),
    (AIMessage(HALF, tool_calls=[ToolCall(name="plan\ud83d", args={"\ud83d": HALF}, id="\ud83d")]),),
    (written("plan_search", targets=[HALF]),),
    (HALF,),
    ('{"name": "plan_search", "arguments": {"targets": ["liver lesion \\ud83d"]}}',),
]


@pytest.mark.parametrize("script", SCRIPTS, ids=range(len(SCRIPTS)))
def test_half_characters_of_a_chat_model(tmp_path: Path, script: tuple[Line, ...]) -> None:
    with open_small_chat(tmp_path, scripted_planner(*script), overlays=False) as session:
        list(session.say("find a liver lesion"))
        session.write()
    trace = session.folder.trace.read_text(encoding="utf-8")
    assert "�" in trace or "liver" in trace
    assert any(event.kind == "answer" for event in read_trace(session.folder.trace))
    assert replay_run(open_run(tmp_path / "ws", session.id)).same


def test_half_characters_of_a_planner_of_a_host(tmp_path: Path) -> None:
    with open_small_chat(tmp_path, _OwnPlanner(), overlays=False) as session:  # type: ignore[arg-type]
        list(session.say("find a liver lesion"))
    assert "�" in session.folder.trace.read_text(encoding="utf-8")


def test_half_characters_over_the_wire(tmp_path: Path) -> None:
    arguments = '{"targets": ["liver lesion \\ud83d"]}'
    with FakeOpenAI([Reply(tool_calls=(("plan_search", arguments),)), Reply(content="ok \ud83d")]) as server:
        planner = choose_planner("openai:scripted", base_url=server.url, settings=PlannerSettings(timeout_s=60.0))
        with open_small_chat(tmp_path, planner, overlays=False) as session:
            list(session.say("find a liver lesion"))
    calls = [e.data["call"] for e in read_trace(session.folder.trace) if e.kind == "model_call" and e.data["call"]]
    assert calls[0] == {"tool": "plan_search", "args": {"targets": ["liver lesion �"]}}
    json.dumps(calls, ensure_ascii=False).encode()


def test_readable_json_reaches_every_text() -> None:
    mended = readable_json({"a\ud83d": ["\udc00", {"b": ("\ud83d",)}, 3, None, "😀"]})
    assert mended == {"a�": ["�", {"b": ("\ud83d",)}, 3, None, "😀"]}  # JSON has no tuples
