"""What the trace keeps of one question to the planner: messages by hash and redacted text, the call, the tokens."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from langchain_core.messages import AIMessage, AnyMessage
from pydantic import JsonValue

from r2seg_agent.graphs.planner import Planner, PlannerReply
from r2seg_agent.prompts import PromptFile
from r2seg_agent.store.artifacts import canonical_json
from r2seg_agent.trace.redact import redact

MAX_TEXT = 4000
"""Characters of one message that a trace keeps; its hash covers all of it."""


def model_call_event(
    planner: Planner,
    prompt: PromptFile,
    messages: Sequence[AnyMessage],
    offered: Sequence[str],
    reply: PlannerReply,
    pictures: Sequence[str] = (),
) -> dict[str, JsonValue]:
    """The payload of a `model_call` event. The system prompt and `pictures` stand there by their hashes alone."""
    call: dict[str, JsonValue] | None = None
    if reply.call is not None:
        call = {"tool": reply.call["name"], "args": reply.call["args"]}
    return {
        "planner": planner.name,
        "call_format": reply.call_format,
        "prompt": prompt.name,
        "prompt_sha256": prompt.sha256,
        "messages_sha256": hashlib.sha256(canonical_json([[m.type, str(m.content)] for m in messages])).hexdigest(),
        "messages": []
        if planner.kind == "offline"
        else [_spoken(message) for message in messages if message.type != "system"],
        "offered": list[JsonValue](sorted(offered)),
        "call": call,
        "text": reply.text,
        "problem": reply.problem,
        "tokens_in": reply.tokens_in,
        "tokens_out": reply.tokens_out,
        "cost_usd": reply.cost_usd,
        "requests": reply.requests,
        "tokens_estimated": reply.tokens_estimated,
        "pictures": list[JsonValue](pictures),
    }


def _spoken(message: AnyMessage) -> dict[str, JsonValue]:
    text = redact(str(message.content))
    if isinstance(message, AIMessage) and message.tool_calls:
        text += "".join(f" [called {call['name']}]" for call in message.tool_calls)
    return {"role": message.type, "text": text[:MAX_TEXT]}
