"""What goes to a model's server goes there alone, and what comes back is bounded: on servers of this machine."""

from __future__ import annotations

import gzip
import json
import resource
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from helpers.fake_openai import FakeOpenAI, Reply, call
from helpers.scripted import no_sleep
from langchain_core.messages import AnyMessage, HumanMessage

from r2seg_agent.errors import InputError, PlannerRefusedError
from r2seg_agent.graphs.planners.chat_model import ChatModelPlanner
from r2seg_agent.graphs.planners.choose import choose_planner
from r2seg_agent.graphs.planners.connection import MAX_ANSWER_BYTES
from r2seg_agent.graphs.planners.retry import Backoff
from r2seg_agent.graphs.planners.settings import PlannerSettings
from r2seg_agent.tools.plan_search import plan_search

ASKED: list[AnyMessage] = [HumanMessage("find a liver lesion")]
GOOD = call("plan_search", targets=["liver lesion"])
PROVIDERS = ["openai", "anthropic", "ollama"]
PROXIES = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")
Answer = Callable[[BaseHTTPRequestHandler], None]


def _planner(provider: str, url: str, **settings: Any) -> ChatModelPlanner:
    given = PlannerSettings(**{"timeout_s": 60.0, "backoff": Backoff(attempts=1), **settings})
    planner = choose_planner(f"{provider}:scripted", base_url=url, settings=given)
    assert isinstance(planner, ChatModelPlanner)
    planner.retrier.sleep = no_sleep
    return planner


@contextmanager
def _server(answer: Answer) -> Iterator[tuple[str, list[str]]]:
    """Its address, and the paths that were asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            asked.append(self.path)
            with suppress(BrokenPipeError, ConnectionResetError):
                answer(self)

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()


def _refuse(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(403)
    handler.send_header("Content-Length", "0")
    handler.end_headers()


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_proxy_of_the_environment_sees_nothing(provider: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("R2SEG_PLANNER_KEY", "sk-secret-0123456789")
    with _server(_refuse) as (proxy, proxied), _server(_refuse) as (local, asked):
        for variable in PROXIES:
            monkeypatch.setenv(variable, proxy)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        with pytest.raises(PlannerRefusedError, match="403"):
            _planner(provider, local).ask(ASKED, [plan_search], optional=False)
    assert proxied == []
    assert len(asked) == 1


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_server_that_sends_the_request_on_is_not_followed(provider: str, status: int) -> None:
    with _server(_refuse) as (elsewhere, followed):

        def redirect(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(status)
            handler.send_header("Location", f"{elsewhere}/v1/chat/completions")
            handler.send_header("Content-Length", "0")
            handler.end_headers()

        with _server(redirect) as (local, asked), pytest.raises(PlannerRefusedError, match=str(status)) as caught:
            _planner(provider, local).ask(ASKED, [plan_search], optional=False)
    assert followed == []
    assert len(asked) == 1
    assert "--base-url" in caught.value.hint


def test_a_proxy_is_used_where_it_is_stated_and_never_for_this_machine() -> None:
    with _server(_refuse) as (proxy, proxied):
        with pytest.warns(UserWarning, match="not encrypted"):
            planner = _planner("openai", "http://192.0.2.1/v1", proxy=proxy)
        with pytest.raises(PlannerRefusedError):
            planner.ask(ASKED, [plan_search], optional=False)
    assert proxied == ["http://192.0.2.1/v1/chat/completions"]
    with pytest.raises(InputError, match="an address of this machine"):
        _planner("openai", "http://127.0.0.1:9/v1", proxy=proxy)


def test_ollamas_own_key_goes_to_no_other_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_API_KEY", "ollama-secret")
    sent: list[str] = []

    def note(handler: BaseHTTPRequestHandler) -> None:
        sent.append(str(handler.headers))
        _refuse(handler)

    with _server(note) as (local, _), pytest.raises(PlannerRefusedError):
        _planner("ollama", local).ask(ASKED, [plan_search], optional=False)
    assert len(sent) == 1
    assert "ollama-secret" not in sent[0]


def _endless(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [{"message": {"content": "')
    for _ in range(600):
        handler.wfile.write(b"word " * 200_000)


def _announced(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(600_000_000))
    handler.end_headers()


def _packed(handler: BaseHTTPRequestHandler) -> None:
    body = gzip.compress(b" " * 600_000_000, compresslevel=1)
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Encoding", "gzip")
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("answer", [_endless, _announced])
def test_an_answer_without_end_is_given_up(provider: str, answer: Answer) -> None:
    with _server(answer) as (local, asked):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        reply = _planner(provider, local, call_format="native").ask(ASKED, [plan_search], optional=False)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert reply.call is None
    assert "cut off" in reply.problem
    assert len(asked) == 1, "it is not asked for again"
    assert grown < 20 * MAX_ANSWER_BYTES / 1024


@pytest.mark.slow
def test_a_packed_answer_is_not_unpacked() -> None:
    with _server(_packed) as (local, _):
        reply = _planner("openai", local, call_format="native").ask(ASKED, [plan_search], optional=False)
    assert "cut off" in reply.problem


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("way", ["native", "json_schema", "json_text"])
def test_many_plain_words_are_read_in_no_time(way: str, stream: bool) -> None:
    words = "the liver shows no lesion at all, " * 1200
    with FakeOpenAI([Reply(content=words)]) as server:
        planner = _planner("openai", server.url, call_format=way, stream=stream)
        started = time.monotonic()
        reply = planner.ask(ASKED, [plan_search], optional=False)
    assert reply.call is None
    assert time.monotonic() - started < (20.0 if stream else 5.0), "reading grows with the square of the length"


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_of_many_plain_words_is_refused_in_no_time(stream: bool) -> None:
    arguments = '{"targets": ["' + "liver lesion " * 6000
    with FakeOpenAI([Reply(tool_calls=(("plan_search", arguments),))]) as server:
        planner = _planner("openai", server.url, call_format="native", stream=stream)
        started = time.monotonic()
        reply = planner.ask(ASKED, [plan_search], optional=False)
    assert reply.call is None
    assert time.monotonic() - started < (20.0 if stream else 5.0), "reading grows with the square of the length"


def test_a_good_call_still_arrives_by_the_schema() -> None:
    written = json.dumps({"call": {"tool": "plan_search", "args": {"targets": ["liver lesion"]}}})
    with FakeOpenAI([Reply(content=written)]) as server:
        reply = _planner("openai", server.url, call_format="json_schema").ask(ASKED, [plan_search], optional=False)
    assert reply.call is not None
    assert reply.call["args"] == {"targets": ["liver lesion"]}
