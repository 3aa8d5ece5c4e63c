"""The offline planner's reading of a turn: what was called, what was answered, and what an answer means."""

from __future__ import annotations

import pytest
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage

from r2seg_agent.graphs.messages import answer_message, call_message, problem_messages, request_message
from r2seg_agent.graphs.planners.offline import OfflinePlanner
from r2seg_agent.graphs.planners.replies import declines, which_of_reply
from r2seg_agent.graphs.planners.turn_log import Called, Replied, last_asked, log_of_turn
from r2seg_agent.reason.language.dialogue import FindingRow, RejectedRow, Table, TargetRow, Which
from r2seg_agent.reason.plan import Choice
from r2seg_agent.tools import plan_search

TABLE = Table(
    modality="CT",
    targets=(TargetRow(1, "lung_nodule", "lung nodule", ("lung_left", "lung_right"), "lesions_found", 1),),
    findings=tuple(
        FindingRow(n, 1, "lung_nodule", "lung nodule", f"{side} lung, {third} third", f"{ml} ml", ml)
        for n, (side, third, ml) in enumerate(
            (("left", "upper", 3.0), ("right", "lower", 1.0), ("left", "lower", 2.0)), 1
        )
    ),
    rejected=tuple(RejectedRow(n, f"t1r1c{n}", 1, float(n), "flat") for n in (1, 2, 3)),
)
FINDINGS, REJECTED = Which(numbers=(1, 2, 3), unsure=True), Which("rejected", (1, 2, 3), unsure=True)


LIVER = Choice(kind="concept", text="lesion of liver", value="liver_lesion")


def _call(tool: str, number: int, *, referee: bool = False) -> AIMessage:
    return call_message(tool, {}, "referee" if referee else "planner", number)


def test_the_log_of_a_turn_holds_calls_and_answers_but_no_steps_of_the_search() -> None:
    history: list[AnyMessage] = [
        request_message("find it", 1),
        _call("plan_search", 1),
        request_message("show me", 2),
        _call("plan_search", 2),
        ToolMessage("which organ?", tool_call_id="call-2"),
        answer_message("the liver", LIVER, 9),
        _call("plan_search", 3),
        _call("locate_organs", 4, referee=True),
        _call("widen_search", 5, referee=True),
        *problem_messages("", "call a tool", 12),
        _call("show_slices", 6, referee=True),
        ToolMessage("no finding 9", tool_call_id="call-6", status="error"),
    ]
    assert log_of_turn(history) == [
        Called("plan_search"),
        Replied("the liver", LIVER),
        Called("plan_search"),
        Called("show_slices", "no finding 9"),
    ]
    assert last_asked(history, ("describe_findings", "show_slices")) == "show_slices"


@pytest.mark.parametrize(
    ("reply", "asked", "meant"),
    [
        ("2", FINDINGS, (2,)),
        ("2: lung nodule, left lung", FINDINGS, (2,)),
        ("left 2: lung nodule", FINDINGS, (2,)),
        ("both", FINDINGS, (1, 2, 3)),
        ("the right one", FINDINGS, (2,)),
        ("the biggest", FINDINGS, (1,)),
        ("in the upper third", FINDINGS, (1,)),
        ("the second", REJECTED, (2,)),
        ("the largest one", REJECTED, (3,)),
        ("all of them", REJECTED, (1, 2, 3)),
    ],
)
def test_an_answer_names_what_was_meant(reply: str, asked: Which, meant: tuple[int, ...]) -> None:
    found = which_of_reply(reply, asked, TABLE)
    assert found is not None
    assert (found.kind, found.numbers, found.unsure) == (asked.kind, meant, False)


def test_an_answer_that_fits_several_is_asked_again_and_another_wish_is_no_answer() -> None:
    again = which_of_reply("the left one", FINDINGS, TABLE)
    assert again is not None
    assert again.unsure
    assert which_of_reply("use alpha 0.01", FINDINGS, TABLE) is None
    assert which_of_reply("how big is number 2?", FINDINGS, TABLE) is None


@pytest.mark.parametrize("reply", ["none", "none of them", "No.", "never mind", "cancel", "forget it"])
def test_an_answer_may_decline(reply: str) -> None:
    assert declines(reply)
    assert not declines(f"{reply} but number 2")


def test_without_a_search_to_look_at_there_is_nothing_to_say() -> None:
    reply = OfflinePlanner().ask([HumanMessage("find it")], [plan_search], optional=False)
    assert reply.call is None
    assert "stand-in" in OfflinePlanner().name
