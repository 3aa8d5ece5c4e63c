"""The search inside a graph and an agent of somebody else's."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from helpers.scripted import ScriptedChatModel, call
from helpers.small_case import keywords as options
from helpers.small_case import write_case
from langchain.agents import create_agent
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command
from pydantic import ValidationError

import r2seg_agent
from r2seg_agent import Report
from r2seg_agent.errors import InputError
from r2seg_agent.outcomes import DISCLAIMER

REQUEST = "find a liver lesion"
VAGUE = "find the tumor"


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("case")
    write_case(folder)
    return folder


class HostState(MessagesState):
    """A state of the host's own, with a key that r2seg does not know."""

    report: Report | None
    steps: list[str]


def host_graph(case: Path, workspace: Path, checkpointer: Any = None) -> Any:
    """before → r2seg → after."""
    graph = StateGraph(HostState)
    graph.add_node("before", lambda state: {"steps": ["before"]})
    graph.add_node("r2seg", r2seg_agent.make_graph(case / "image.nii.gz", **options(case, workspace)))
    graph.add_node("after", lambda state: {"steps": [*state["steps"], f"after {len(state['report'].findings)}"]})
    for a, b in ((START, "before"), ("before", "r2seg"), ("r2seg", "after"), ("after", END)):
        graph.add_edge(a, b)
    return graph.compile(checkpointer=checkpointer)


