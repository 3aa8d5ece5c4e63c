"""A run as OpenTelemetry spans in OpenInference's words, for Phoenix, MLflow and other viewers. Needs the extra `otel`.

The run is an AGENT span, each turn a CHAIN span below it, each tool call a TOOL span, each question to a language model
an LLM span with its tokens (the offline rules are no language model: CHAIN). Ids follow from the run's id and the
event's `seq`, so a second export is the same. Times are the run's start plus the seconds it worked: a run that was
resumed shows no gap. What is sent is what the trace holds, no more: redacted words, numbers, names, hashes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
from collections.abc import Iterator
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic import JsonValue

from r2seg_agent.errors import InputError, MissingDependencyError, RunFailedError
from r2seg_agent.files import write_text_atomic
from r2seg_agent.trace.payloads import ModelCall, payload
from r2seg_agent.trace.run import TracedRun
from r2seg_agent.trace.sentences import sentence
from r2seg_agent.trace.story import Step, Turn, turns_of

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import SpanContext

Attributes = dict[str, str | int | float | bool]
TRACES_PATH = "/v1/traces"
"""Where an OTLP server takes spans, when the URL names no path."""
SEND_SECONDS = 10.0


def write_spans(run: TracedRun, path: Path) -> int:
    """Write the run's spans to `path` as one line of OTLP JSON and return their number.

    Raises `InputError` for a place that cannot be written, `MissingDependencyError` without the extra `otel`.
    """
    spans = run_spans(run)
    write_text_atomic(path, json.dumps(_otlp_json(spans), ensure_ascii=False, separators=(",", ":")) + "\n")
    return len(spans)


def send_spans(run: TracedRun, endpoint: str) -> int:
    """Send the run's spans to the OTLP server at `endpoint` (HTTP, protobuf) and return their number.

    Raises `InputError` for something that is no http(s) URL, `RunFailedError` when the server does not take them.
    """
    address = urlsplit(endpoint)
    if address.scheme not in ("http", "https") or not address.netloc:
        raise InputError(
            f"`--otel-endpoint` takes an http(s) URL, got `{endpoint}`", f"For example http://HOST:PORT{TRACES_PATH}."
        )
    spans = run_spans(run)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import SpanExportResult

    url = endpoint if address.path.strip("/") else endpoint.rstrip("/") + TRACES_PATH
    exporter = OTLPSpanExporter(endpoint=url, timeout=SEND_SECONDS)
    # It tells of every retry; here the one error below is enough.
    logging.getLogger("opentelemetry.exporter.otlp.proto.http").setLevel(logging.CRITICAL)
    try:
        taken = exporter.export(spans) is SpanExportResult.SUCCESS
    finally:
        exporter.shutdown()  # type: ignore[no-untyped-call]  # opentelemetry-sdk leaves it without annotations
    if not taken:
        raise RunFailedError(
            f"the server of `--otel-endpoint` ({address.hostname}) did not take the spans",
            "Check that it runs and speaks OTLP over HTTP; `--otel FILE` writes them to a file instead.",
        )
    return len(spans)


def run_spans(run: TracedRun) -> list[ReadableSpan]:
    """The spans, the run's own first. Raises `MissingDependencyError` without the extra `otel`."""
    run.need_current("export")
    if any(find_spec(name) is None for name in ("opentelemetry", "openinference")):
        raise MissingDependencyError(
            "exporting OpenTelemetry spans needs the extra `otel`", "pip install 'r2seg-agent[otel]'"
        )
    return list(_Spans(run).all())


