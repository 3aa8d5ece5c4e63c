"""The real langchain-openai client, end to end, against a server on loopback that behaves well and badly."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from helpers.fake_openai import Clock, FakeOpenAI, Reply, call, text
from helpers.scripted import no_sleep
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage, ToolCall, ToolMessage

from r2seg_agent.errors import PlannerRefusedError, PlannerUnavailableError
from r2seg_agent.graphs.planner import PlannerReply
from r2seg_agent.graphs.planners import retry
from r2seg_agent.graphs.planners.chat_model import ChatModelPlanner
from r2seg_agent.graphs.planners.choose import choose_planner
from r2seg_agent.graphs.planners.retry import Backoff
from r2seg_agent.graphs.planners.settings import PlannerSettings
from r2seg_agent.graphs.prompting import wrap_user
from r2seg_agent.tools.explain_candidate import explain_candidate
from r2seg_agent.tools.plan_search import plan_search

ASKED: list[AnyMessage] = [SystemMessage("rules"), HumanMessage(wrap_user("find a liver lesion"))]
GOOD = call("plan_search", targets=["liver lesion"])
LIVER = {"targets": ["liver lesion"]}


def _planner(server: FakeOpenAI, **settings: Any) -> ChatModelPlanner:
    given = PlannerSettings(**{"timeout_s": 600.0, "backoff": Backoff(attempts=3), **settings})
    planner = choose_planner("openai:scripted", base_url=server.url, settings=given)
    assert isinstance(planner, ChatModelPlanner)
    planner.retrier.sleep = no_sleep
    return planner


def _ask(server: FakeOpenAI, messages: list[AnyMessage] = ASKED, **settings: Any) -> PlannerReply:
    return _planner(server, **settings).ask(messages, [plan_search, explain_candidate], optional=False)


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_call_arrives_with_its_tokens(stream: bool) -> None:
    with FakeOpenAI([GOOD]) as server:
        reply = _ask(server, stream=stream)
    assert reply.call is not None
    assert (reply.call["name"], reply.call["args"], reply.call_format) == ("plan_search", LIVER, "native")
    assert (reply.tokens_in, reply.tokens_out, reply.tokens_estimated, reply.requests) == (100, 20, False, 1)
    body = server.requests[0].body
    assert body["stream"] is stream
    assert (body["temperature"], body["seed"], body["tool_choice"]) == (0.0, 0, "required")
    assert body["parallel_tool_calls"] is False
    assert body["max_completion_tokens"] == 2048
    assert [tool["function"]["name"] for tool in body["tools"]] == ["plan_search", "explain_candidate"]
    assert "runtime" not in json.dumps(body["tools"])


@pytest.mark.parametrize("stream", [False, True])
def test_arguments_that_are_not_json_are_not_guessed_at(stream: bool) -> None:
    with FakeOpenAI([Reply(tool_calls=(("plan_search", '{"targets": ["liv'),))]) as server:
        reply = _ask(server, stream=stream)
    assert reply.call is None
    assert "not valid JSON" in reply.problem


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("arguments", [LIVER, json.dumps(json.dumps(LIVER)), json.dumps(LIVER, indent=1)])
def test_arguments_as_an_object_or_encoded_twice_are_read(arguments: Any, stream: bool) -> None:
    with FakeOpenAI([Reply(tool_calls=(("plan_search", arguments),))]) as server:
        reply = _ask(server, stream=stream)
    assert reply.call is not None
    assert (reply.call["name"], reply.call["args"]) == ("plan_search", LIVER)
    assert len(server.requests) == 1


@pytest.mark.parametrize("name", [f"{space}plan_search" for space in ("default_api.", "functions.", "tools/", "api:")])
def test_a_namespace_before_a_tools_name_is_no_part_of_it(name: str) -> None:
    with FakeOpenAI([Reply(tool_calls=((name, json.dumps(LIVER)),))]) as server:
        reply = _ask(server)
    assert reply.call is not None
    assert reply.call["name"] == "plan_search"
    with FakeOpenAI([Reply(tool_calls=(("default_api.read_file", "{}"),))]) as server:
        assert "no tool `default_api.read_file`" in _ask(server).problem


def test_an_answer_that_is_broken_in_the_same_way_each_time_is_asked_for_in_another_form() -> None:
    """Arguments that are a list: LangChain's client cannot hold them, however often they come."""
    broken = Reply(tool_calls=(("plan_search", ["liver lesion"]),))
    written = text(json.dumps({"tool": "plan_search", "args": LIVER}))
    with FakeOpenAI([broken, broken, broken, written]) as server:
        reply = _ask(server, backoff=Backoff(attempts=5))
    assert reply.call is not None
    assert reply.call["args"] == LIVER
    assert len(server.requests) == 4


OVERFLOWS = (
    "This model's maximum context length is 4096 tokens. However, you requested 5321 tokens (3273 in the messages, "
    "2048 in the completion). Please reduce the length of the messages or completion.",
    "the request exceeds the available context size, try increasing it",
    "the request exceeds the available context size. try increasing the context size or enable context shift",
    "The decoder prompt (length 5321) is longer than the maximum model length of 4096.",
    "Input length (5321 tokens) exceeds the maximum allowed length (4096 tokens).",
    "`inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5321 `inputs` tokens and 2048 `max_new_tokens`",
    "prompt is too long: 213462 tokens > 200000 maximum",
)


