"""The mark of a message says what it is, survives a checkpoint, and is sent to no planner."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.scripted import call, scripted_planner
from helpers.small_case import open_small_chat
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from r2seg_agent.graphs.messages import (
    MARK,
    Mark,
    answer_message,
    call_message,
    kind_of,
    mark_of,
    problem_messages,
    request_message,
)
from r2seg_agent.graphs.planners.turn_log import Called, Replied, log_of_turn
from r2seg_agent.graphs.prompting import planner_messages, planner_prompt
from r2seg_agent.reason.plan import Choice
from r2seg_agent.runs.api import reopen
from r2seg_agent.runs.session_events import QuestionAsked
from r2seg_agent.tools import plan_search

LIVER = Choice(kind="concept", text="lesion of liver", value="liver_lesion")
MESSAGES: tuple[AnyMessage, ...] = (
    request_message("find it", 3),
    answer_message("2", LIVER, 9),
    call_message("plan_search", {"targets": ["liver lesion"]}, "offline fallback", 4, "I plan."),
    *problem_messages("It is cancer.", "Call exactly one of", 11),
)


@pytest.mark.parametrize("message", MESSAGES)
def test_a_mark_survives_a_checkpoint(message: AnyMessage) -> None:
    serde = JsonPlusSerializer()
    again = serde.loads_typed(serde.dumps_typed(message))
    assert again == message
    assert mark_of(again) == mark_of(message) is not None


def test_the_mark_and_nothing_else_says_what_a_message_is() -> None:
    assert [kind_of(message) for message in MESSAGES] == ["request", "answer", "call", "comment", "problem"]
    assert mark_of(MESSAGES[0]) == Mark(kind="request", turn=3)
    assert mark_of(MESSAGES[1]) == Mark(kind="answer", choice=LIVER)
    assert mark_of(MESSAGES[2]) == Mark(kind="call", taken_by="offline fallback")
    for message in (HumanMessage("answer", id="answer-9", name="referee"), ToolMessage("", tool_call_id="planner-1")):
        assert kind_of(message) is None
    again = request_message("answer-9 referee", 1)
    again.id, again.name = "answer-9", "referee"
    assert kind_of(again) == "request"


def test_a_turn_is_read_by_marks_whatever_ids_and_names_say() -> None:
    history = [request_message("a", 1), call_message("plan_search", {}, "planner", 1), answer_message("b", None, 2)]
    for message in history:
        message.id, message.name = "answer-1", "referee"
    assert log_of_turn(history) == [Called("plan_search"), Replied("b")]


def test_no_mark_is_sent_to_a_planner(tmp_path: Path) -> None:
    done = AIMessage("Done.")
    planner = scripted_planner("words", call("plan_search", targets=["liver lesion"]), done, call("show_slices"), done)
    with open_small_chat(tmp_path, planner) as session:
        list(session.say("find the liver lesion"))
        list(session.say("show me the slice"))
        history = session._graph.get_state(session._config()).values["messages"]
        assert {kind_of(message) for message in history} == {"request", "call", "comment", "problem", None}
        assert any(isinstance(message, ToolMessage) and message.artifact for message in history)
        messages = planner_messages(session.search, history, [plan_search], planner_prompt())
    for message in (*messages, *(message for seen in planner.model.seen for message in seen)):  # type: ignore[attr-defined]
        assert not message.additional_kwargs
        assert not isinstance(message, ToolMessage) or message.artifact is None
        assert f'"{MARK}"' not in json.dumps(message.model_dump(), default=str)


def test_a_question_keeps_its_typed_choices_when_the_session_is_opened_again(tmp_path: Path) -> None:
    with open_small_chat(tmp_path) as session:
        events = list(session.say("find the tumour in the gizzard"))
        (asked,) = [event for event in events if isinstance(event, QuestionAsked)]
        name = session.id
    with reopen(name, tmp_path / "ws", changes={"interactive": True}) as again:
        assert again.question == asked
        assert all(choice.kind == "concept" and choice.value for choice in asked.choices)
        list(again.say("1"))
        history = again._graph.get_state(again._config()).values["messages"]
        (answer,) = [mark for message in history if (mark := mark_of(message)) and mark.kind == "answer"]
        assert answer.choice == asked.choices[0]
        turn = again.search.turns[-1]
        assert turn.reading == asked.choices[0].text
