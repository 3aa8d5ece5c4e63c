"""Looking things up in what a search has stored: candidates and findings by the names that users and models use."""

from __future__ import annotations

from r2seg_agent.report.models import Candidate, Finding, SearchRound
from r2seg_agent.segment.features import prominence
from r2seg_agent.tools._use import ToolUseError
from r2seg_agent.tools.context import Context
from r2seg_agent.tools.measure_finding import load_findings
from r2seg_agent.tools.state import SearchState


def all_findings(context: Context, search: SearchState) -> tuple[Finding, ...]:
    """Findings of all targets, by number."""
    return tuple(finding for target in search.targets for finding in load_findings(context, target))


def finding_by_number(context: Context, search: SearchState, number: int) -> Finding:
    """The finding with this number; `ToolUseError` lists the legal ones."""
    findings = all_findings(context, search)
    for finding in findings:
        if finding.number == number:
            return finding
    legal = ", ".join(str(finding.number) for finding in findings) or "none yet"
    raise ToolUseError(f"there is no finding {number}; findings: {legal}")


def candidate_by_id(context: Context, search: SearchState, candidate_id: str) -> Candidate:
    """The candidate with this id; `ToolUseError` lists the legal ones."""
    known: list[str] = []
    for target in search.targets:
        for ref in target.rounds:
            for candidate in SearchRound.model_validate_json(context.store.json(ref)).candidates:
                if candidate.id == candidate_id:
                    return candidate
                known.append(candidate.id)
    raise ToolUseError(f"there is no candidate `{candidate_id}`; candidates: {', '.join(known) or 'none yet'}")


def rejected_candidates(context: Context, search: SearchState) -> tuple[Candidate, ...]:
    """Candidates that no round kept, in the order in which the user counts them: most prominent first."""
    rejected: dict[str, Candidate] = {}
    for target in search.targets:
        for ref in target.rounds[-1:]:
            for candidate in SearchRound.model_validate_json(context.store.json(ref)).candidates:
                if candidate.decision == "rejected":
                    rejected[candidate.id] = candidate
    return tuple(sorted(rejected.values(), key=lambda c: (-prominence(c.features), c.id)))
