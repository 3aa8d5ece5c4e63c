"""Spans in OpenInference's words: one tree, stable ids, tokens, nothing that the trace does not hold."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk.trace", reason="the extra `otel` is not installed")
pytest.importorskip("openinference.semconv.trace", reason="the extra `otel` is not installed")

from openinference.semconv.trace import OpenInferenceSpanKindValues, SpanAttributes
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from r2seg_agent.errors import InputError, MissingDependencyError, RunFailedError
from r2seg_agent.trace import otel
from r2seg_agent.trace.otel import run_spans, send_spans, write_spans
from r2seg_agent.trace.run import TracedRun
from r2seg_agent.trace.story import turns_of


@pytest.fixture
def server() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """A server on loopback that keeps what is posted to it."""
    posted: list[tuple[str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(500 if self.path.startswith("/refuse") else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}", posted
    http.shutdown()
    thread.join()
    http.server_close()


@pytest.mark.parametrize("name", ["found", "modelled", "chat"])
def test_spans_form_one_tree_with_known_kinds(runs: dict[str, TracedRun], name: str) -> None:
    run = runs[name]
    spans = run_spans(run)
    root, *others = spans
    assert root.parent is None
    ids = {span.context.span_id: span for span in spans if span.context}
    assert len(ids) == len(spans)
    kinds = {kind.value for kind in OpenInferenceSpanKindValues}
    for span in spans:
        assert span.attributes is not None
        assert span.attributes[SpanAttributes.OPENINFERENCE_SPAN_KIND] in kinds
        assert span.attributes[SpanAttributes.SESSION_ID] == run.id
        assert span.start_time is not None
        assert span.end_time is not None
        assert span.start_time <= span.end_time
    for span in others:
        assert span.parent is not None
        parent = ids[span.parent.span_id]
        assert parent.start_time <= span.start_time
        assert span.end_time <= parent.end_time
    tools = [span.name for span in spans if span.attributes["openinference.span.kind"] == "TOOL"]
    assert tools == [step.head.step for turn in turns_of(run.events) for step in turn.steps if step.is_tool]


def test_a_models_call_carries_tokens_cost_and_call(modelled: TracedRun) -> None:
    spans = [span for span in run_spans(modelled) if span.attributes["openinference.span.kind"] == "LLM"]
    failed, planned = (dict(span.attributes) for span in spans)
    assert failed[SpanAttributes.LLM_TOKEN_COUNT_TOTAL] == 16
    assert spans[0].status.status_code.name == "ERROR"
    assert planned[SpanAttributes.LLM_TOKEN_COUNT_PROMPT] == 21
    assert planned[SpanAttributes.LLM_TOKEN_COUNT_COMPLETION] == 7
    assert planned[SpanAttributes.LLM_COST_TOTAL] == 0.0004
    assert planned[SpanAttributes.LLM_MODEL_NAME] == "scripted"
    assert planned[SpanAttributes.LLM_PROVIDER] == "test"
    call = "llm.output_messages.0.message.tool_calls.0.tool_call.function"
    assert planned[f"{call}.name"] == "plan_search"
    assert json.loads(str(planned[f"{call}.arguments"])) == {"targets": ["liver lesion"]}
    assert "find the lesion of the liver" in str(planned["llm.input_messages.0.message.content"])


def test_the_offline_rules_are_not_shown_as_a_language_model(found: TracedRun) -> None:
    kinds = [span.attributes["openinference.span.kind"] for span in run_spans(found)]
    assert "LLM" not in kinds
    assert "AGENT" in kinds


def test_a_second_export_is_the_same_and_the_file_is_otlp_json(chat: TracedRun, tmp_path: Path) -> None:
    n = write_spans(chat, tmp_path / "a.json")
    write_spans(chat, tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    (line,) = (tmp_path / "a.json").read_text(encoding="utf-8").splitlines()
    (resource,) = json.loads(line)["resourceSpans"]
    spans: list[dict[str, Any]] = [span for scope in resource["scopeSpans"] for span in scope["spans"]]
    assert len(spans) == n
    assert all(len(span["traceId"]) == 32 and len(span["spanId"]) == 16 for span in spans)
    assert {span["traceId"] for span in spans} == {spans[0]["traceId"]}
    assert all(isinstance(span["kind"], int) for span in spans)
    assert "john" not in line.lower()


def test_spans_are_sent_only_where_the_user_says(found: TracedRun, server: tuple[str, list[tuple[str, bytes]]]) -> None:
    url, posted = server
    n = send_spans(found, url)
    ((path, body),) = posted
    assert path == "/v1/traces"
    request = ExportTraceServiceRequest.FromString(body)
    assert sum(len(scope.spans) for resource in request.resource_spans for scope in resource.scope_spans) == n
    send_spans(found, f"{url}/elsewhere/traces")
    assert posted[-1][0] == "/elsewhere/traces"


def test_a_server_that_does_not_take_them_is_one_clear_error(
    found: TracedRun, server: tuple[str, list[tuple[str, bytes]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(otel, "SEND_SECONDS", 0.2)
    with pytest.raises(RunFailedError, match="did not take the spans"):
        send_spans(found, f"{server[0]}/refuse")


@pytest.mark.parametrize("endpoint", ["file:///etc/passwd", "localhost:4318", "ftp://127.0.0.1/x", ""])
def test_only_http_urls_are_endpoints(found: TracedRun, endpoint: str) -> None:
    with pytest.raises(InputError, match="http"):
        send_spans(found, endpoint)


def test_without_the_extra_the_error_names_it(found: TracedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otel, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match="extra `otel`"):
        run_spans(found)
