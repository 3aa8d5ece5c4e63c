"""One sentence for a step of a trace, and the points below it: what a reader wants to know first.

A tool's sentence was written by the tool and stands in the trace; here are those of the other events.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import JsonValue

from r2seg_agent.cautions import Caution
from r2seg_agent.errors import RunFailedError
from r2seg_agent.frozen import Frozen
from r2seg_agent.reason.plan import AnatomyPlan
from r2seg_agent.report.plans import plan_line
from r2seg_agent.trace.payloads import (
    PAYLOADS,
    Answer,
    BudgetUsed,
    ModelCall,
    Question,
    Referee,
    RunFinished,
    RunStarted,
    UserAnswer,
    UserMessage,
    payload,
)
from r2seg_agent.trace.story import Step

MAX_POINTS = 8
"""Points below one step; the rest is counted."""
MAX_PLAIN = 6
"""Entries of an object that are written out where nothing better is known."""


def sentence(step: Step) -> str:
    """What the step did or decided, in one line."""
    if step.is_tool:
        if step.error:
            return f"refused: {step.error}"
        if step.result is None:
            return "did not end: the run was stopped here"
        return step.line or plain(step.result)
    typed = _typed(step)
    return plain(step.head.data) if typed is None else _sentence(typed)


def points(step: Step) -> tuple[str, ...]:
    """Further lines: reasons, findings, plans. At most `MAX_POINTS`, then how many more there are."""
    found = step.points if step.is_tool else _points(_typed(step))
    if len(found) <= MAX_POINTS:
        return found
    return (*found[:MAX_POINTS], f"and {len(found) - MAX_POINTS} more")


def who(step: Step) -> str:
    """Who took the step and why: "referee: the plan names organs; where are they?"."""
    taken, why = step.head.data.get("taken_by"), step.head.data.get("why")
    return ": ".join(str(part) for part in (taken, why) if part) if step.is_tool else ""


def plain(data: Mapping[str, JsonValue]) -> str:
    """Any JSON object, shortly: scalars as they are, small objects written out, the rest by size."""
    return "; ".join(f"{name.replace('_', ' ')} {_short(value)}" for name, value in data.items())


def _short(value: JsonValue) -> str:
    if isinstance(value, dict) and 0 < len(value) <= MAX_PLAIN:
        inner = {name: part for name, part in value.items() if not isinstance(part, dict | list)}
        if len(inner) == len(value):
            return ", ".join(f"{name.replace('_', ' ')} {_short(part)}" for name, part in inner.items())
    if isinstance(value, dict | list):
        return f"{len(value)} entries" if value else "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _typed(step: Step) -> Frozen | None:
    """The contents of the step's first event; None where an earlier version, or a forger, wrote them otherwise."""
    try:
        return payload(step.head, PAYLOADS[step.head.kind])
    except RunFailedError:
        return None


def _sentence(data: Frozen) -> str:
    match data:
        case RunStarted():
            fork = f", forked from {data.parent}" if data.parent else ""
            return f"r2seg {data.r2seg} on {data.image.name} ({data.image.modality}), planner {data.planner}{fork}"
        case UserMessage() | UserAnswer() | Caution():
            return data.text
        case Question():
            return data.question
        case AnatomyPlan():
            return plan_line(data)
        case ModelCall():
            return _model_call(data)
        case Referee():
            return _referee(data)
        case Answer():
            return data.answer
        case BudgetUsed():
            return data.why or f"{_number(data.used)} used of {_number(data.limit)}"
        case RunFinished():
            error = f": {data.error}" if data.error else ""
            files = f"; files: {', '.join(data.files)}" if data.files else ""
            return f"{data.outcome.replace('_', ' ')}{error}{files}"
        case _:
            return plain(data.model_dump(mode="json"))


def _points(data: Frozen | None) -> tuple[str, ...]:
    match data:
        case ModelCall():
            return tuple(text for text in (data.problem, data.text) if text)
        case Question():
            return tuple(choice.line for choice in data.choices)
        case Answer() if data.comment:
            return (f"the model's comment: {data.comment}",)
        case _:
            return ()


def _model_call(data: ModelCall) -> str:
    tokens = data.tokens_in + data.tokens_out
    cost = "" if data.cost_usd is None else f", {data.cost_usd:.4f} USD"
    spent = f" ({tokens} tokens{cost})" if tokens else ""
    return f"{data.planner}: no call{spent}" if data.call is None else f"{data.planner} chose {data.call.tool}{spent}"


def _referee(data: Referee) -> str:
    if data.offered:
        return f"offers {', '.join(data.offered)}" + (", or nothing" if data.optional else "")
    target = f"target {data.target}: " if data.target else ""
    outcome = (data.outcome or "").replace("_", " ")
    return target + "; ".join(part for part in (outcome, data.why) if part)


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:g}"
