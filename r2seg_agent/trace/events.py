"""What a trace holds: one JSON object a line, each an `Event`."""

from __future__ import annotations

from typing import Literal

from pydantic import JsonValue

from r2seg_agent.frozen import Frozen

TRACE_SCHEMA_VERSION = "1"

EventKind = Literal[
    "run_started",
    "model_call",
    "plan",
    "tool_call",
    "tool_result",
    "tool_error",
    "referee",
    "artifact",
    "warning",
    "run_finished",
]


class Event(Frozen):
    """One thing that happened. `seq` counts from 1; `seconds` is the time since the run started.

    Everything but `seconds` is the same whenever the same run is repeated.
    """

    schema_version: str = TRACE_SCHEMA_VERSION
    seq: int
    kind: EventKind
    step: str
    data: dict[str, JsonValue]
    seconds: float
