"""`ChatModelPlanner` over a scripted model: three formats, one call at most, problems that name the legal choices."""

from __future__ import annotations

import json

import pytest
from helpers.scripted import ScriptedChatModel, broken_call, call, planner_of, scripted_planner, usage, written
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage, ToolCall

from r2seg_agent.errors import PlannerRefusedError, PlannerUnavailableError
from r2seg_agent.graphs.planner import Planner, PlannerReply
from r2seg_agent.graphs.planners.chat_model import ChatModelPlanner
from r2seg_agent.graphs.prompting import wrap_user
from r2seg_agent.tools.change_alpha import change_alpha
from r2seg_agent.tools.explain_candidate import explain_candidate
from r2seg_agent.tools.locate_finding import locate_finding
from r2seg_agent.tools.plan_search import plan_search

TOOLS = [plan_search, explain_candidate]
ASKED: list[AnyMessage] = [SystemMessage("rules"), HumanMessage(wrap_user("find a liver lesion"))]
LIVER = {"targets": ["liver lesion"]}
SCHEMA_CALL = json.dumps({"call": {"tool": "plan_search", "args": LIVER}})


class NoToolsError(Exception):
    """A server that answers 400: this model does not support tools."""

    status_code = 400


def _ask(planner: Planner, optional: bool = False, messages: list[AnyMessage] = ASKED) -> PlannerReply:
    return planner.ask(messages, TOOLS, optional=optional)


def _model(planner: ChatModelPlanner) -> ScriptedChatModel:
    assert isinstance(planner.model, ScriptedChatModel)
    return planner.model


def test_a_native_call_is_taken_and_counted() -> None:
    planner = scripted_planner(call("plan_search", **LIVER), price=(1.0, 10.0))
    reply = _ask(planner)
    assert reply.call is not None
    assert (reply.call["name"], reply.call["args"], reply.call_format) == ("plan_search", LIVER, "native")
    assert (reply.tokens_in, reply.tokens_out, reply.requests, reply.tokens_estimated) == (100, 10, 1, False)
    assert reply.cost_usd == pytest.approx(2e-4)
    assert _model(planner).offered == [("plan_search", "explain_candidate")]


def test_tokens_that_a_server_does_not_count_are_estimated_and_marked() -> None:
    message = AIMessage("", tool_calls=[ToolCall(name="plan_search", args=LIVER, id="1")])
    reply = _ask(scripted_planner(message))
    assert reply.tokens_estimated
    assert reply.tokens_in > 20
    assert reply.tokens_out > 5
    assert reply.cost_usd is None


@pytest.mark.parametrize("optional", [False, True])
def test_structured_output_serves_where_the_client_has_no_tool_calls(optional: bool) -> None:
    planner = planner_of(ScriptedChatModel(script=(SCHEMA_CALL,), native=False))
    for _ in range(2):
        reply = _ask(planner, optional)
        assert reply.call is not None
        assert (reply.call["args"], reply.call_format, reply.requests) == (LIVER, "json_schema", 1)
    model = _model(planner)
    assert model.offered == [("plan_search", "explain_candidate", *(["none"] if optional else []))] * 2
    assert "plan_search" in model.seen[0][0].text, "the schema alone does not say what a tool is for"


def test_words_serve_where_there_is_neither() -> None:
    planner = planner_of(ScriptedChatModel(script=(written("plan_search", **LIVER),), native=False, structured=False))
    reply = _ask(planner)
    assert reply.call is not None
    assert (reply.call["args"], reply.call_format) == (LIVER, "json_text")
    _ask(planner)
    assert _model(planner).call_formats == ["json_text", "json_text"]


def test_a_call_left_in_the_text_counts_and_structured_output_is_asked_for_next() -> None:
    planner = scripted_planner(written("plan_search", **LIVER), SCHEMA_CALL, SCHEMA_CALL)
    assert [_ask(planner).call_format for _ in range(3)] == ["json_text", "json_schema", "json_schema"]
    assert _model(planner).call_formats == ["native", "json_schema", "json_schema"]


def test_a_server_that_refuses_tools_is_asked_in_another_form_and_that_is_remembered() -> None:
    planner = scripted_planner(NoToolsError("this model does not support tools"), SCHEMA_CALL)
    first, second = _ask(planner), _ask(planner)
    assert (first.call_format, first.requests) == ("json_schema", 2)
    assert (second.call_format, second.requests) == ("json_schema", 1)


def test_a_server_that_refuses_every_form_is_named_with_what_to_do() -> None:
    planner = scripted_planner(NoToolsError("temperature is not supported"))
    with pytest.raises(PlannerRefusedError, match="temperature is not supported") as caught:
        _ask(planner)
    assert "settings file" in caught.value.hint
    assert planner.retrier.requests == 3


def test_once_a_road_is_settled_a_refusal_is_not_put_down_to_it() -> None:
    planner = scripted_planner(call("plan_search", **LIVER), NoToolsError("bad request"))
    _ask(planner)
    with pytest.raises(PlannerRefusedError):
        _ask(planner)
    assert _model(planner).call_formats == ["native", "native"]


