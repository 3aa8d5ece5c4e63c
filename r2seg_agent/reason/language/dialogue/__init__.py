"""What a user's message asks for, given what is on the table: pure language, no model and no network."""

from __future__ import annotations

from r2seg_agent.reason.language.dialogue.intents import (
    Describe,
    Explain,
    Find,
    Include,
    Intent,
    Locate,
    Plane,
    Remark,
    Same,
    SetAlpha,
    Show,
    Summarize,
    Topic,
    Undo,
    Which,
    Widen,
)
from r2seg_agent.reason.language.dialogue.read import Ask, read_asks, read_message
from r2seg_agent.reason.language.dialogue.table import FindingRow, RejectedRow, Table, TargetRow

__all__ = [
    "Ask",
    "Describe",
    "Explain",
    "Find",
    "FindingRow",
    "Include",
    "Intent",
    "Locate",
    "Plane",
    "RejectedRow",
    "Remark",
    "Same",
    "SetAlpha",
    "Show",
    "Summarize",
    "Table",
    "TargetRow",
    "Topic",
    "Undo",
    "Which",
    "Widen",
    "read_asks",
    "read_message",
]
