"""The report's tables for a terminal. rich is imported when a table is made, not before."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Final

from r2seg_agent.method.models import Finding
from r2seg_agent.report.format import (
    MISSING,
    format_diameters,
    format_intensity,
    format_ml,
    format_share,
    format_size,
    plural,
)
from r2seg_agent.report.models import Report
from r2seg_agent.report.numbers import (
    REFERENCE_NOTE,
    headings_of,
    headings_of_findings,
    numbers_of,
    numbers_of_finding,
)
from r2seg_agent.report.rejections import rejected_groups

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

RIGHT: Final = "right"


def findings_table(
    report: Report, limit: int | None = None, only: Collection[int] | None = None, rest: str = "in report.md"
) -> Table:
    """One row per finding, the Reject mode in the title; at most `limit` rows, of every target its first ones, and
    `only` the findings of these numbers.

    Where the mode guarantees nothing, p and q lead to a line that says so; another line says how many are not shown,
    and where they are (`rest`).
    """
    mode = report.reject
    table = _table(f"Findings, reject mode {mode.mode}" if mode else "Findings")
    table.add_column("#", justify=RIGHT, no_wrap=True)
    several = len(report.targets) > 1
    if several:
        table.add_column("target")
    table.add_column("place", ratio=1, min_width=8 if several else 14)
    for heading in ("size", "long × perp.", "mean"):
        table.add_column(heading, justify=RIGHT, no_wrap=True)
    named = mode.mode if mode is not None else None
    invalid = mode is not None and not mode.valid
    for heading in headings_of_findings(named):
        starred = f"{heading}*" if invalid and heading in ("p", "q") else heading
        table.add_column(starred, justify=RIGHT, no_wrap=True)
    remarks = [f"* not FDR-valid in {named} mode"] if invalid and named != "reference" else []
    if named == "reference":
        remarks.append(REFERENCE_NOTE)
    shown = _first([f for f in report.findings if only is None or f.number in only], limit)
    if len(shown) < len(report.findings):
        remarks.append(f"{plural(len(report.findings) - len(shown), 'more finding')} {rest}")
    table.caption = "\n".join(remarks) or None
    for finding in shown:
        m, c = finding.measurements, finding.candidate
        table.add_row(
            *_texts(
                str(finding.number),
                *((", ".join(report.targets_of(finding.number)),) if several else ()),
                m.place,
                format_size(m),
                format_diameters(m),
                format_intensity(m.mean_intensity, m.intensity_unit),
                *(number.text for number in numbers_of_finding(c, named)),
            )
        )
    return table


def _first(findings: Sequence[Finding], limit: int | None) -> list[Finding]:
    """The first `limit` of them, taken from each target in turn: no target's are all left out."""
    if limit is None or len(findings) <= limit:
        return list(findings)
    of_target: dict[str, list[Finding]] = {}
    for finding in findings:
        of_target.setdefault(finding.target, []).append(finding)
    in_turn = [f for row in zip_longest(*of_target.values()) for f in row if f is not None]
    return sorted(in_turn[:limit], key=lambda finding: finding.number)


def rejected_table(report: Report) -> Table:
    """One row per reason of each target: how many fell for it, and the one that came nearest to being kept."""
    named = None if report.reject is None else report.reject.mode
    table = _table("Less certain" if named == "reference" else "Rejected")
    numbers = [heading for heading in headings_of(named) if heading != "prob."]
    table.add_column("candidates", justify=RIGHT, no_wrap=True)
    table.add_column("why", ratio=1, min_width=18)
    for heading in ("nearest", "volume", *numbers):
        table.add_column(heading, justify=RIGHT, no_wrap=True)
    for target in report.targets:
        for group in rejected_groups(target):
            best = group.candidates[0]
            table.add_row(
                *_texts(
                    str(len(group.candidates)),
                    group.why,
                    best.id,
                    format_ml(best.features.volume_mm3 / 1000.0),
                    *(number.text for number in numbers_of(best, named) if number.heading in numbers),
                )
            )
    return table


def truth_table(report: Report) -> Table:
    """One row per reference lesion, the figures over all voxels in the caption."""
    truth = report.truth
    if truth is None:
        raise ValueError("this report was not compared with a reference mask")
    table = _table("Against the reference mask")
    for heading in ("lesion", "volume", "finding", "Dice", "sensitivity", "precision"):
        table.add_column(heading, justify=RIGHT, no_wrap=True)
    for lesion in truth.lesions:
        table.add_row(
            str(lesion.label),
            format_ml(lesion.volume_ml),
            MISSING if lesion.finding is None else str(lesion.finding),
            format_share(lesion.dice),
            format_share(lesion.sensitivity),
            format_share(lesion.precision),
        )
    false = f", {plural(len(truth.false_findings), 'false finding')}" if truth.false_findings else ""
    table.caption = (
        f"all voxels: Dice {format_share(truth.dice)}, sensitivity {format_share(truth.sensitivity)}, "
        f"precision {format_share(truth.precision)}{false}"
    )
    return table


def _table(title: str) -> Table:
    from rich import box
    from rich.table import Table

    return Table(
        title=title,
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )


def _texts(*cells: str) -> tuple[Text, ...]:
    """Cells as plain text: what comes from a user or a model must not be read as markup."""
    from rich.text import Text

    return tuple(Text(cell) for cell in cells)
