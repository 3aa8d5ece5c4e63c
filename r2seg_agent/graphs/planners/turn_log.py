"""What was already done for the open turn: the planner's calls and the user's answers, in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from langchain_core.messages import AIMessage, AnyMessage, ToolMessage

from r2seg_agent.graphs.messages import kind_of, mark_of
from r2seg_agent.reason.plan import Choice
from r2seg_agent.tools import CARDS

SEARCH_STEPS = frozenset(name for name, card in CARDS.items() if card.part_of_search)
"""Steps that follow from a plan; no message of the user asks for one by itself."""


@dataclass(frozen=True)
class Called:
    """A tool that was called for the message; `error` holds its words when it refused."""

    tool: str
    error: str = ""


@dataclass(frozen=True)
class Replied:
    """What the user answered to a question of the turn; `choice` is the one that the words name."""

    text: str
    choice: Choice | None = None


Logged = Called | Replied


def log_of_turn(history: Sequence[AnyMessage]) -> list[Logged]:
    """Calls and answers since the message that opened the turn, whoever chose the calls.

    The referee's own widening is a step of the search and no call for the message.
    """
    start = next((i for i in reversed(range(len(history))) if kind_of(history[i]) == "request"), -1)
    errors = {m.tool_call_id: m.text for m in history if isinstance(m, ToolMessage) and m.status == "error"}
    log: list[Logged] = []
    for message in history[start + 1 :]:
        mark = mark_of(message)
        if mark is not None and mark.kind == "answer":
            log.append(Replied(message.text, mark.choice))
        elif isinstance(message, AIMessage):
            for call in message.tool_calls:
                own_widening = mark is not None and mark.taken_by != "planner" and call["name"] == "widen_search"
                if call["name"] not in SEARCH_STEPS and not own_widening:
                    log.append(Called(call["name"], errors.get(str(call["id"]), "")))
    return log


def last_asked(history: Sequence[AnyMessage], tools: Sequence[str]) -> str:
    """The tool among `tools` that was called last, in any turn; "" when none was."""
    calls = [call["name"] for m in history if isinstance(m, AIMessage) for call in m.tool_calls]
    return next((name for name in reversed(calls) if name in tools), "")
