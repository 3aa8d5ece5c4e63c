"""The decision on a candidate in words, from its facts: `cause`, `failed_gate` and the numbers of the test."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from r2seg_agent.method.models import Candidate, SearchRound
from r2seg_agent.reject.decide import Cause

GATE_WORDS: Mapping[str, str] = MappingProxyType(
    {
        "L2.volume": "too small",
        "L2.mean_probability": "the segmenter is unsure",
        "L2.anchor_overlap": "mostly outside the anchor organ",
        "ours.not_inside": "inside tissue that the target does not lie in",
        "ours.elongation": "long, like a vessel",
        "ours.flatness": "flat, like a rim",
        "ours.inner_continuation": "a piece of something larger inside the organ",
        "ours.outer_continuation": "continues outside the organ",
        "ours.attachment": "hangs broadly on something else",
        "ours.exterior_contact": "lies along the organ's edge",
        "ours.contrast": "too little contrast, or of the wrong sign",
        "ours.plausible_volume_min": "smaller than such a lesion is",
        "ours.plausible_volume_max": "larger than such a lesion is",
    }
)
"""What failing a candidate gate means, in the fewest words; a gate that is not here keeps its own name."""


def brief_reason(cause: Cause, failed_gate: str | None) -> str:
    """Why a candidate was rejected in the fewest words: candidates with the same words fell for the same reason."""
    match cause:
        case "gate":
            return GATE_WORDS.get(failed_gate or "", failed_gate or "a gate")
        case "case":
            return f"the whole case counts as negative ({failed_gate})"
        case "too_few_voxels":
            return "too few voxels to test"
        case "test":
            return "looks like normal tissue (above α)"
        case "score":
            return "less certain: its score is below the cut"
        case "none":
            return "nothing was decided"


def reason(candidate: Candidate) -> str:
    """What decided, with the candidate's own number: for lists that do not show its round."""
    match candidate.cause:
        case "gate":
            return f"{_note(candidate)} (gate {candidate.failed_gate})"
        case "test":
            differs = "differs from" if candidate.decision == "survived" else "looks like"
            return f"{_level_number(candidate)}: {differs} normal tissue"
        case "score" if candidate.score is not None:
            return f"score {candidate.score:.2f}{_worth(candidate)}"
        case _:
            return brief_reason(candidate.cause, candidate.failed_gate)


def full_reason(candidate: Candidate, round_: SearchRound) -> str:
    """What decided, with every number of the round that the decision follows from."""
    normal = f"normal {round_.site}" if round_.site else "normal tissue"
    match candidate.cause:
        case "gate":
            return f"{_note(candidate)} (gate {candidate.failed_gate})"
        case "case":
            note = next((gate.note for gate in round_.case_gates if gate.name == candidate.failed_gate), "")
            return f"the case counts as negative: {note} (gate {candidate.failed_gate})"
        case "too_few_voxels":
            return (
                f"too few voxels to test: {candidate.n_sampled} in the candidate, {round_.n_reference} in the reference"
            )
        case "test":
            survived, conformal = candidate.decision == "survived", round_.mode == "conformal"
            if conformal:
                words = f"is {'' if survived else 'not '}beyond lesion-free cases of {normal}"
            else:
                words = f"{'differs' if survived else 'does not differ'} from {normal}"
            limit = alpha_words(round_.alpha, round_.threshold)
            return f"{_level_number(candidate)} {'≤' if survived else '>'} {limit}: {words}"
        case "score" if candidate.score is not None:
            side = "at or above" if candidate.decision == "survived" else "below"
            return f"score {candidate.score:.2f}, {side} the cut{_worth(candidate)}"
        case "score":
            return "the score did not rank it"
        case "none":
            return "nothing was tested" if round_.mode == "none" else "scored for a calibration; nothing is decided"


def _worth(candidate: Candidate) -> str:
    """What such a score was worth in the reference set."""
    share = candidate.reference
    if share is None:
        return ""
    return f"; {share.share:.0%} of {share.n} such findings of the reference set were lesions"


def _note(candidate: Candidate) -> str:
    return next((gate.note for gate in candidate.gates if gate.name == candidate.failed_gate), "")


def alpha_words(alpha: float | None, threshold: float | None) -> str:
    """What a p- or q-value was compared with: alpha, or what holds alpha with the wanted confidence."""
    if alpha is None:
        return "alpha"
    return f"alpha {alpha:g}" if threshold in (None, alpha) else f"{threshold:.3g} (which holds alpha {alpha:g})"


def _level_number(candidate: Candidate) -> str:
    """q of the paper's test; a candidate that a calibration judged has a family-wise p and no q."""
    if candidate.q is not None:
        return f"q = {candidate.q:.3g}"
    return "no p" if candidate.p is None else f"family-wise p = {candidate.p:.3g}"
