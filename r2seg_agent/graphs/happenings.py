"""What a session tells the one who looks on while a turn runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from r2seg_agent.report.models import OutcomeKind


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
