"""`ChatModelPlanner`: any LangChain chat model as the planner.

A call can come in three formats. Native tool calls come first; where the server knows none, or leaves the call unparsed
in the text, JSON-schema structured output; where it has neither, a JSON object asked for in words. The format that
worked is remembered, so later questions use it at once.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, AnyMessage, ToolCall
from langchain_core.runnables import Runnable, RunnableSequence
from langchain_core.tools import BaseTool

from r2seg_agent.errors import PlannerRefusedError
from r2seg_agent.graphs.planner import PlannerKind, PlannerReply
from r2seg_agent.graphs.planners.calls import MAX_ARGS_CHARS, Offer, WrittenCall
from r2seg_agent.graphs.planners.json_text import flattened, instructions, read_text, without_thoughts
from r2seg_agent.graphs.planners.retry import FORM_ADVICE, CutError, FormError, Retrier
from r2seg_agent.graphs.planners.structured import NO_TOOL, step_schema
from r2seg_agent.graphs.planners.telemetry import untraced
from r2seg_agent.graphs.planners.tokens import Usage, cost_usd, usage_of
from r2seg_agent.graphs.prompting import user_text, without_pictures

Way = Literal["native", "json_schema", "json_text"]
WAYS: tuple[Way, ...] = ("native", "json_schema", "json_text")
"""The formats in the order in which they are tried."""

MAX_WORDS_CHARS = 4000
"""Characters of a model's own words that are kept."""
MAX_STREAMED_CHARS = 200_000
"""A streamed answer that passes this is given up: no call is that long."""
_CUT_REASONS = frozenset({"length", "max_tokens", "MAX_TOKENS", "content_filter"})


