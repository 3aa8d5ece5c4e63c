"""Tokens and cost of a reply: the server's own count where it sends one, elsewhere a marked estimate."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from langchain_core.messages import AIMessage, AnyMessage
from langchain_core.tools import BaseTool

CHARS_PER_TOKEN = 4.0
"""A common rule of thumb for English and JSON; only used where the server does not count."""
TOKENS_A_MESSAGE = 4
TOKENS_A_PICTURE = 1000


@dataclass(frozen=True)
class Usage:
    """Tokens of one reply; `estimated` where the server did not count them."""

    tokens_in: int = 0
    tokens_out: int = 0
    estimated: bool = False

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.tokens_in + other.tokens_in, self.tokens_out + other.tokens_out, self.estimated or other.estimated
        )


def usage_of(reply: AIMessage, messages: Sequence[AnyMessage], tools: Sequence[BaseTool]) -> Usage:
    """What `reply` to `messages` cost in tokens."""
    counted = reply.usage_metadata
    if counted is not None and counted["input_tokens"] + counted["output_tokens"] > 0:
        return Usage(max(0, counted["input_tokens"]), max(0, counted["output_tokens"]))
    return Usage(estimate(messages, tools), estimate([reply]), estimated=True)


def estimate(messages: Sequence[AnyMessage], tools: Sequence[BaseTool] = ()) -> int:
    """Tokens by the rule of thumb."""
    pictures = sum(
        isinstance(block, dict) and block.get("type") == "image"
        for message in messages
        if isinstance(message.content, list)
        for block in message.content
    )
    calls = [call for message in messages if isinstance(message, AIMessage) for call in message.tool_calls]
    chars: int = sum(len(message.text) for message in messages)
    chars += sum(len(call["name"]) + len(json.dumps(call["args"], default=str)) for call in calls)
    chars += sum(len(tool.name) + len(tool.description) + len(json.dumps(tool.args, default=str)) for tool in tools)
    tokens: float = chars / CHARS_PER_TOKEN + TOKENS_A_MESSAGE * len(messages) + TOKENS_A_PICTURE * pictures
    return round(tokens)


def cost_usd(usage: Usage, price: tuple[float, float] | None) -> float | None:
    """What `usage` costs at `price`, in USD per million tokens (in, out); None where no price was stated."""
    if price is None:
        return None
    return (usage.tokens_in * price[0] + usage.tokens_out * price[1]) / 1e6
