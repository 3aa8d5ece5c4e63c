"""What was rejected and why, grouped so that a reader sees the pattern before the rows."""

from __future__ import annotations

from typing import NamedTuple

from r2seg_agent.method.models import Candidate
from r2seg_agent.report.decisions import brief_reason
from r2seg_agent.report.models import TargetReport


class RejectedGroup(NamedTuple):
    """Candidates that fell for the same reason, best first."""

    why: str
    candidates: tuple[Candidate, ...]


def rejected_of(target: TargetReport) -> tuple[Candidate, ...]:
    """All rejected candidates of all rounds, nearest to being kept first: higher score, then probability, then size."""
    return tuple(
        sorted(
            (c for r in target.rounds for c in r.candidates if c.decision == "rejected"),
            key=lambda c: (
                -(c.score if c.score is not None else float("-inf")),
                -c.features.mean_probability,
                -c.features.volume_mm3,
                c.id,
            ),
        )
    )


def rejected_groups(target: TargetReport) -> tuple[RejectedGroup, ...]:
    """The rejected candidates by reason, the commonest reason first."""
    groups: dict[str, list[Candidate]] = {}
    for candidate in rejected_of(target):
        groups.setdefault(brief_reason(candidate.cause, candidate.failed_gate), []).append(candidate)
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    return tuple(RejectedGroup(why, tuple(candidates)) for why, candidates in ordered)