class _Spans:
    def __init__(self, run: TracedRun) -> None:
        from openinference.semconv.resource import ResourceAttributes
        from opentelemetry.sdk.resources import Resource

        self._run = run
        created = run.record.created if run.record else "1970-01-01T00:00:00+00:00"
        self._start_ns = int(datetime.fromisoformat(created).timestamp()) * 1_000_000_000
        self._resource: Resource = Resource(
            {
                "service.name": "r2seg",
                "service.version": run.started.r2seg,
                ResourceAttributes.PROJECT_NAME: "r2seg",
            }
        )

    def all(self) -> Iterator[ReadableSpan]:
        turns = [turn for turn in turns_of(self._run.events) if turn.index > 0]
        yield self._root(turns)
        for turn in turns:
            yield self._turn(turn)
            for step in turn.steps:
                if step.is_tool:
                    yield self._tool(step, turn)
                elif step.head.kind == "model_call":
                    yield self._model_call(step, turn)

    def _root(self, turns: list[Turn]) -> ReadableSpan:
        started, finished = self._run.started, self._run.finished
        asked = next((turn.text for turn in turns if turn.text), started.request)
        about: dict[str, JsonValue] = {
            "run_id": self._run.id,
            "outcome": finished.outcome if finished else None,
            "planner": started.planner,
            "modality": started.image.modality,
            "image": started.image.name,
            "seed": started.seed,
        }
        attributes = {"metadata": _json(about), **_texts(asked, _answer(turns[-1]) if turns else "")}
        failed = finished is not None and finished.outcome == "failed"
        end = self._run.events[-1].seconds
        return self._span(f"r2seg {started.kind}", "AGENT", 0, None, 0.0, end, attributes, failed=failed)

    def _turn(self, turn: Turn) -> ReadableSpan:
        others = [step for step in turn.steps if not step.is_tool and step.head.kind != "model_call"]
        first, last = turn.steps[0], turn.steps[-1]
        attributes = _texts(turn.text, _answer(turn))
        return self._span(
            f"turn {turn.index}", "CHAIN", first.number, 0, first.began, last.ended, attributes, events=others
        )

    def _tool(self, step: Step, turn: Turn) -> ReadableSpan:
        args = step.head.data.get("args", {})
        attributes: Attributes = {
            "tool.name": step.head.step,
            "tool.parameters": _json(args),
            "metadata": _json({"taken_by": step.head.data.get("taken_by"), "why": step.head.data.get("why")}),
            **_texts(_json(args), _json(dict(step.result or {})) if not step.error else step.error, json_in=True),
        }
        if not step.error:
            attributes["output.mime_type"] = "application/json"
        parent = turn.steps[0].number
        return self._span(
            step.head.step, "TOOL", step.number, parent, step.began, step.ended, attributes, failed=bool(step.error)
        )

    def _model_call(self, step: Step, turn: Turn) -> ReadableSpan:
        reply = payload(step.head, ModelCall)
        offline = self._run.started.planner_kind == "offline"
        attributes: Attributes = {"metadata": _json({"call_format": reply.call_format, "offered": list(reply.offered)})}
        attributes |= _texts("\n".join(m.text for m in reply.messages), sentence(step))
        if not offline:
            attributes |= _llm(reply)
        name = "offline rules" if offline else reply.planner
        kind = "CHAIN" if offline else "LLM"
        return self._span(
            name,
            kind,
            step.number,
            turn.steps[0].number,
            step.began,
            step.ended,
            attributes,
            failed=bool(reply.problem),
        )

    def _span(
        self,
        name: str,
        kind: str,
        seq: int,
        parent: int | None,
        began: float,
        ended: float,
        attributes: Attributes,
        *,
        failed: bool = False,
        events: list[Step] | None = None,
    ) -> ReadableSpan:
        from opentelemetry.sdk.trace import Event as SpanEvent
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.trace import Status, StatusCode

        own: Attributes = {"openinference.span.kind": kind, "session.id": self._run.id, **attributes}
        return ReadableSpan(
            name=name,
            context=self._context(seq),
            parent=None if parent is None else self._context(parent),
            resource=self._resource,
            attributes=own,
            events=[
                SpanEvent(
                    f"{step.head.kind} {step.head.step}",
                    {"text": sentence(step)},
                    timestamp=self._ns(step.head.seconds),
                )
                for step in events or ()
            ],
            status=Status(StatusCode.ERROR if failed else StatusCode.OK),
            start_time=self._ns(began),
            end_time=self._ns(ended),
        )

    def _context(self, seq: int) -> SpanContext:
        from opentelemetry.trace import SpanContext, TraceFlags

        trace_id = hashlib.sha256(f"r2seg-run|{self._run.id}|{self._start_ns}".encode()).digest()[:16]
        span_id = hashlib.sha256(trace_id + str(seq).encode()).digest()[:8]
        return SpanContext(
            int.from_bytes(trace_id, "big"), int.from_bytes(span_id, "big"), is_remote=False, trace_flags=TraceFlags(1)
        )

    def _ns(self, seconds: float) -> int:
        return self._start_ns + round(seconds * 1000) * 1_000_000


def _llm(reply: ModelCall) -> Attributes:
    provider, _, model = reply.planner.rpartition(":")
    found: Attributes = {
        "llm.model_name": model,
        "llm.token_count.prompt": reply.tokens_in,
        "llm.token_count.completion": reply.tokens_out,
        "llm.token_count.total": reply.tokens_in + reply.tokens_out,
        "llm.prompt_template.version": reply.prompt_sha256,
        "llm.output_messages.0.message.role": "assistant",
        "llm.output_messages.0.message.content": reply.text,
    }
    if provider:
        found["llm.provider"] = provider
    if reply.cost_usd is not None:
        found["llm.cost.total"] = reply.cost_usd
    for i, message in enumerate(reply.messages):
        found[f"llm.input_messages.{i}.message.role"] = _ROLES.get(message.role, message.role)
        found[f"llm.input_messages.{i}.message.content"] = message.text
    if reply.call is not None:
        call = "llm.output_messages.0.message.tool_calls.0.tool_call.function"
        found[f"{call}.name"] = reply.call.tool
        found[f"{call}.arguments"] = _json(reply.call.args)
    return found


_ROLES = {"human": "user", "ai": "assistant"}


def _texts(given: str, returned: str, *, json_in: bool = False) -> Attributes:
    return {
        "input.value": given,
        "input.mime_type": "application/json" if json_in else "text/plain",
        "output.value": returned,
        "output.mime_type": "text/plain",
    }


def _answer(turn: Turn) -> str:
    return next((str(step.head.data.get("answer", "")) for step in turn.steps if step.head.kind == "answer"), "")


def _json(value: JsonValue) -> str:
    return json.dumps(value, ensure_ascii=False)


def _otlp_json(spans: list[ReadableSpan]) -> Any:
    """OTLP's JSON form: protobuf's, with ids in hexadecimal and enumerations as numbers (OTLP specification)."""
    from google.protobuf.json_format import MessageToDict
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

    return _hex_ids(MessageToDict(encode_spans(spans), use_integers_for_enums=True))


def _hex_ids(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: base64.b64decode(inner).hex() if key in ("traceId", "spanId", "parentSpanId") else _hex_ids(inner)
            for key, inner in value.items()
        }
    return [_hex_ids(inner) for inner in value] if isinstance(value, list) else value
