"""Looking things up in what a search has stored: candidates and findings by the names that users and models use."""

from __future__ import annotations

from functools import lru_cache

from pydantic import TypeAdapter

from r2seg_agent.method.models import Candidate, Finding, SearchRound, unique
from r2seg_agent.report.levels import e_of_rounds
from r2seg_agent.segment.features import rank_of
from r2seg_agent.store.artifacts import ArtifactStore
from r2seg_agent.store.refs import ArtifactRef
from r2seg_agent.tools._runtime import ToolUseError
from r2seg_agent.tools.context import Context
from r2seg_agent.tools.state import SearchState, TargetState

_FINDINGS = TypeAdapter(dict[str, tuple[Finding, ...]])


def all_findings(context: Context, search: SearchState) -> tuple[Finding, ...]:
    """Findings of all targets, by number."""
    return findings_in(context.store, search)


def findings_in(store: ArtifactStore, search: SearchState) -> tuple[Finding, ...]:
    """Findings of all targets, by number; one that several targets share is that of the first."""
    found = unique(finding for target in search.targets for finding in findings_of(store, target))
    return tuple(sorted(found, key=lambda finding: finding.number))


def findings_of(store: ArtifactStore, target: TargetState) -> tuple[Finding, ...]:
    """The stored findings of a target; empty when it has none."""
    return () if target.findings is None else _parsed_findings(store, target.findings)


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
    return place_of_candidate(context, search, candidate_id)[2]


def place_of_candidate(
    context: Context, search: SearchState, candidate_id: str
) -> tuple[TargetState, SearchRound, Candidate]:
    """The target, the round and the candidate with this id; `ToolUseError` lists the legal ones."""
    known: list[str] = []
    for target in search.targets:
        for round_ in rounds_of(context.store, target):
            for candidate in round_.candidates:
                if candidate.id == candidate_id:
                    return target, round_, candidate
                known.append(candidate.id)
    raise ToolUseError(f"there is no candidate `{candidate_id}`; candidates: {', '.join(known) or 'none yet'}")


def rejected_candidates(context: Context, search: SearchState) -> tuple[Candidate, ...]:
    """Candidates that the last round of each target rejected, in the order in which the user counts them.

    First the one that ranks first (`segment.features.rank_of`), ties by id; "the second one" is the second of these.
    """
    return rejected_in(context.store, search)


def rejected_in(store: ArtifactStore, search: SearchState) -> tuple[Candidate, ...]:
    """`rejected_candidates` of what `store` holds."""
    last = [rounds_of(store, target)[-1] for target in search.targets if target.rounds]
    rejected = [c for round_ in last for c in round_.candidates if c.decision == "rejected"]
    # Two targets in one organ reject the same regions: each counts once.
    once = {(c.ref.sha256, c.label, c.ref_box): c for c in reversed(rejected)}
    return tuple(sorted(once.values(), key=lambda c: (-rank_of(c.features), c.id)))


def rounds_of(store: ArtifactStore, target: TargetState) -> tuple[SearchRound, ...]:
    """The stored rounds of one target, in order."""
    return tuple(_parsed_round(store, ref) for ref in target.rounds)


def e_value_of(context: Context, search: SearchState) -> float | None:
    """The mean over targets of the e-values of their searches; None where no calibration judged any."""
    calibration = context.calibration
    if context.reject.mode != "conformal" or calibration is None:
        return None
    searched = [rounds_of(context.store, target) for target in search.targets if target.rounds]
    values = [e_of_rounds(rounds, calibration, context.reject.rounds) for rounds in searched]
    return sum(values) / len(values) if values else None


# A stored document never changes under its hash, so what was read once is read for good: a conversation looks at the
# same rounds at every step.
@lru_cache(maxsize=32)
def _parsed_round(store: ArtifactStore, ref: ArtifactRef) -> SearchRound:
    return SearchRound.model_validate_json(store.json(ref))


@lru_cache(maxsize=32)
def _parsed_findings(store: ArtifactStore, ref: ArtifactRef) -> tuple[Finding, ...]:
    return _FINDINGS.validate_json(store.json(ref))["findings"]