@pytest.mark.parametrize("words", OVERFLOWS, ids=range(len(OVERFLOWS)))
def test_a_conversation_that_is_too_long_for_the_server_is_called_so(words: str) -> None:
    with FakeOpenAI([Reply(status=400, error=words)]) as server:
        with pytest.raises(PlannerRefusedError, match="refused") as found:
            _ask(server)
        assert len(server.requests) == 1
    assert "too long for this server" in found.value.hint


@pytest.mark.parametrize("words", ["no tokens left today", "`max_tokens` must be at most 8192", "context is required"])
def test_other_refusals_are_not_taken_for_it(words: str) -> None:
    with FakeOpenAI([Reply(status=400, error=words)]) as server, pytest.raises(PlannerRefusedError) as found:
        _ask(server)
    assert "too long" not in found.value.hint


def test_a_tool_that_is_not_offered_is_refused_with_the_legal_choices() -> None:
    with FakeOpenAI([call("read_file", path="/etc/passwd")]) as server:
        reply = _ask(server)
    assert reply.call is None
    assert "Call exactly one of: `plan_search(targets)`" in reply.problem


@pytest.mark.parametrize("trouble", ["hang", "drip", "cut", "reset", "html", "no choices", "null choices", "not json"])
def test_trouble_with_the_connection_is_tried_again(trouble: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeOpenAI([Reply(content="x" * 100, trouble=trouble), GOOD]) as server:
        monkeypatch.setattr(retry, "time", Clock(server))
        planner = _planner(server, backoff=Backoff(attempts=3, first_s=0.0))
        planner.retrier.stop = threading.Event()  # never set: with it the wait for an answer looks at the clock
        reply = planner.ask(ASKED, [plan_search, explain_candidate], optional=False)
    assert reply.call is not None
    assert (reply.requests, len(server.requests)) == (2, 2)


def test_a_stream_that_breaks_off_is_no_answer() -> None:
    with FakeOpenAI([Reply(content="x" * 100, trouble="cut stream"), GOOD]) as server:
        reply = _ask(server, stream=True)
    assert reply.call is not None
    assert reply.requests == 2


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_tried_again_and_then_given_up(status: int) -> None:
    with FakeOpenAI([Reply(status=status, headers={"Retry-After": "1"}), GOOD]) as server:
        assert _ask(server).requests == 2
    with FakeOpenAI([Reply(status=status)]) as server, pytest.raises(PlannerUnavailableError, match=f"HTTP {status}"):
        _ask(server)
    assert len(server.requests) == 3, "the SDK's own retries are off, ours are counted"


def test_the_servers_wait_is_honoured() -> None:
    slept: list[float] = []
    with FakeOpenAI([Reply(status=429, headers={"Retry-After": "9"}), GOOD]) as server:
        planner = _planner(server)
        planner.retrier.sleep = slept.append
        planner.ask(ASKED, [plan_search], optional=False)
    assert slept == [9.0]


def test_a_refused_key_is_not_tried_again() -> None:
    with FakeOpenAI([Reply(status=401, error="invalid key")]) as server, pytest.raises(PlannerRefusedError) as caught:
        _ask(server)
    assert len(server.requests) == 1
    assert "key" in caught.value.hint


def test_a_server_without_tool_calls_gives_structured_output() -> None:
    answer = text(json.dumps({"call": {"tool": "plan_search", "args": LIVER}}))
    with FakeOpenAI([Reply(status=400, error="this model does not support tools"), answer]) as server:
        reply = _ask(server)
    assert reply.call is not None
    assert (reply.call["args"], reply.call_format, reply.requests) == (LIVER, "json_schema", 2)
    body = server.requests[1].body
    assert "tools" not in body
    assert body["response_format"]["type"] == "json_schema"
    assert body["response_format"]["json_schema"]["schema"]["required"] == ["call"]


def test_a_server_that_leaves_calls_in_the_text_is_understood() -> None:
    written = text('```json\n{"name": "plan_search", "arguments": {"targets": ["liver lesion"]}}\n```')
    with FakeOpenAI([written]) as server:
        reply = _ask(server)
    assert reply.call is not None
    assert (reply.call["args"], reply.call_format) == (LIVER, "json_text")


def test_structured_output_cut_at_the_token_limit_is_a_problem_and_no_crash() -> None:
    with FakeOpenAI([Reply(content='{"call": {"tool": "plan', finish="length")]) as server:
        reply = _ask(server, call_format="json_schema")
    assert reply.call is None
    assert "cut off" in reply.problem


def test_a_conversation_with_calls_and_results_is_sent_as_the_protocol_wants_it() -> None:
    messages: list[AnyMessage] = [
        *ASKED,
        AIMessage("", tool_calls=[ToolCall(name="plan_search", args={"targets": 7}, id="planner-1")]),
        ToolMessage("targets: a list is needed", tool_call_id="planner-1", name="plan_search", status="error"),
    ]
    with FakeOpenAI([GOOD]) as server:
        _ask(server, messages)
    sent = server.requests[0].body["messages"]
    assert [message["role"] for message in sent] == ["system", "user", "assistant", "tool"]
    assert sent[2]["tool_calls"][0]["id"] == sent[3]["tool_call_id"]


@pytest.mark.parametrize("off", ["temperature", "seed", "max_tokens"])
def test_a_parameter_that_a_server_refuses_can_be_switched_off(off: str) -> None:
    with FakeOpenAI([GOOD]) as server:
        _ask(server, **{off: None})
    assert not {off, off.replace("max", "max_completion")} & set(server.requests[0].body)
