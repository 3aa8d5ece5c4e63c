"""What a trace holds: one JSON object a line, each an `Event`; `payloads.py` says what stands in `data` by kind."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Literal

from pydantic import JsonValue

from r2seg_agent.frozen import Frozen

TRACE_SCHEMA_VERSION = "3"
READABLE_VERSIONS = ("1", "2", "3")
"""Earlier versions can be shown; they lack what verify and replay need."""

EventKind = Literal[
    "run_started",
    "user_message",
    "question",
    "user_answer",
    "plan",
    "model_call",
    "tool_call",
    "tool_result",
    "tool_error",
    "artifact",
    "referee",
    "answer",
    "warning",
    "budget",
    "run_finished",
]


class Event(Frozen):
    """One thing that happened. `seq` counts from 1; `seconds` is the time that the run has worked so far.

    Everything but `seconds` is the same whenever the same run is repeated, resumed or replayed.
    """

    schema_version: str = TRACE_SCHEMA_VERSION
    seq: int
    kind: EventKind
    step: str
    data: dict[str, JsonValue]
    seconds: float


def chain_sha256(events: Iterable[Event]) -> str:
    """One hash over events in their order, without `seconds`: each over its contents and the hash before it."""
    chain = b""
    for event in events:
        contents = event.model_copy(update={"seconds": 0.0}).model_dump_json().encode()
        chain = hashlib.sha256(chain + contents).digest()
    return chain.hex()