@dataclass
class ChatModelPlanner:
    """`model` as the planner; `name` is what reports call it.

    `call_format` fixes the way of asking (default: found out). `bind_options` go to `bind_tools`. With `stream` a reply
    is read as it comes, so that a run-away answer is cut early. `price` is in USD per million tokens (in, out).
    """

    model: BaseChatModel = field(repr=False)
    name: str
    retrier: Retrier
    call_format: Way | None = None
    stream: bool = False
    bind_options: Mapping[str, bool] = field(default_factory=dict)
    price: tuple[float, float] | None = None
    kind: PlannerKind = "model"

    def __post_init__(self) -> None:
        self._way: Way = self.call_format or "native"
        # Once a way has given a call it is settled, and an error is no longer put down to the way of asking.
        self._settled = self.call_format is not None
        self._blind = False

    def stop_by(self, stop: threading.Event) -> None:
        """Once `stop` is set, no wait continues."""
        self.retrier.stop = stop

    def ask(self, messages: Sequence[AnyMessage], tools: Sequence[BaseTool], *, optional: bool) -> PlannerReply:
        """One reply with at most one call, checked against `tools`.

        Raises `PlannerUnavailableError` when the server cannot be reached after all retries, `PlannerRefusedError` when
        it refuses (key, model name, parameters).
        """
        offer = Offer(tools)
        before = self.retrier.requests
        if self._blind:
            messages = without_pictures(messages)
        refusals: list[str] = []
        start = self._way
        for way in (self._way,) if self._settled else WAYS[WAYS.index(self._way) :]:
            try:
                message, usage = self._send(way, messages, tools, offer, optional)
                reply = self._read(way, message, usage, messages, offer, optional)
            except FormError as error:
                refusals.append(str(error))
                if not self._blind and without_pictures(messages) != list(messages):
                    # A model without eyes: it continues with words alone.
                    self._blind, self._way = True, start
                    reply = self.ask(messages, tools, optional=optional)
                    return replace(reply, requests=self.retrier.requests - before)
                self._try_next(way)
                continue
            except CutError:
                usage = usage_of(AIMessage(""), messages, tools)
                reply = self._reply(None, usage, problem=f"Your answer was cut off or withheld. {offer.legal}")
            return replace(reply, requests=self.retrier.requests - before)
        self._way = start
        raise PlannerRefusedError(
            f"the server of `{self.name}` takes no question in a form that r2seg knows: "
            f"{'; '.join(dict.fromkeys(refusals))}",
            FORM_ADVICE,
        )

    def _send(
        self, way: Way, messages: Sequence[AnyMessage], tools: Sequence[BaseTool], offer: Offer, optional: bool
    ) -> tuple[AIMessage, Usage]:
        """The model's message in one format, and its tokens."""
        call: Callable[[], AIMessage]
        if way == "native":
            runnable = self._bound(tools, optional)
            sent = list(messages)
            call = self._streaming(runnable, sent) if self.stream else lambda: _message(runnable.invoke(sent))
        else:
            sent = flattened(list(messages), instructions(offer, optional=optional))
            if way == "json_schema":
                structured = self._structured(offer, optional)
                call = lambda: _raw_of(structured, sent)  # noqa: E731
            else:
                plain = cast(Runnable[list[AnyMessage], AIMessage], self.model)
                call = self._streaming(plain, sent) if self.stream else lambda: _message(plain.invoke(sent))
        reply = self.retrier.send(lambda: untraced(call))
        return reply, usage_of(reply, sent, tools if way == "native" else ())

    def _bound(self, tools: Sequence[BaseTool], optional: bool) -> Runnable[list[AnyMessage], AIMessage]:
        choice = None if optional else "any"
        try:
            bound = self.model.bind_tools(list(tools), tool_choice=choice, **self.bind_options)
        except NotImplementedError:
            raise FormError("this model's client has no tool calls") from None
        return cast(Runnable[list[AnyMessage], AIMessage], bound)

    def _structured(self, offer: Offer, optional: bool) -> Runnable[list[AnyMessage], object]:
        try:
            structured = self.model.with_structured_output(
                step_schema(offer, optional=optional), method="json_schema", include_raw=True
            )
        except (NotImplementedError, TypeError, ValueError) as error:
            raise FormError(f"this model's client has no structured output ({type(error).__name__})") from None
        return cast(Runnable[list[AnyMessage], object], structured)

    @staticmethod
    def _streaming(runnable: Runnable[list[AnyMessage], AIMessage], sent: list[AnyMessage]) -> Callable[[], AIMessage]:
        def call() -> AIMessage:
            chunks: list[AIMessageChunk] = []
            size = arguments = 0
            for chunk in cast("Iterable[AIMessageChunk]", runnable.stream(sent)):
                chunks.append(chunk)
                arguments += sum(len(part["args"] or "") for part in chunk.tool_call_chunks)
                size += len(chunk.text)
                if size > MAX_STREAMED_CHARS or arguments > 2 * MAX_ARGS_CHARS:
                    raise CutError(f"more than {MAX_STREAMED_CHARS} characters, or a call of {arguments}")
            # At once: with every further chunk LangChain reads all arguments so far again.
            whole = chunks[0] + chunks[1:] if chunks else None
            if whole is None or not _finish_reason(whole):
                # A broken connection looks like the end of a stream; only a whole answer says why it ended.
                raise ValueError("the stream ended early")
            return whole

        return call

    def _read(
        self, way: Way, message: AIMessage, usage: Usage, messages: Sequence[AnyMessage], offer: Offer, optional: bool
    ) -> PlannerReply:
        text = without_thoughts(message.text[:MAX_STREAMED_CHARS]).strip()
        native = _native_calls(message)
        if way == "native" and (native or self._settled):
            # A model that calls natively means JSON in its text as a quotation, not as a call.
            self._settled = True
            if native and _is_cut(message):
                problem = f"Your call was cut off because the answer was too long. {offer.legal}"
                return self._reply(None, usage, problem=problem)
            if native:
                call, problem = offer.pick(native, user_text(messages))
                return self._reply(call, usage, text=text, problem=problem, call_format="native")
            return self._no_call(usage, text, offer, optional)
        read = read_text(message.text, offer)
        if optional and any(call.name == NO_TOOL for call in read.calls):
            return self._reply(None, usage, text=read.words)
        calls = [call for call in read.calls if not _is_quoted(call, messages, offer)]
        call, problem = offer.pick(calls, user_text(messages))
        if call is not None:
            if way == "native":
                # The server leaves calls in the text: its grammar, where it has one, makes the next ones valid.
                self._try_next(way)
                return self._reply(call, usage, text=read.words, call_format="json_text")
            self._settled = True
            return self._reply(call, usage, text=read.words, call_format=way)
        if not optional:
            self._try_next(way)
        if calls:
            return self._reply(None, usage, text=text, problem=problem)
        if read.tried:
            return self._reply(None, usage, text=text, problem=f"Your call could not be read. {offer.legal}")
        return self._no_call(usage, text, offer, optional)

    def _no_call(self, usage: Usage, text: str, offer: Offer, optional: bool) -> PlannerReply:
        if optional:
            return self._reply(None, usage, text=text)
        why = "Words alone are no answer." if text else "Your answer was empty."
        return self._reply(None, usage, text=text, problem=f"{why} {offer.legal}")

    def _try_next(self, way: Way) -> None:
        """The next question goes in the next format, unless one is settled."""
        if not self._settled:
            self._way = WAYS[min(WAYS.index(way) + 1, len(WAYS) - 1)]

    def _reply(
        self,
        call: ToolCall | None,
        usage: Usage,
        *,
        text: str = "",
        problem: str = "",
        call_format: Way | Literal["none"] = "none",
    ) -> PlannerReply:
        return PlannerReply(
            call=call,
            text=text[:MAX_WORDS_CHARS],
            problem="" if call is not None else problem,
            call_format=call_format,
            tokens_in=usage.tokens_in,
            tokens_out=usage.tokens_out,
            cost_usd=cost_usd(usage, self.price),
            tokens_estimated=usage.estimated,
        )


