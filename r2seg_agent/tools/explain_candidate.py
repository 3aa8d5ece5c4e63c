"""`explain_candidate`: why a candidate was kept or rejected."""

from __future__ import annotations

import re
from typing import Annotated

from langgraph.types import Command
from pydantic import Field

from r2seg_agent.method.models import Candidate
from r2seg_agent.reject.decide import Cause
from r2seg_agent.reject.gates import GateResult
from r2seg_agent.reject.settings import describe_mode
from r2seg_agent.report.decisions import brief_reason
from r2seg_agent.report.format import format_ml
from r2seg_agent.report.masks import candidate_mask
from r2seg_agent.report.place import place
from r2seg_agent.tools._explain_rejected import explain_rejected
from r2seg_agent.tools._runtime import (
    Runtime,
    ToolCard,
    ToolResult,
    ToolUseError,
    answer,
    context_of,
    search_of,
    search_tool,
)
from r2seg_agent.tools.context import Context
from r2seg_agent.tools.decision_words import kept_because, rejected_because
from r2seg_agent.tools.lookup import (
    all_findings,
    finding_by_number,
    place_of_candidate,
    rejected_candidates,
)
from r2seg_agent.tools.state import SearchState, TargetState

_BY_NUMBER = re.compile(r"(?P<kind>rejected|finding)(?:\s+(?:candidate\s+)?#?(?P<number>\d+))?")


class ExplainCandidateResult(ToolResult):
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

    def line(self) -> str:
        """See `ToolResult`."""
        if self.decision != "rejected":
            return f"{self.candidate} was kept: {self.place}"
        return f"{self.candidate} was rejected: {brief_reason(self.cause, self.failed_gate)}"


@search_tool(
    "explain_candidate",
    ToolCard(
        asked_by='"why was … rejected?"',
        note=' ("rejected 2" is the second rejected one, "finding 1" a kept one)',
    ),
)
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
        return explain_rejected(runtime, search, context)
    chosen = _identity(context, search, named, by_number)
    target, round_, found = place_of_candidate(context, search, chosen)
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
        say = f"{about} was kept in round {round_.index}: {why}"
    else:
        why = rejected_because(found, round_, mode, settings.alpha, target.plan.site)
        say = f"{about} was rejected in round {round_.index}: {why} A rejection is no proof that it is harmless."
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
    ids = [candidate.id for candidate in rejected_candidates(context, search)]
    return (f"Rejected candidate {ids.index(found.id) + 1}" if found.id in ids else f"Candidate {found.id}"), None


def _place(context: Context, target: TargetState, found: Candidate) -> str:
    mask = candidate_mask(context.store, found)
    return place(mask, found.box, context.volume, context.anchors_of(target), target.plan)
