"""The numbers of a decision as columns of a table: which ones a reader needs depends on the Reject mode."""

from __future__ import annotations

from typing import NamedTuple

from r2seg_agent.method.models import Candidate
from r2seg_agent.reject.settings import Mode
from r2seg_agent.report.format import MISSING, format_p, format_score, format_share
from r2seg_agent.segment.regions.score import ReferenceShare

FAMILY_WISE = "family-wise p"
"""What a calibration's p is called: it holds for all candidates of a case at once, and is no q."""
REFERENCE_NOTE = (
    "reference: share of lesions among findings of such a score in the reference set, no probability for this scan"
)


class Number(NamedTuple):
    """A column's heading and a candidate's cell."""

    heading: str
    text: str


def numbers_of_finding(candidate: Candidate, mode: Mode | None) -> tuple[Number, ...]:
    """`numbers_of` for a table of findings, where a score is told only in the mode that ranks by it."""
    shown = headings_of_findings(mode)
    return tuple(number for number in numbers_of(candidate, mode) if number.heading in shown)


def headings_of_findings(mode: Mode | None) -> tuple[str, ...]:
    """The headings of `numbers_of_finding`."""
    return tuple(heading for heading in headings_of(mode) if heading != "score" or mode == "reference")


def numbers_of(candidate: Candidate, mode: Mode | None) -> tuple[Number, ...]:
    """What decided about a candidate in this mode, for its row in a table."""
    score = Number("score", format_score(candidate.score))
    if mode == "reference":
        return (score, Number("reference", format_reference(candidate.reference)))
    probability = Number("prob.", format_share(candidate.features.mean_probability))
    return (probability, score, *levels_of(candidate, mode))


def headings_of(mode: Mode | None) -> tuple[str, ...]:
    """The headings of `numbers_of`, for a table that may have no row."""
    return ("score", "reference") if mode == "reference" else ("prob.", "score", *level_headings(mode))


def levels_of(candidate: Candidate, mode: Mode | None) -> tuple[Number, ...]:
    """What is compared with alpha: p and q of the paper's test, the family-wise p of a calibration."""
    if mode == "conformal":
        return (Number(FAMILY_WISE, format_p(candidate.p)),)
    return Number("p", format_p(candidate.p)), Number("q", format_p(candidate.q))


def level_headings(mode: Mode | None) -> tuple[str, ...]:
    """The headings of `levels_of`."""
    return (FAMILY_WISE,) if mode == "conformal" else ("p", "q")


def format_reference(share: ReferenceShare | None) -> str:
    """A share with the number of findings that it comes from: "64 % of 25"."""
    return MISSING if share is None else f"{100 * share.share:.0f} % of {share.n}"
