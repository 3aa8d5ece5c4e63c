"""What was rejected and why, grouped so that a reader sees the pattern before the rows."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from r2seg_agent.method.models import Candidate, SearchRound
from r2seg_agent.report.models import TargetReport

GATE_WORDS: Mapping[str, str] = MappingProxyType(
    {
        "L2.volume": "too small",
        "L2.mean_probability": "the segmenter is unsure",
        "L2.anchor_overlap": "mostly outside the anchor organ",
        "ours.elongation": "long, like a vessel",
        "ours.flatness": "flat, like a rim",
        "ours.inner_continuation": "a piece of something larger inside the organ",
        "ours.outer_continuation": "goes on outside the organ",
        "ours.attachment": "hangs broadly on something else",
        "ours.exterior_contact": "lies along the organ's edge",
        "ours.contrast": "too little contrast, or of the wrong sign",
        "ours.plausible_volume_min": "smaller than such a lesion is",
        "ours.plausible_volume_max": "larger than such a lesion is",
    }
)
"""What failing a candidate gate means, in the fewest words; a gate that is not here keeps its own name."""


class RejectedGroup(NamedTuple):
    """Candidates that fell for the same reason, best first."""

    why: str
    candidates: tuple[Candidate, ...]


def rejection_reason(candidate: Candidate, found_in: SearchRound) -> str:
    """The first thing that a rejected candidate failed, in the order in which Reject decides."""
    failed = next((gate.name for gate in candidate.gates if not gate.passed), None)
    if failed is not None:
        return GATE_WORDS.get(failed, failed)
    closed = next((gate.name for gate in found_in.case_gates if not gate.passed), None)
    if closed is not None and candidate.reason.startswith("the case"):
        return f"the whole case counts as negative ({closed})"
    if candidate.p is None:
        return "too few voxels to test"
    return "looks like normal tissue (q above α)"


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
    rounds = {c.id: r for r in target.rounds for c in r.candidates}
    groups: dict[str, list[Candidate]] = {}
    for candidate in rejected_of(target):
        groups.setdefault(rejection_reason(candidate, rounds[candidate.id]), []).append(candidate)
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    return tuple(RejectedGroup(why, tuple(candidates)) for why, candidates in ordered)
