"""Calls written into text: every shape that local models are known to write, and nothing that is not a call."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage, ToolCall, ToolMessage

from r2seg_agent.graphs.planners.calls import Offer
from r2seg_agent.graphs.planners.json_text import flattened, instructions, read_text, without_thoughts
from r2seg_agent.tools.explain_candidate import explain_candidate
from r2seg_agent.tools.locate_finding import locate_finding
from r2seg_agent.tools.plan_search import plan_search

ONE = Offer([plan_search])
TWO = Offer([plan_search, explain_candidate])
ARGS = {"targets": ["liver lesion"]}
CALL = {"name": "plan_search", "arguments": ARGS}
OTHER = {"name": "explain_candidate", "arguments": {"candidate": "t1r1c1"}}
"""What a model thinks of and discards."""


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(CALL),
        f"```json\n{json.dumps(CALL, indent=2)}\n```",
        f"```\n{json.dumps(CALL)}\n```",
        f"Sure, I will look.\n\n```json\n{json.dumps(CALL)}\n```\nDone.",
        f"<tool_call>\n{json.dumps(CALL)}\n</tool_call>",
        f"<|python_tag|>{json.dumps({'name': 'plan_search', 'parameters': ARGS})}",
        f"[TOOL_CALLS] [{json.dumps(CALL)}]",
        json.dumps({"tool": "plan_search", "args": ARGS}),
        json.dumps({"tool_name": "plan_search", "tool_input": ARGS}),
        json.dumps({"action": "plan_search", "action_input": ARGS}),
        json.dumps({"function": CALL}),
        json.dumps({"type": "function", "function": {"name": "plan_search", "arguments": json.dumps(ARGS)}}),
        json.dumps({"tool_calls": [{"id": "1", "type": "function", "function": CALL}]}),
        json.dumps({"call": {"tool": "plan_search", "args": ARGS}}),
        json.dumps([CALL]),
        json.dumps({"plan_search": ARGS}),
        json.dumps({"tool": "plan_search", **ARGS}),
        f"<think>I might call {json.dumps({'name': 'explain_candidate', 'arguments': {}})}</think>{json.dumps(CALL)}",
        f"{{not json}} then {json.dumps(CALL)}",
        json.dumps({"name": "functions.plan_search", "arguments": ARGS}),
        json.dumps({"name": "default_api.plan_search", "arguments": json.dumps(json.dumps(ARGS))}),
        json.dumps({"tool": "default_api.plan_search", **ARGS}),
        f"I might call {json.dumps(OTHER)}\n</think>\n{json.dumps(CALL)}",
        f"<think>no</think> or {json.dumps(OTHER)}</think>{json.dumps(CALL)}",
        f"<thought>{json.dumps(OTHER)}</thought>{json.dumps(CALL)}",
        f"<seed:think>{json.dumps(OTHER)}</seed:think>{json.dumps(CALL)}",
        f"[THINK]{json.dumps(OTHER)}[/THINK]{json.dumps(CALL)}",
        f"◁think▷{json.dumps(OTHER)}◁/think▷{json.dumps(CALL)}",
        f"<|START_THINKING|>{json.dumps(OTHER)}<|END_THINKING|>{json.dumps(CALL)}",
        f"<|channel|>analysis<|message|>{json.dumps(OTHER)}<|end|><|start|>assistant<|channel|>commentary "
        f"to=functions.plan_search <|constrain|>json<|message|>{json.dumps(ARGS)}<|call|>",
        f"<|channel|>analysis<|message|>{json.dumps(OTHER)}<|channel|>final<|message|>{json.dumps(CALL)}",
        f"analysisPerhaps {json.dumps(OTHER)}assistantcommentary to=functions.plan_search json{json.dumps(ARGS)}",
        f"analysisPerhaps {json.dumps(OTHER)}assistantfinal{json.dumps(CALL)}",
    ],
)
def test_a_written_call_is_recognised(text: str) -> None:
    read = read_text(text, TWO)
    picked, problem = TWO.pick(read.calls)
    assert picked is not None, problem
    assert (picked["name"], picked["args"]) == ("plan_search", ARGS)


@pytest.mark.parametrize(
    "text",
    [
        f"<think>{json.dumps(CALL)}",
        f"{json.dumps(CALL)}</think>",
        f"<thought>{json.dumps(CALL)}</thought> I need nothing.",
        f"<|channel|>analysis<|message|>{json.dumps(CALL)}<|end|>",
        f"<|channel|>analysis<|message|>{json.dumps(CALL)}",
        f"analysisI could call {json.dumps(CALL)}",
    ],
)
def test_a_call_that_is_only_thought_of_is_none(text: str) -> None:
    assert read_text(text, TWO).calls == ()
    assert "plan_search" not in without_thoughts(text)


def test_words_about_thinking_are_no_thoughts() -> None:
    for text in ("analysis of the liver", "I think <b>so</b>", "Analysis: nothing", "a thought> b"):
        assert without_thoughts(text) == text


def test_bare_arguments_are_a_call_only_where_one_tool_is_offered() -> None:
    assert ONE.pick(read_text(json.dumps(ARGS), ONE).calls)[0] is not None
    assert read_text(json.dumps(ARGS), TWO).calls == ()


@pytest.mark.parametrize(
    "text",
    ["", "I found a tumour.", "{}", "[]", '{"liver": 3}', '{"name": "liver"}', "{" * 5000, '{"a":' * 5000, "[" * 9999],
)
def test_what_is_not_a_call_is_none(text: str) -> None:
    assert read_text(text, TWO).calls == ()


@pytest.mark.parametrize(
    "text",
    [
        '```json\n{"name": "plan_search", "arguments": {"targets": ["liver\n```',
        "<tool_call>{'name': 'plan_search'}</tool_call>",
        'plan_search(targets=["liver lesion"])',
        '{"name": "plan_search", "arguments": {"targets": NaN}}',
        '{"name": "plan_search", "name": "explain_candidate", "arguments": {}}',
    ],
)
def test_a_call_that_cannot_be_read_is_seen_as_an_attempt(text: str) -> None:
    read = read_text(text, TWO)
    assert read.tried
    assert TWO.pick(read.calls)[0] is None


def test_words_around_a_call_are_kept_and_the_call_is_not_among_them() -> None:
    read = read_text(f"I will look.\n```json\n{json.dumps(CALL)}\n```\nThen we see.", TWO)
    assert read.words == "I will look. Then we see."


def test_thoughts_are_left_out_even_when_they_never_end() -> None:
    assert without_thoughts("<think>a</think>b").strip() == "b"
    assert without_thoughts("b<think>endless").strip() == "b"


@given(st.text(max_size=300))
def test_no_text_breaks_the_reader(text: str) -> None:
    for call in read_text(text, TWO).calls:
        TWO.pick([call])


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
)


@given(ANY_JSON)
def test_no_arguments_break_the_check(args: object) -> None:
    text = json.dumps({"name": "plan_search", "arguments": args})
    picked, problem = TWO.pick(read_text(text, TWO).calls)
    assert (picked is None) == bool(problem)
    if picked is not None:
        assert set(picked["args"]) <= {"targets"}


def test_the_problem_names_the_legal_choices() -> None:
    _, problem = TWO.pick(read_text('{"name": "rm", "arguments": {"path": "/"}}', TWO).calls)
    assert problem == (
        "There is no tool `rm` now. Call exactly one of: `plan_search(targets)`, `explain_candidate(candidate)`."
    )


def test_a_made_up_name_is_shown_safely() -> None:
    _, problem = TWO.pick(read_text(json.dumps({"name": "plаn`_search\u202e\n" * 20, "arguments": {}}), TWO).calls)
    assert problem.isascii()
    assert "\n" not in problem
    assert len(problem) < 250


def test_instructions_hold_every_schema_and_the_way_out_only_where_it_is_legal() -> None:
    told = instructions(Offer([plan_search, locate_finding]), optional=False)
    assert "plan_search" in told
    assert '"finding"' in told
    assert '"none"' not in told
    assert '"none"' in instructions(ONE, optional=True)
    assert "runtime" not in told


def test_flattened_messages_alternate_and_lose_nothing() -> None:
    messages: list[AnyMessage] = [
        SystemMessage("rules"),
        HumanMessage("find it"),
        AIMessage("", tool_calls=[ToolCall(name="plan_search", args=ARGS, id="1")]),
        ToolMessage("no such organ", tool_call_id="1", name="plan_search", status="error"),
        HumanMessage("The referee says: try again"),
    ]
    flat = flattened(messages, "MORE")
    assert [message.type for message in flat] == ["system", "human", "ai", "human"]
    assert flat[0].text == "rules\nMORE"
    assert json.loads(flat[2].text) == {"tool": "plan_search", "args": ARGS}
    assert "`plan_search` refused the call: no such organ" in flat[3].text
    assert "try again" in flat[3].text