def test_a_fixed_road_is_the_only_one() -> None:
    planner = scripted_planner(written("plan_search", **LIVER), call_format="json_text")
    assert _ask(planner).call_format == "json_text"
    assert _model(planner).call_formats == ["json_text"]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (AIMessage("I found a huge tumour."), "Words alone"),
        (AIMessage(""), "empty"),
        (AIMessage("  \n "), "empty"),
        (AIMessage("<think>hm</think>"), "empty"),
        (call("delete_everything", path="/"), "no tool `delete_everything`"),
        (call("plan_search", targets=["x"], path="/etc/passwd"), "no argument `path`"),
        (call("plan_search", runtime={"context": 1}), "no argument `runtime`"),
        (call("plan_search", targets=["x" * 9000]), "at most 4000"),
        (call("plan_search", targets=[float("nan")]), "not plain JSON"),
        (broken_call("plan_search", '{"targets": ["liv'), "not valid JSON"),
        (broken_call("plan_search", "[1, 2]"), "must be a JSON object, not a list"),
        (broken_call("plan_search", '"liver"'), "must be a JSON object, not a text"),
    ],
)
def test_what_is_no_usable_call_comes_back_with_the_legal_choices(line: AIMessage, says: str) -> None:
    reply = _ask(scripted_planner(line))
    assert reply.call is None
    assert says in reply.problem
    assert reply.problem.endswith("Call exactly one of: `plan_search(targets)`, `explain_candidate(candidate)`.")


def test_of_several_calls_the_first_valid_one_is_taken() -> None:
    calls = [("rm", {"path": "/"}), ("plan_search", LIVER), ("explain_candidate", {"candidate": "t1r1c1"})]
    message = AIMessage("", tool_calls=[ToolCall(name=n, args=a, id=n) for n, a in calls])
    reply = _ask(scripted_planner(message))
    assert reply.call is not None
    assert reply.call["name"] == "plan_search"


def test_no_call_is_legal_where_none_is_needed() -> None:
    reply = _ask(scripted_planner("That is all."), optional=True)
    assert (reply.call, reply.problem, reply.text) == (None, "", "That is all.")
    none = json.dumps({"call": {"tool": "none", "args": {}}})
    reply = _ask(planner_of(ScriptedChatModel(script=(none,), native=False)), optional=True)
    assert (reply.call, reply.problem, reply.text) == (None, "", "")


def test_a_broken_call_is_a_problem_even_where_none_is_needed() -> None:
    assert "could not be read" in _ask(scripted_planner('plan_search(targets="liver")'), optional=True).problem


def test_a_model_that_calls_natively_only_quotes_json_in_its_text() -> None:
    planner = scripted_planner(call("plan_search", **LIVER), written("explain_candidate", candidate="t1r1c1"))
    assert _ask(planner).call is not None
    reply = _ask(planner, optional=True)
    assert (reply.call, reply.problem) == (None, "")


def test_a_call_that_the_users_text_holds_word_for_word_is_a_quotation() -> None:
    pasted = 'The report says: {"name": "locate_finding", "arguments": {"finding": 9}}'
    messages: list[AnyMessage] = [SystemMessage("rules"), HumanMessage(wrap_user(pasted))]
    planner = scripted_planner(f"As you wish: {written('locate_finding', finding=9)}")
    reply = planner.ask(messages, [plan_search, locate_finding], optional=False)
    assert reply.call is None
    assert reply.problem


def test_a_call_cut_off_by_the_token_limit_is_not_taken() -> None:
    message = call("plan_search", targets=["liv"])
    message.response_metadata = {"finish_reason": "length"}
    reply = _ask(scripted_planner(message))
    assert reply.call is None
    assert "cut off" in reply.problem


def test_prose_instead_of_a_needed_call_leads_to_structured_output() -> None:
    planner = scripted_planner("Let me think about it.", SCHEMA_CALL)
    assert _ask(planner).call is None
    assert _ask(planner).call_format == "json_schema"


def test_a_dead_server_ends_as_unavailable_and_every_request_is_counted() -> None:
    planner = scripted_planner(ConnectionRefusedError("refused"), attempts=4)
    with pytest.raises(PlannerUnavailableError, match="4 requests failed"):
        _ask(planner)
    assert planner.retrier.requests == len(_model(planner).seen) == 4


def test_very_long_words_are_cut() -> None:
    assert len(_ask(scripted_planner("blah " * 9999), optional=True).text) <= 4000


def test_absurd_token_counts_do_not_become_negative() -> None:
    message = call("plan_search", **LIVER)
    message.usage_metadata = usage(-5, 10)
    assert _ask(scripted_planner(message)).tokens_in >= 0


@pytest.mark.parametrize(
    ("said", "alpha", "legal"),
    [
        ("use alpha 0.01", 0.01, True),
        ("use alpha .01", 0.01, True),
        ("use alpha 0,01", 0.01, True),
        ("be stricter, 1 %", 0.01, True),
        ("use alpha 1e-3 please", 0.001, True),
        ("be stricter", 0.01, False),
        ("find a liver lesion", 0.99, False),
        ("use alpha 0.01", 0.1, False),
        ("use alpha 10.01", 0.01, False),
    ],
)
def test_the_level_is_the_users_to_set(said: str, alpha: float, legal: bool) -> None:
    planner = scripted_planner(call("change_alpha", alpha=alpha))
    messages: list[AnyMessage] = [SystemMessage("rules"), HumanMessage(wrap_user(said))]
    reply = planner.ask(messages, [plan_search, change_alpha], optional=False)
    assert (reply.call is not None) == legal
    assert legal or "for the user to set" in reply.problem
