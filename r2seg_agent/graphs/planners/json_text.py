"""Calls that a model wrote into its text: a ```json block, a bare JSON object, <tool_call> tags and their kin.

Local servers often leave a call unparsed in the text. The shapes recognised are those that models were trained on:
{"name", "arguments"} (OpenAI, Hermes, Qwen), {"name", "parameters"} (Llama), {"tool", "args"}, {"action",
"action_input"}, {"function": {…}}, {"tool_calls": […]}, {"plan_search": {…}}, and a tool's bare arguments where only
one tool is offered.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage, ToolMessage
from pydantic import JsonValue

from r2seg_agent.graphs.planners.calls import Offer, WrittenCall, strict_json

MAX_TEXT_CHARS = 20_000
"""Characters of a reply that are read; a longer one is noise."""
MAX_THOUGHTS_CHARS = 200_000
"""The same with the thoughts before it."""
MAX_OBJECTS = 50
"""JSON values that are looked at in one reply."""

_NAME_KEYS = ("name", "tool", "tool_name", "function_name", "action")
_ARGS_KEYS = ("arguments", "args", "parameters", "input", "tool_input", "action_input", "kwargs")
_WRAPPER_KEYS = ("tool_calls", "tool_call", "function_call", "function", "call", "calls", "next_step")
_IGNORED_KEYS = frozenset({"id", "type", "index", "thought", "thoughts", "reasoning", "reason", "comment", "words"})

_TAG = r"(?:[a-z_]{1,20}[:_])?(?:think(?:ing)?|thoughts?|reason(?:ing)?|reflection|scratchpad|analysis)"
_THOUGHTS = (
    re.compile(rf"<({_TAG})>.*?(?:</\1>|\Z)", re.DOTALL | re.IGNORECASE),
    # Servers whose template opens the thoughts send the end of them only.
    re.compile(rf"\A.*</{_TAG}>", re.DOTALL | re.IGNORECASE),
    re.compile(r"\[THINK\].*?(?:\[/THINK\]|\Z)|\A.*\[/THINK\]", re.DOTALL),  # Mistral
    re.compile(r"◁think▷.*?(?:◁/think▷|\Z)|\A.*◁/think▷", re.DOTALL),  # Kimi
    re.compile(r"<\|START_THINKING\|>.*?(?:<\|END_THINKING\|>|\Z)|\A.*<\|END_THINKING\|>", re.DOTALL),  # Cohere
    # gpt-oss: everything in its channel for analysis, with its marks or with those that a server strips.
    re.compile(
        r"<\|channel\|>\s*analysis\b.*?(?:<\|end\|>|(?=<\|start\|>)|(?=<\|channel\|>\s*(?:final|commentary))|\Z)",
        re.DOTALL,
    ),
    re.compile(r"\Aanalysis(?=\S).*?(?:assistant(?=final|commentary)|\Z)", re.DOTALL),
)
_HARMONY_CALL = re.compile(
    r"(?:<\|channel\|>\s*)?commentary\s+to=(?:functions\.)?(\w{1,60})[^{]{0,80}?(?=\{)", re.DOTALL
)
"""gpt-oss' call that a server left in the text: the tool stands before the JSON of its arguments."""
_MARKS = re.compile(
    r"</?\s*(?:tool_calls?|function_calls?|tools?)\s*>|<\|[a-z_▁]{1,40}\|>|\[/?TOOL_CALLS?\]|```(?:json|tool_call|tool_code)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class ReadText:
    """What was found in a text: the calls, whether a call was tried at all, and the words around it."""

    calls: tuple[WrittenCall, ...]
    tried: bool
    words: str


def read_text(text: str, offer: Offer) -> ReadText:
    """The calls in `text`, in order. Thoughts (<think>…</think>) are neither calls nor words."""
    text = without_thoughts(text[:MAX_THOUGHTS_CHARS])[:MAX_TEXT_CHARS]
    calls: list[WrittenCall] = []
    words: list[str] = []
    end = 0
    for start, stop, value in _json_values(text):
        found = _harmony_call(text[end:start], value, offer) or read_value(value, offer)
        if found:
            words.append(text[end:start])
            calls.extend(found)
            end = stop
    words.append(text[end:])
    tried = bool(calls) or bool(_MARKS.search(text)) or _names_a_tool(text, offer)
    return ReadText(tuple(calls), tried, " ".join(re.sub(r"```\w*", " ", _MARKS.sub(" ", " ".join(words))).split()))


def _harmony_call(before: str, value: JsonValue, offer: Offer) -> list[WrittenCall]:
    named = list(_HARMONY_CALL.finditer(before + "{"))
    if not named or named[-1].end() != len(before) or named[-1][1] not in offer.arguments:
        return []
    return [WrittenCall(named[-1][1], value)]


def without_thoughts(text: str) -> str:
    """`text` without what a model thinks aloud: it is no call and no answer, whatever stands in it."""
    for thoughts in _THOUGHTS:
        text = thoughts.sub(" ", text)
    return text


def read_value(value: JsonValue, offer: Offer, depth: int = 0) -> list[WrittenCall]:
    """The calls that a JSON value stands for; none where it is just data."""
    if depth > 4:
        return []
    if isinstance(value, list):
        return [call for item in value[:MAX_OBJECTS] for call in read_value(item, offer, depth + 1)]
    if not isinstance(value, dict):
        return []
    for key in _WRAPPER_KEYS:
        inner = value.get(key)
        if isinstance(inner, dict | list):
            return read_value(inner, offer, depth + 1)
    name_key = next((key for key in (*_NAME_KEYS, "function") if isinstance(value.get(key), str)), None)
    args_key = next((key for key in _ARGS_KEYS if key in value), None)
    if name_key is not None and (args_key is not None or offer.named(str(value[name_key])) in offer.arguments):
        if args_key is not None:
            return [WrittenCall(value[name_key], value[args_key])]
        # Arguments beside the name: {"tool": "plan_search", "targets": [...]}.
        rest = {key: item for key, item in value.items() if key != name_key and key not in _IGNORED_KEYS}
        return [WrittenCall(value[name_key], rest)]
    if len(value) == 1:
        ((key, inner),) = value.items()
        if key in offer.arguments and isinstance(inner, dict):
            return [WrittenCall(key, inner)]
    if len(offer.arguments) == 1:
        ((only, arguments),) = offer.arguments.items()
        if value and set(value) <= arguments:
            return [WrittenCall(only, value)]
    return []


def instructions(offer: Offer, *, optional: bool) -> str:
    """How to answer, for models that are not given the tools by their server."""
    lines = ["", "Tools offered now, with the JSON schema of their arguments:"]
    lines += [f"- {name}: {json.dumps(schema, ensure_ascii=False)}" for name, schema in offer.schemas.items()]
    lines += ["", "Answer with one JSON object and nothing else:", '{"tool": "<name>", "args": {<arguments>}}']
    if optional:
        lines.append('If the user needs no further tool: {"tool": "none", "args": {}}')
    return "\n".join(lines)


def flattened(messages: list[AnyMessage], extra: str) -> list[AnyMessage]:
    """`messages` for a server that knows no tool messages: calls and results as plain text, roles alternating.

    `extra` is added to the system message.
    """
    flat: list[AnyMessage] = []
    for message in messages:
        plain = _plain(message)
        last = flat[-1] if flat else None
        if isinstance(plain, HumanMessage) and isinstance(last, HumanMessage) and isinstance(last.content, str):
            if isinstance(plain.content, str):
                flat[-1] = HumanMessage(f"{last.text}\n\n{plain.text}")
                continue
            flat[-1] = HumanMessage(content=[{"type": "text", "text": last.text}, *plain.content])
            continue
        flat.append(plain)
    if flat and isinstance(flat[0], SystemMessage):
        flat[0] = SystemMessage(f"{flat[0].text}\n{extra}")
    return flat


def _plain(message: AnyMessage) -> AnyMessage:
    if isinstance(message, AIMessage):
        written = [json.dumps({"tool": call["name"], "args": call["args"]}) for call in message.tool_calls]
        return AIMessage("\n".join([*([message.text] if message.text else []), *written]) or "(no answer)")
    if isinstance(message, ToolMessage):
        outcome = "refused the call" if message.status == "error" else "answered"
        return HumanMessage(f"`{message.name}` {outcome}: {message.text}")
    return message


def _json_values(text: str) -> Iterator[tuple[int, int, JsonValue]]:
    """The JSON objects and lists in `text` from left to right, outermost ones only, with where they stand."""
    decoder = json.JSONDecoder()
    position = found = 0
    while found < MAX_OBJECTS and (match := re.compile(r"[{\[]").search(text, position)) is not None:
        found += 1
        try:
            _, stop = decoder.raw_decode(text, match.start())
            value = strict_json(text[match.start() : stop])
        except (ValueError, RecursionError):
            position = match.start() + 1
            continue
        yield match.start(), stop, value
        position = stop


def _names_a_tool(text: str, offer: Offer) -> bool:
    """True when a tool's name stands where a call would have it: quoted in JSON, or before a bracket."""
    return any(re.search(rf'"{re.escape(name)}"|\b{re.escape(name)}\s*\(', text) for name in offer.arguments)
