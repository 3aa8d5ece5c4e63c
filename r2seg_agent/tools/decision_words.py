"""A decision of Reject in a sentence: what was compared, which numbers decided, and what they guarantee."""

from __future__ import annotations

from r2seg_agent.method.models import Candidate, SearchRound
from r2seg_agent.reject.settings import PAPER_LABEL, ModeGuarantee
from r2seg_agent.report.decisions import GATE_WORDS, alpha_words, brief_reason, full_reason, reason
from r2seg_agent.report.format import format_equals
from r2seg_agent.report.numbers import FAMILY_WISE


def kept_because(candidate: Candidate, mode: ModeGuarantee, alpha: float, site: str) -> str:
    """Why a candidate survived. Numbers of a mode that is not valid are never called p-values."""
    if mode.mode == "none":
        return mode.guarantee
    if mode.mode == "reference":
        why = reason(candidate)
        return f"{why[:1].upper()}{why[1:]}. {mode.guarantee}"
    gates = f"it passed all {len(candidate.gates)} gates, and " if candidate.gates else ""
    return f"{gates}{_against_normal(candidate, mode, alpha, site)} {_promise(mode)}"


def rejected_because(candidate: Candidate, round_: SearchRound, mode: ModeGuarantee, alpha: float, site: str) -> str:
    """Why a candidate was rejected: the first thing that it failed, then what else speaks against it."""
    failed = [gate for gate in candidate.gates if not gate.passed]
    if failed:
        first = f"{brief_reason(candidate.cause, candidate.failed_gate)} ({failed[0].note}; gate {failed[0].name})"
        others = [GATE_WORDS.get(gate.name, gate.name) for gate in failed[1:]]
        also = f"; also {', '.join(others)}" if others else ""
        return f"{first}{also}."
    if candidate.cause != "test":
        return f"{full_reason(candidate, round_)}."
    return f"{_against_normal(candidate, mode, alpha, site)} {_promise(mode)}"


def _against_normal(candidate: Candidate, mode: ModeGuarantee, alpha: float, site: str) -> str:
    calibrated = mode.mode == "conformal"
    numbers = format_equals(FAMILY_WISE, candidate.p) if calibrated else format_equals("q", candidate.q)
    numbers += "" if mode.valid else " (not FDR-valid)"
    survived = candidate.decision == "survived"
    if calibrated:
        words = "its score is beyond" if survived else "its score is not beyond"
        normal = f"{words} that of lesion-free cases of normal {site}"
    else:
        words = "differ from" if survived else "do not differ from"
        normal = f"its grey values {words} those of normal {site}"
    return f"{normal}: {numbers}, {'at most' if survived else 'above'} {alpha_words(alpha, mode.threshold)}."


def _promise(mode: ModeGuarantee) -> str:
    return mode.guarantee if mode.valid else f"In {mode.mode} mode the q-values are {PAPER_LABEL}: no error rates."
