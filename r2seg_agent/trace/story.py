"""A trace as a story: turns, and in each turn the steps in order, a tool call with its result and artifacts as one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pydantic import JsonValue

from r2seg_agent.trace.events import Event
from r2seg_agent.trace.payloads import ToolResult, payload

BARE_RESULTS = ("1", "2")
"""Versions of a trace whose `tool_result` holds the bare result, without a line for the reader."""
_AFTER_A_CALL = {"tool_result", "tool_error", "artifact"}


@dataclass
class Step:
    """One thing that was done or decided: its events, the first of which names it. `number` is that event's `seq`.

    `seconds` is the time that it took: from the event before a model call or from the tool call to its last event.
    """

    events: list[Event]
    began: float

    @property
    def head(self) -> Event:
        """The event that names the step."""
        return self.events[0]

    @property
    def number(self) -> int:
        """`seq` of the first event: what `--step` takes."""
        return self.head.seq

    @property
    def is_tool(self) -> bool:
        """True for a tool call with its result."""
        return is_call(self.head)

    @property
    def ended(self) -> float:
        """Seconds of the run at which the step ended."""
        return self.events[-1].seconds

    @property
    def seconds(self) -> float:
        """How long the step took."""
        return max(0.0, self.ended - self.began)

    @property
    def result(self) -> Mapping[str, JsonValue] | None:
        """The tool's result as JSON; None for other steps and where it refused or was killed."""
        event = self._returned
        if event is None:
            return None
        inner = event.data.get("result")
        # Traces of version 1 and 2 hold the bare result.
        return inner if isinstance(inner, dict) and event.schema_version not in BARE_RESULTS else event.data

    @property
    def line(self) -> str:
        """The tool's result in one sentence; "" where there is none, and in a trace of version 1 or 2."""
        event = self._returned
        return "" if event is None or event.schema_version in BARE_RESULTS else payload(event, ToolResult).line

    @property
    def points(self) -> tuple[str, ...]:
        """The lines below it."""
        event = self._returned
        return () if event is None or event.schema_version in BARE_RESULTS else payload(event, ToolResult).points

    @property
    def _returned(self) -> Event | None:
        return next((event for event in self.events if event.kind == "tool_result"), None)

    @property
    def error(self) -> str:
        """Why the tool refused its arguments; empty where it did not."""
        return next((str(event.data.get("error", "")) for event in self.events if event.kind == "tool_error"), "")

    @property
    def artifacts(self) -> dict[str, str]:
        """sha256 of what the tool stored, by role."""
        stored = (event.data for event in self.events if event.kind == "artifact")
        return {str(data.get("role", "")): str(data.get("sha256", "")) for data in stored}


@dataclass
class Turn:
    """One message of the user and what it led to; turn 0 is what comes before the first message."""

    index: int
    text: str
    steps: list[Step] = field(default_factory=list)


def is_call(event: Event) -> bool:
    """True where a tool is about to run; traces of version 1 call that a decision of the referee."""
    return event.kind == "tool_call" or (event.kind == "referee" and "taken_by" in event.data)


def turns_of(events: Iterable[Event]) -> list[Turn]:
    """The turns of a trace. A trace without user messages (version 1) is one turn."""
    turns: list[Turn] = [Turn(0, "")]
    before = 0.0
    for event in events:
        if event.kind == "user_message":
            number = event.data.get("turn")
            turns.append(Turn(number if isinstance(number, int) else len(turns), str(event.data.get("text", ""))))
        elif event.kind == "run_started" and event.schema_version == "1":
            turns.append(Turn(1, str(event.data.get("request", ""))))
        steps = turns[-1].steps
        follows = steps and event.kind in _AFTER_A_CALL and (steps[-1].is_tool or steps[-1].head.kind in _AFTER_A_CALL)
        if follows and steps[-1].head.step == event.step:
            steps[-1].events.append(event)
        else:
            steps.append(Step([event], before if event.kind == "model_call" else event.seconds))
        before = event.seconds
    return [turn for turn in turns if turn.steps]


def step_at(turns: Iterable[Turn], number: int) -> Step | None:
    """The step that event `number` belongs to."""
    for turn in turns:
        for step in turn.steps:
            if any(event.seq == number for event in step.events):
                return step
    return None
