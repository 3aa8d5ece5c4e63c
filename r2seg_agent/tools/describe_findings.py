"""`describe_findings`: how big, how bright and where findings are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from langgraph.types import Command
from pydantic import Field

from r2seg_agent.method.models import Finding
from r2seg_agent.report.format import (
    format_diameters,
    format_intensity,
    format_ml,
    format_size,
    plural,
)
from r2seg_agent.tools._runtime import (
    NO_FINDING,
    Runtime,
    ToolCard,
    ToolResult,
    ToolUseError,
    answer,
    context_of,
    search_of,
    search_tool,
)
from r2seg_agent.tools._words import MeasuredFinding, rounded_sizes
from r2seg_agent.tools.lookup import all_findings, finding_by_number, rejected_candidates

MAX_DESCRIBED = 10
"""Findings that one answer describes; the table of findings has them all."""


class DescribedFinding(MeasuredFinding):
    """One finding in numbers, with its grey value."""

    mean_intensity: float
    intensity_unit: str


class DescribeFindingsResult(ToolResult):
    """The findings asked for, and how many there are in all."""

    findings: tuple[DescribedFinding, ...]
    total: int
    rejected: int

    def line(self) -> str:
        """See `ToolResult`."""
        shown = len(self.findings)
        return f"{shown} of {plural(self.total, 'finding')} described, {self.rejected} rejected"

    def points(self) -> tuple[str, ...]:
        """The findings, one a line."""
        return tuple(finding.line() for finding in self.findings)


@search_tool(
    "describe_findings",
    ToolCard(
        asked_by='"how big?", "what did you find?"',
        unavailable=NO_FINDING,
    ),
)
def describe_findings(
    runtime: Runtime,
    findings: Annotated[
        list[int], Field(max_length=50, description="Numbers of the findings to describe; empty means all.")
    ] = [],  # noqa: B006  (LangChain reads the default; it is never changed)
) -> Command[str]:
    """Tell volume, diameters, grey value and place of findings by their numbers (none given: of all)."""
    search, context = search_of(runtime), context_of(runtime)
    known = all_findings(context, search)
    if not known:
        raise ToolUseError("there is no finding yet; search for a lesion with `plan_search` first")
    chosen = [finding_by_number(context, search, number) for number in dict.fromkeys(findings)] or list(known)
    rejected = len(rejected_candidates(context, search))
    focus = chosen[0].number if len(chosen) == 1 else None
    result = DescribeFindingsResult(
        findings=tuple(_row(finding) for finding in chosen), total=len(known), rejected=rejected
    )
    say = _sentences(chosen) if findings else _all_sentences(chosen, rejected)
    return answer(runtime, search.model_copy(update={"focus": focus}), result, "describe_findings", say=say)


def _row(finding: Finding) -> DescribedFinding:
    m = finding.measurements
    return DescribedFinding(
        number=finding.number,
        target=finding.target_name,
        **rounded_sizes(m),
        length_unit=m.length_unit,
        mean_intensity=round(m.mean_intensity, 1),
        intensity_unit=m.intensity_unit,
        place=m.place,
    )


def _sentences(chosen: Sequence[Finding]) -> str:
    shown = " ".join(_sentence(finding) for finding in chosen[:MAX_DESCRIBED])
    more = len(chosen) - MAX_DESCRIBED
    return f"{shown} {plural(more, 'more finding')} in the table." if more > 0 else shown


def _all_sentences(known: Sequence[Finding], rejected: int) -> str:
    """All findings; says whether there is anything besides them."""
    head = f"There {'is' if len(known) == 1 else 'are'} {plural(len(known), 'finding')}."
    together = ""
    if len(known) > 1 and all(f.measurements.area is None for f in known):
        together = f" Together they hold {format_ml(sum(f.measurements.volume_ml for f in known))}."
    left = f" {plural(rejected, 'other candidate')} {'was' if rejected == 1 else 'were'} rejected." if rejected else ""
    return f"{head} {_sentences(known)}{together}{left or ' Nothing else was proposed.'}"


def _sentence(finding: Finding) -> str:
    m = finding.measurements
    return (
        f"Finding {finding.number} ({finding.target_name}): {format_size(m)}, {format_diameters(m)} in its largest "
        f"slice, mean {format_intensity(m.mean_intensity, m.intensity_unit)}; {m.place}."
    )