@pytest.fixture(scope="module")
def expected(case: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    return r2seg_agent.find(REQUEST, case / "image.nii.gz", **options(case, tmp_path_factory.mktemp("found")))


def test_it_is_a_node_between_two_of_the_hosts(case: Path, expected: Report, tmp_path: Path) -> None:
    state = host_graph(case, tmp_path).invoke({"messages": [HumanMessage(REQUEST)], "steps": []})
    assert state["steps"] == ["before", f"after {len(expected.findings)}"]
    assert state["report"] == expected
    assert state["report"].findings[0].mask().any()
    assert [message.type for message in state["messages"]] == ["human", "ai"]
    assert expected.findings[0].place in state["messages"][-1].text
    assert DISCLAIMER in state["messages"][-1].text


def test_it_runs_in_an_asynchronous_host(case: Path, expected: Report, tmp_path: Path) -> None:
    state = asyncio.run(host_graph(case, tmp_path).ainvoke({"messages": [HumanMessage(REQUEST)], "steps": []}))
    assert state["report"] == expected


def test_a_question_interrupts_the_host_and_its_answer_continues_the_run(case: Path, tmp_path: Path) -> None:
    # The host's checkpoints allow messages and reports, nothing else.
    allowed = JsonPlusSerializer(allowed_msgpack_modules=[Report])
    graph = host_graph(case, tmp_path, InMemorySaver(serde=allowed))
    thread = {"configurable": {"thread_id": "a"}}
    state = graph.invoke({"messages": [HumanMessage(VAGUE)], "steps": []}, thread)
    (asked,) = state["__interrupt__"]
    assert "liver" in " ".join(asked.value["choices"])
    assert "report" not in state or state["report"] is None
    choice = next(choice for choice in asked.value["choices"] if "liver" in choice)
    # Another thread asks the same at the same time: its run is another.
    other = {"configurable": {"thread_id": "b"}}
    graph.invoke({"messages": [HumanMessage(VAGUE)], "steps": []}, other)
    state = graph.invoke(Command(resume=choice), thread)
    assert state["report"].outcome == "lesions_found"
    assert state["steps"][-1].startswith("after ")
    assert [message.type for message in state["messages"]] == ["human", "ai", "human", "ai"]
    second = graph.invoke(Command(resume=choice), other)
    assert second["report"].run_id != state["report"].run_id
    assert second["report"].findings == state["report"].findings
    kept = graph.get_state(thread).values["report"]
    assert kept == state["report"], "the report comes back from the host's checkpoint"
    with pytest.raises(InputError, match="without its run"):
        kept.lesions()
    assert Report.of_run(tmp_path / "runs" / kept.run_id).lesions().any()


def test_a_question_answered_in_another_process_continues_there(case: Path, tmp_path: Path) -> None:
    saver = InMemorySaver()
    thread = {"configurable": {"thread_id": "a"}}
    first = r2seg_agent.make_graph(case / "image.nii.gz", checkpointer=saver, **options(case, tmp_path))
    first.invoke({"messages": [HumanMessage(VAGUE)]}, thread)
    second = r2seg_agent.make_graph(case / "image.nii.gz", checkpointer=saver, **options(case, tmp_path))
    state = second.invoke(Command(resume="liver"), thread)
    assert state["report"].outcome == "lesions_found"


def test_no_message_of_a_user_is_an_error(case: Path, tmp_path: Path) -> None:
    graph = r2seg_agent.make_graph(case / "image.nii.gz", **options(case, tmp_path))
    with pytest.raises(InputError, match="no text of a user"):
        graph.invoke({"messages": [AIMessage("hello")]})


class Listener(BaseCallbackHandler):
    """Notes the names of the nodes and tools that the host's callbacks are told about."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def on_chain_start(self, serialized: Any, inputs: Any, **more: Any) -> None:
        self.names.append(str(more.get("name")))

    def on_tool_start(self, serialized: Any, text: str, **more: Any) -> None:
        self.names.append(str(more.get("name") or (serialized or {}).get("name")))


def test_the_hosts_callbacks_see_its_own_nodes_and_none_of_the_search(case: Path, tmp_path: Path) -> None:
    listener = Listener()
    graph = host_graph(case, tmp_path)
    graph.invoke({"messages": [HumanMessage(REQUEST)], "steps": []}, {"callbacks": [listener]})
    assert {"before", "r2seg", "search", "after"} <= set(listener.names)
    assert not {"referee", "planner", "segment_lesions", "reject_candidates"} & set(listener.names)


def test_find_in_a_node_of_a_checkpointed_host_is_a_run_of_its_own(
    case: Path, expected: Report, tmp_path: Path
) -> None:
    def node(state: MessagesState) -> dict[str, Any]:
        found = r2seg_agent.find(REQUEST, case / "image.nii.gz", **options(case, tmp_path))
        return {"messages": [AIMessage(found.answer)]} if found == expected else {}

    graph = StateGraph(MessagesState)
    graph.add_node("node", node)
    graph.add_edge(START, "node")
    compiled = graph.compile(checkpointer=InMemorySaver())
    state = compiled.invoke({"messages": [HumanMessage("go")]}, {"configurable": {"thread_id": "t"}})
    assert state["messages"][-1].text == expected.answer


def test_an_agent_calls_it_as_a_tool(case: Path, expected: Report, tmp_path: Path) -> None:
    tool = r2seg_agent.as_tool(case / "image.nii.gz", **options(case, tmp_path))
    model = ScriptedChatModel(script=(call("find_lesions", request=REQUEST), "There is something in the liver."))
    state = create_agent(model, [tool]).invoke({"messages": [HumanMessage("Is the liver clear?")]})
    (answer,) = [message for message in state["messages"] if isinstance(message, ToolMessage)]
    assert answer.artifact == expected
    assert answer.artifact.findings[0].mask().any()
    assert expected.answer in answer.text
    assert "| # | target | place |" in answer.text
    assert answer.text.endswith(DISCLAIMER)
    assert state["messages"][-1].text == "There is something in the liver."


def test_a_model_can_pass_words_and_nothing_else(case: Path, tmp_path: Path) -> None:
    tool = r2seg_agent.as_tool(case / "image.nii.gz", **options(case, tmp_path))
    assert set(tool.args) == {"request"}
    assert tool.args_schema is not None
    for more in ({"anchors": "/etc/passwd"}, {"workspace": "/"}, {"base_url": "http://evil"}, {"scan": "other.nii"}):
        with pytest.raises(ValidationError):
            tool.invoke({"request": REQUEST, **more})
    for words in ("", "x" * 20_001):
        with pytest.raises(ValidationError):
            tool.invoke({"request": words})


@pytest.mark.parametrize("words", ["find /etc/passwd", "find a liver lesion in other.nii.gz --anchors /tmp/x"])
def test_a_path_in_the_words_opens_no_file(
    case: Path, tmp_path: Path, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from r2seg_agent.runs import prepare

    read: list[str] = []
    plain = prepare.read_image
    monkeypatch.setattr(prepare, "read_image", lambda path, **more: read.append(str(path)) or plain(path, **more))
    tool = r2seg_agent.as_tool(case / "image.nii.gz", **options(case, tmp_path))
    tool.invoke({"request": words})
    assert read == [str(case / "image.nii.gz")]


def test_a_question_comes_back_to_the_model_as_text(case: Path, tmp_path: Path) -> None:
    tool = r2seg_agent.as_tool(case / "image.nii.gz", **options(case, tmp_path))
    message = tool.invoke({"type": "tool_call", "id": "1", "name": tool.name, "args": {"request": VAGUE}})
    assert message.artifact.outcome == "needs_user"
    assert message.artifact.question in message.text
    assert all(choice.text in message.text for choice in message.artifact.choices)


def test_an_error_comes_back_without_the_users_paths(case: Path, tmp_path: Path) -> None:
    tool = r2seg_agent.as_tool(case / "missing" / "doe.nii.gz", **options(case, tmp_path))
    message = tool.invoke({"type": "tool_call", "id": "1", "name": tool.name, "args": {"request": REQUEST}})
    assert message.status == "error"
    assert "does not exist" in message.text
    assert "doe.nii" not in message.text
    assert str(case) not in message.text


def test_the_host_names_its_tools(case: Path, tmp_path: Path) -> None:
    names: Sequence[str] = ("ct_before", "ct_after")
    tools = [r2seg_agent.as_tool(case / "image.nii.gz", name=name, **options(case, tmp_path)) for name in names]
    assert [tool.name for tool in tools] == list(names)
