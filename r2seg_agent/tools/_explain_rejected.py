"""`explain_candidate` for all rejected candidates together: how many fell for which reason."""

from __future__ import annotations

from collections.abc import Sequence

from langgraph.types import Command

from r2seg_agent.method.models import Candidate, SearchRound
from r2seg_agent.report.decisions import brief_reason, reason
from r2seg_agent.report.format import format_ml, plural
from r2seg_agent.tools._runtime import Runtime, ToolResult, answer
from r2seg_agent.tools.context import Context
from r2seg_agent.tools.lookup import rejected_candidates, rounds_of
from r2seg_agent.tools.state import SearchState

MAX_REASONS = 5
"""Reasons that one answer gives, the commonest first."""


class ExplainRejectedResult(ToolResult):
    """All rejected candidates: how many fell for which reason, and their ids in the order in which users count."""

    rejected: int
    reasons: dict[str, int]
    candidates: tuple[str, ...]

    def line(self) -> str:
        """See `ToolResult`."""
        return f"{plural(self.rejected, 'rejected candidate')} explained"

    def points(self) -> tuple[str, ...]:
        """How many fell for which reason."""
        return tuple(f"{n} × {why}" for why, n in self.reasons.items())


def explain_rejected(runtime: Runtime, search: SearchState, context: Context) -> Command[str]:
    """The answer of `explain_candidate` for all rejected candidates together."""
    rejected = rejected_candidates(context, search)
    last = {n: rounds_of(context.store, t)[-1] for n, t in enumerate(search.targets, start=1) if t.rounds}
    reasons = _count_reasons(rejected)
    result = ExplainRejectedResult(
        rejected=len(rejected), reasons=reasons, candidates=tuple(candidate.id for candidate in rejected)
    )
    return answer(runtime, search, result, "explain_candidate", say=_sentence(rejected, reasons, last))


def _count_reasons(rejected: Sequence[Candidate]) -> dict[str, int]:
    found = [brief_reason(candidate.cause, candidate.failed_gate) for candidate in rejected]
    return {why: found.count(why) for why in sorted(set(found), key=lambda why: (-found.count(why), why))}


def _sentence(rejected: Sequence[Candidate], reasons: dict[str, int], last: dict[int, SearchRound]) -> str:
    if not rejected:
        empty = not any(round_.candidates for round_ in last.values())
        return "Nothing was rejected: " + ("no candidate was proposed." if empty else "every candidate was kept.")
    shown = "; ".join(f"{n} because: {why}" for why, n in list(reasons.items())[:MAX_REASONS])
    rest = len(reasons) - MAX_REASONS
    more = f"; {plural(rest, 'more reason')}" if rest > 0 else ""
    first = rejected[0]
    head = f"{plural(len(rejected), 'candidate')} {'was' if len(rejected) == 1 else 'were'} rejected: {shown}{more}."
    ask = "Ask about one by its number, for example “why did you reject the second one?”." if len(rejected) > 1 else ""
    prominent = f"The most prominent one ({format_ml(first.features.volume_mm3 / 1000.0)}): {reason(first)}."
    return f"{head} {prominent} {ask}".strip()
