"""`summarize_session`: what was asked, planned, tried, found and rejected in this conversation."""

from __future__ import annotations

from langgraph.types import Command

from r2seg_agent.frozen import Frozen
from r2seg_agent.method.models import SearchRound
from r2seg_agent.reject.settings import describe_mode
from r2seg_agent.report.format import format_size, plural
from r2seg_agent.tools._runtime import Runtime, ToolCard, ToolResult, answer, context_of, search_of, search_tool
from r2seg_agent.tools._words import cut, organ_names
from r2seg_agent.tools.context import Context
from r2seg_agent.tools.lookup import findings_of, rounds_of
from r2seg_agent.tools.state import SearchState, TargetState

MAX_TURNS = 8
"""Turns that are quoted, the latest ones."""
MAX_QUOTED = 60
MAX_FINDINGS = 5


class SummarizedTarget(Frozen):
    """One target: where it was searched in which rounds, and with which outcome."""

    target: str
    organs: tuple[str, ...]
    rounds: int
    candidates: int
    rejected: int
    findings: int
    outcome: str


class SummarizeSessionResult(ToolResult):
    """What was done so far; the trace of the run holds every step with its time."""

    turns: int
    undone: int
    tool_calls: int
    by_the_referee: int
    alpha: float
    mode: str
    valid: bool
    targets: tuple[SummarizedTarget, ...]

    def line(self) -> str:
        """See `ToolResult`."""
        return f"{plural(self.turns, 'turn')}, {plural(self.tool_calls, 'tool call')} so far"


@search_tool("summarize_session", ToolCard(asked_by='"what did you do so far?"'))
def summarize_session(runtime: Runtime) -> Command[str]:
    """Tell what was asked, planned, tried, found and rejected so far, round by round."""
    search, context = search_of(runtime), context_of(runtime)
    settings = context.reject_for(search)
    mode = describe_mode(settings, context.calibration)
    earlier = search.turns[:-1]
    result = SummarizeSessionResult(
        turns=len(earlier),
        undone=sum(turn.undone for turn in earlier),
        tool_calls=search.tool_calls,
        by_the_referee=search.referee_steps,
        alpha=settings.alpha,
        mode=mode.mode,
        valid=mode.valid,
        targets=tuple(_summary(target, context) for target in search.targets),
    )
    level = f"Level: alpha {settings.alpha:g}, {mode.mode} mode. {_sentence(mode.guarantee)}"
    steps = (
        f"{plural(search.tool_calls, 'step')} so far, {search.referee_steps} of them taken by the referee; "
        "the trace of the run holds each with its time."
    )
    parts = [_asked(search), *(_target(n, t, context) for n, t in enumerate(search.targets, start=1)), level, steps]
    return answer(runtime, search, result, "summarize_session", say=" ".join(part for part in parts if part))


def _asked(search: SearchState) -> str:
    """The user's earlier messages."""
    earlier = search.turns[:-1]
    if not earlier:
        return "Nothing was asked before this." if not search.targets else ""
    quoted = [f"“{cut(turn.text, MAX_QUOTED)}”{' (undone)' if turn.undone else ''}" for turn in earlier[-MAX_TURNS:]]
    skipped = len(earlier) - len(quoted)
    head = f"You asked ({skipped} before these): " if skipped else "You asked: "
    return f"{head}{', '.join(quoted)}."


def _target(number: int, target: TargetState, context: Context) -> str:
    plan, rounds = target.original_plan, rounds_of(context.store, target)
    head = f"Target {number}, {plan.target_name}"
    if not rounds:
        return f"{head}: {_sentence(target.answer) or 'planned, not searched yet.'}"
    tried = "; ".join(_round(round_) for round_ in rounds)
    findings = findings_of(context.store, target)
    where = f"searched in and around the {organ_names(plan.anchors)}"
    where += f", and the {organ_names(target.included)} beside it" if target.included else ""
    if not findings:
        ended = (target.outcome or f"stands at {target.stage}").replace("_", " ")
        return f"{head}, {where}: {tried}. Outcome: {ended}."
    shown = ", ".join(
        f"{f.number} ({f.measurements.place}, {format_size(f.measurements)})" for f in findings[:MAX_FINDINGS]
    )
    more = f" and {len(findings) - MAX_FINDINGS} more" if len(findings) > MAX_FINDINGS else ""
    noun = "finding" if len(findings) == 1 else "findings"
    return f"{head}, {where}: {tried}. Kept as {noun} {shown}{more}."


def _round(round_: SearchRound) -> str:
    rejected = sum(candidate.decision == "rejected" for candidate in round_.candidates)
    return (
        f"round {round_.index} with a margin of {round_.padding_mm:g} mm proposed "
        f"{plural(len(round_.candidates), 'candidate')}, {rejected} rejected"
    )


def _summary(target: TargetState, context: Context) -> SummarizedTarget:
    rounds = rounds_of(context.store, target)
    last = rounds[-1].candidates if rounds else ()
    return SummarizedTarget(
        target=target.original_plan.target_name,
        organs=target.original_plan.anchors,
        rounds=len(rounds),
        candidates=len(last),
        rejected=sum(candidate.decision == "rejected" for candidate in last),
        findings=len(findings_of(context.store, target)),
        outcome=target.outcome or target.stage,
    )


def _sentence(text: str) -> str:
    return text if not text else f"{text[0].upper()}{text[1:]}"
