"""`explain_candidate`: why a candidate was kept or rejected."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated

from langchain_core.tools import tool
from langgraph.types import Command
from pydantic import Field

from r2seg_agent.frozen import Frozen
from r2seg_agent.method.models import Candidate, SearchRound
from r2seg_agent.reject.decide import Cause
from r2seg_agent.reject.gates import GateResult
from r2seg_agent.reject.settings import describe_mode
from r2seg_agent.report.decisions import brief_reason, reason
from r2seg_agent.report.format import format_ml, plural
from r2seg_agent.report.masks import candidate_mask
from r2seg_agent.report.place import place
from r2seg_agent.tools._runtime import Runtime, ToolUseError, answer, context_of, search_of
from r2seg_agent.tools.context import Context
from r2seg_agent.tools.decision_words import kept_because, rejected_because
from r2seg_agent.tools.lookup import (
    all_findings,
    finding_by_number,
    place_of_candidate,
    rejected_candidates,
    rounds_in,
)
from r2seg_agent.tools.state import SearchState, TargetState

MAX_REASONS = 5
"""Reasons that are told when all rejected candidates are explained at once, the commonest first."""

_BY_NUMBER = re.compile(r"(?P<kind>rejected|finding)(?:\s+(?:candidate\s+)?#?(?P<number>\d+))?")


class ExplainCandidateResult(Frozen):
    """The decision with every number that led to it. `score` is not a p-value; p and q only where `valid`."""

    candidate: str
    decision: str
    cause: Cause
    failed_gate: str | None
    alpha: float
    score: float | None
    p: float | None
    q: float | None
    valid: bool
    gates: tuple[GateResult, ...]
    volume_ml: float
    contrast: float
    place: str


class ExplainRejectedResult(Frozen):
    """All rejected candidates: how many fell for which reason, and their ids in the order in which users count."""

    rejected: int
    reasons: dict[str, int]
    candidates: tuple[str, ...]


@tool("explain_candidate")
def explain_candidate(
    candidate: Annotated[
        str,
        Field(
            max_length=40,
            description="'rejected 2' (the second rejected one), 'finding 1', an id such as 't1r1c2', or 'rejected' "
            "for all rejected ones together.",
        ),
    ],
    runtime: Runtime,
) -> Command[str]:
    """Explain why a candidate was kept or rejected."""
    search, context = search_of(runtime), context_of(runtime)
    named = " ".join(candidate.lower().split())
    by_number = _BY_NUMBER.fullmatch(named)
    if by_number and by_number["kind"] == "rejected" and by_number["number"] is None:
        return _explain_all(runtime, search, context)
    chosen = _identity(context, search, named, by_number)
    target, one, found = place_of_candidate(context, search, chosen)
    settings = context.reject_for(search)
    mode = describe_mode(settings, context.calibration)
    where = _place(context, target, found)
    result = ExplainCandidateResult(
        candidate=found.id,
        decision=found.decision,
        cause=found.cause,
        failed_gate=found.failed_gate,
        alpha=settings.alpha,
        score=found.score,
        p=found.p,
        q=found.q,
        valid=mode.valid,
        gates=found.gates,
        volume_ml=round(found.features.volume_mm3 / 1000.0, 3),
        contrast=round(found.features.contrast, 2),
        place=where,
    )
    who, focus = _name(context, search, found)
    size = "" if context.volume.geometry.known_spacing == "none" else f", {format_ml(result.volume_ml)}"
    about = f"{who} ({where}{size})"
    if found.decision == "survived":
        why = kept_because(found, mode, settings.alpha, target.plan.site)
        say = f"{about} was kept in round {one.index}: {why}"
    else:
        why = rejected_because(found, one, mode, settings.alpha, target.plan.site)
        say = f"{about} was rejected in round {one.index}: {why} A rejection is no proof that it is harmless."
    search = search if focus is None else search.model_copy(update={"focus": focus})
    return answer(runtime, search, result, "explain_candidate", say=say)


def _identity(context: Context, search: SearchState, named: str, by_number: re.Match[str] | None) -> str:
    if by_number is None:
        if named.isdigit():
            raise ToolUseError(f"say `finding {named}` or `rejected {named}`: both kinds are numbered")
        return named
    number = int(by_number["number"] or 0)
    if by_number["kind"] == "finding":
        return finding_by_number(context, search, number).candidate.id
    rejected = rejected_candidates(context, search)
    if not 1 <= number <= len(rejected):
        legal = f"there are 1 to {len(rejected)}" if rejected else "nothing was rejected"
        raise ToolUseError(f"there is no rejected candidate {number}; {legal}")
    return rejected[number - 1].id


def _name(context: Context, search: SearchState, found: Candidate) -> tuple[str, int | None]:
    """How the user knows the candidate, and its number if it is a finding."""
    for finding in all_findings(context, search):
        if finding.candidate.id == found.id:
            return f"Finding {finding.number}", finding.number
    ids = [one.id for one in rejected_candidates(context, search)]
    return (f"Rejected candidate {ids.index(found.id) + 1}" if found.id in ids else f"Candidate {found.id}"), None


def _place(context: Context, target: TargetState, found: Candidate) -> str:
    mask = candidate_mask(context.store, found)
    return place(mask, found.box, context.volume, context.anchors_of(target), target.plan)


def _explain_all(runtime: Runtime, search: SearchState, context: Context) -> Command[str]:
    rejected = rejected_candidates(context, search)
    last = {n: rounds_in(context.store, t)[-1] for n, t in enumerate(search.targets, start=1) if t.rounds}
    reasons = _count_reasons(rejected)
    result = ExplainRejectedResult(
        rejected=len(rejected), reasons=reasons, candidates=tuple(one.id for one in rejected)
    )
    return answer(runtime, search, result, "explain_candidate", say=_told_all(rejected, reasons, last))


def _count_reasons(rejected: Sequence[Candidate]) -> dict[str, int]:
    found = [brief_reason(one.cause, one.failed_gate) for one in rejected]
    return {why: found.count(why) for why in sorted(set(found), key=lambda why: (-found.count(why), why))}


def _told_all(rejected: Sequence[Candidate], reasons: dict[str, int], last: dict[int, SearchRound]) -> str:
    if not rejected:
        empty = not any(one.candidates for one in last.values())
        return "Nothing was rejected: " + ("no candidate was proposed." if empty else "every candidate was kept.")
    told = "; ".join(f"{n} because: {why}" for why, n in list(reasons.items())[:MAX_REASONS])
    rest = len(reasons) - MAX_REASONS
    more = f"; {plural(rest, 'more reason')}" if rest > 0 else ""
    first = rejected[0]
    head = f"{plural(len(rejected), 'candidate')} {'was' if len(rejected) == 1 else 'were'} rejected: {told}{more}."
    ask = "Ask about one by its number, for example “why did you reject the second one?”." if len(rejected) > 1 else ""
    prominent = f"The most prominent one ({format_ml(first.features.volume_mm3 / 1000.0)}): {reason(first)}."
    return f"{head} {prominent} {ask}".strip()
