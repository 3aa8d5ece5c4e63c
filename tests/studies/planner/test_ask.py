"""A model as the planner: what it is shown, and what becomes of its calls."""

from __future__ import annotations

import pytest
from langchain_core.messages import ToolCall

from r2seg_agent.graphs.planner import PlannerReply
from studies.planner.ask import answer_of
from studies.planner.key import Case
from studies.planner.score import judge


class Scripted:
    """Answers with the given replies in order and remembers what it was asked."""

    name = "scripted"
    kind = "model"

    def __init__(self, *replies):
        self._replies = list(replies)
        self.asked = []

    def ask(self, messages, tools, *, optional):
        self.asked.append(([m.text for m in messages], [t.name for t in tools], optional))
        return self._replies.pop(0)


def _call(*targets):
    call = ToolCall(name="plan_search", args={"targets": list(targets)}, id="1")
    return PlannerReply(call=call, call_format="native", tokens_in=100, tokens_out=10)


NOTHING = PlannerReply(call=None, text="Sure!", problem="Call `plan_search`.", tokens_in=90, tokens_out=5)


def _case(request="look at the left kidney for a mass, and the liver"):
    wanted = [
        {"target": "kidney_lesion", "laterality": "left", "anchors": ["kidney_left"]},
        {"target": "liver_lesion", "laterality": None, "anchors": ["liver"]},
    ]
    data = {"id": "a", "category": "several", "half": "tuned", "modality": "CT", "request": request}
    return Case.model_validate(data | {"accept": [wanted]})


def test_the_phrases_of_a_call_are_planned_by_the_table():
    planner = Scripted(_call("left kidney mass", "liver lesion", "liver lesion"))
    answer = answer_of(planner, _case())
    assert judge(_case(), answer).exact
    assert (answer.calls, answer.tokens, answer.call_format, answer.referee) == (1, 110, "native", False)
    ((texts, tools, optional),) = planner.asked
    assert tools == ["plan_search"]
    assert not optional
    assert any(_case().request in text for text in texts[1:])


def test_a_reply_without_a_call_is_told_so_and_asked_once_more():
    planner = Scripted(NOTHING, _call("left kidney mass", "liver lesion"))
    answer = answer_of(planner, _case())
    assert judge(_case(), answer).exact
    assert (answer.calls, answer.tokens) == (2, 205)
    assert any("Call `plan_search`." in text for text in planner.asked[1][0])


def test_after_two_the_referee_plans_and_the_model_is_wrong():
    answer = answer_of(Scripted(NOTHING, NOTHING), _case())
    verdict = judge(_case(), answer)
    assert answer.referee
    assert verdict.served
    assert not verdict.exact


def test_an_empty_phrase_is_no_valid_call():
    planner = Scripted(_call(" "), _call("left kidney mass", "liver lesion"))
    assert judge(_case(), answer_of(planner, _case())).exact
    assert any("The request is empty." in text for text in planner.asked[1][0])


def test_targets_that_the_user_did_not_say_are_refused_as_the_agent_refuses_them():
    planner = Scripted(_call("right lung nodule"), _call("left kidney mass", "liver lesion"))
    answer = answer_of(planner, _case())
    assert judge(_case(), answer).exact
    assert answer.calls == 2
    assert any("right side" in text and "own words" in text for text in planner.asked[1][0])
    stubborn = answer_of(Scripted(_call("lung nodule"), _call("lung nodule")), _case())
    assert stubborn.referee


@pytest.mark.parametrize("phrases", [("gizzard lesion",), ("liver lesion", "gizzard lesion")])
def test_what_the_table_does_not_know_is_asked_back(phrases):
    answer = answer_of(Scripted(_call(*phrases)), _case("is there a gizzard lesion, or a liver lesion?"))
    assert answer.question
    assert answer.plans == ()