def _message(reply: object) -> AIMessage:
    if not isinstance(reply, AIMessage):
        raise ValueError(f"a {type(reply).__name__} instead of a message")
    return reply


def _raw_of(structured: Runnable[list[AnyMessage], object], sent: list[AnyMessage]) -> AIMessage:
    """The message behind a structured reply. LangChain's own reading of its text is left out where that can be done: it
    takes a time that grows with the square of the length, and the text is read here anyway.
    """
    if not isinstance(structured, RunnableSequence):
        return _raw(structured.invoke(sent))
    first, *rest = structured.steps
    reply: object = first.invoke(sent)
    if isinstance(reply, dict) and isinstance(raw := reply.get("raw"), AIMessage) and raw.text:
        return raw
    for step in rest:
        reply = step.invoke(reply)
    return _raw(reply)


def _raw(reply: object) -> AIMessage:
    """The message behind a structured reply: it is read by our own rules, as strictly as any other."""
    raw = reply.get("raw") if isinstance(reply, dict) else None
    if not isinstance(raw, AIMessage):
        raise ValueError("a structured reply without its message")
    if not raw.text and isinstance(reply, dict) and isinstance(reply.get("parsed"), dict):
        return raw.model_copy(update={"content": json.dumps(reply["parsed"])})
    return raw


def _native_calls(message: AIMessage) -> list[WrittenCall]:
    """The calls of a message, malformed ones too. Streamed arguments are read again, strictly: LangChain completes
    broken JSON by guessing."""
    if isinstance(message, AIMessageChunk) and message.tool_call_chunks:
        return [WrittenCall(chunk["name"], chunk["args"]) for chunk in message.tool_call_chunks]
    calls = [WrittenCall(call["name"], call["args"]) for call in message.tool_calls]
    return calls + [WrittenCall(call["name"], call["args"]) for call in message.invalid_tool_calls]


def _is_cut(message: AIMessage) -> bool:
    return _finish_reason(message) in _CUT_REASONS


def _finish_reason(message: AIMessage) -> str:
    """Why the answer ended, as the server says it; "" when it does not."""
    found = (message.response_metadata.get(key) for key in ("finish_reason", "stop_reason", "done_reason"))
    return str(next((reason for reason in found if reason), ""))


def _is_quoted(call: WrittenCall, messages: Sequence[AnyMessage], offer: Offer) -> bool:
    """True when the very call stands in the user's own words: then the model repeats an order that stands there."""
    return call in read_text(user_text(messages), offer).calls
