"""One sentence for a step of a trace, and the points below it: what a reader wants to know first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from types import MappingProxyType

from pydantic import JsonValue

from r2seg_agent.reject.decide import Rejection
from r2seg_agent.report.decisions import brief_reason
from r2seg_agent.trace.story import Step
from r2seg_agent.trace.tool_sentences import (
    TOOL_SENTENCES,
    Data,
    dicts,
    finding_line,
    g,
    integer,
    plain,
    plan_line,
    strings,
)

MAX_POINTS = 8
"""Points below one step; the rest is counted."""


def sentence(step: Step) -> str:
    """What the step did or decided, in one line."""
    if step.is_tool:
        if step.error:
            return f"refused: {step.error}"
        if step.result is None:
            return "did not end: the run was stopped here"
        told = TOOL_SENTENCES.get(step.head.step)
        return told(step.result) if told else plain(step.result)
    told = _KINDS.get(step.head.kind)
    return told(step.head.data) if told else plain(step.head.data)


def points(step: Step) -> tuple[str, ...]:
    """Further lines: reasons, findings, plans. At most `MAX_POINTS`, then how many more there are."""
    found = _points(step)
    if len(found) <= MAX_POINTS:
        return tuple(found)
    return (*found[:MAX_POINTS], f"and {len(found) - MAX_POINTS} more")


def who(step: Step) -> str:
    """Who took the step and why: "referee: the plan names organs; where are they?"."""
    taken, why = step.head.data.get("taken_by"), step.head.data.get("why")
    return ": ".join(str(part) for part in (taken, why) if part) if step.is_tool else ""


def _points(step: Step) -> list[str]:
    result = step.result or {}
    match step.head.step if step.is_tool else step.head.kind:
        case "plan_search":
            return [plan_line(plan) for plan in dicts(result.get("plans"))] + strings(result.get("choices"))
        case "reject_candidates":
            rejected = result.get("rejected")
            facts = list(rejected.values()) if isinstance(rejected, dict) else []
            counted = Counter(_rejection(fact) for fact in facts if isinstance(fact, dict))
            return [f"{n} × {why}" for why, n in sorted(counted.items(), key=lambda item: (-item[1], item[0]))]
        case "measure_finding" | "describe_findings":
            return [finding_line(finding) for finding in dicts(result.get("findings"))]
        case "model_call":
            data = step.head.data
            return [text for text in (str(data.get("problem", "")), str(data.get("text", ""))) if text]
        case "question":
            return strings(step.head.data.get("choices"))
        case "answer":
            words = str(step.head.data.get("words", ""))
            return [f"the model's comment: {words}"] if words else []
        case _:
            return []


def _rejection(fact: dict[str, JsonValue]) -> str:
    rejection = Rejection.model_validate(fact)
    return brief_reason(rejection.cause, rejection.failed_gate)


def _model_call(data: Data) -> str:
    call = data.get("call")
    tokens = integer(data.get("tokens_in")) + integer(data.get("tokens_out"))
    cost = data.get("cost_usd")
    spent = f" ({tokens} tokens{f', {cost:.4f} USD' if isinstance(cost, float) else ''})" if tokens else ""
    if not isinstance(call, dict):
        return f"{data.get('planner')}: no call{spent}"
    return f"{data.get('planner')} chose {call.get('tool')}{spent}"


def _referee(data: Data) -> str:
    offered = strings(data.get("offered"))
    if offered:
        return f"offers {', '.join(offered)}" + (", or nothing" if data.get("optional") else "")
    target = f"target {data['target']}: " if data.get("target") else ""
    outcome = str(data.get("outcome") or "").replace("_", " ")
    return target + "; ".join(part for part in (outcome, str(data.get("why", ""))) if part)


def _budget(data: Data) -> str:
    if data.get("why"):
        return str(data["why"])
    return f"{g(data.get('used'))} used of {g(data.get('limit'))}"


def _started(data: Data) -> str:
    image = data.get("image")
    scan = f" on {image.get('name')} ({image.get('modality')})" if isinstance(image, dict) else ""
    fork = f", forked from {data['parent']}" if data.get("parent") else ""
    return f"r2seg {data.get('r2seg')}{scan}, planner {data.get('planner', 'of an earlier version')}{fork}"


def _finished(data: Data) -> str:
    files = data.get("files")
    named = ", ".join(files) if isinstance(files, dict) else ", ".join(strings(files))
    error = f": {data['error']}" if data.get("error") else ""
    return f"{str(data.get('outcome')).replace('_', ' ')}{error}" + (f"; files: {named}" if named else "")


_KINDS: Mapping[str, Callable[[Data], str]] = MappingProxyType(
    {
        "run_started": _started,
        "user_message": lambda data: str(data.get("text", "")),
        "question": lambda data: str(data.get("question", "")),
        "user_answer": lambda data: str(data.get("text", "")),
        "plan": plan_line,
        "model_call": _model_call,
        "referee": _referee,
        "answer": lambda data: str(data.get("answer", "")),
        "warning": lambda data: str(data.get("text", "")),
        "budget": _budget,
        "run_finished": _finished,
    }
)
