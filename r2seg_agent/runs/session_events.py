"""What a session tells the one who looks on while a turn runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, ToolMessage
from pydantic import JsonValue

from r2seg_agent.outcomes import OutcomeKind
from r2seg_agent.store.artifacts import ArtifactStore
from r2seg_agent.tools.show_slices import ShowSlicesResult


@dataclass(frozen=True)
class ToolStarted:
    """A tool begins; `taken_by` is `planner`, `referee` or `offline fallback`."""

    tool: str
    args: Mapping[str, JsonValue]
    taken_by: str


@dataclass(frozen=True)
class ToolFinished:
    """A tool is done; `error` holds its words when it refused its arguments."""

    tool: str
    error: str = ""


@dataclass(frozen=True)
class Said:
    """One sentence of the answer, written by code from numbers."""

    text: str


@dataclass(frozen=True)
class Words:
    """The model's own comment on the answer: not a result."""

    text: str


@dataclass(frozen=True)
class Asked:
    """A question to the user; their next message is its answer."""

    question: str
    choices: tuple[str, ...]


@dataclass(frozen=True)
class Pictured:
    """A picture (PNG) for the user."""

    path: Path
    caption: str


@dataclass(frozen=True)
class TurnEnded:
    """The turn is over."""

    outcome: OutcomeKind
    answer: str


SessionEvent = ToolStarted | ToolFinished | Said | Words | Asked | Pictured | TurnEnded


def happenings(change: Mapping[str, Any] | None, told: int, store: ArtifactStore) -> Iterator[SessionEvent]:
    """What one node's state update means to the one who looks on; `told` sentences were given before."""
    if not change:
        return
    for message in change.get("messages", []):
        if isinstance(message, AIMessage):
            for call in message.tool_calls:
                yield ToolStarted(call["name"], call["args"], "referee" if message.name else "planner")
        elif isinstance(message, ToolMessage):
            failed = message.status == "error"
            yield ToolFinished(message.name or "", str(message.content) if failed else "")
            if message.name == "show_slices" and not failed:
                shown = ShowSlicesResult.model_validate_json(str(message.content))
                yield Pictured(store.path(shown.picture, ".png"), shown.caption)
    if "search" in change:
        for text in change["search"]["said"][told:]:
            yield Said(str(text))
