"""How a report looks in a notebook: HTML without scripts. Every text is escaped: a request or a name is data."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from r2seg_agent.method.models import Finding
from r2seg_agent.report.format import MISSING, format_diameters, format_p, format_score, format_share, format_size
from r2seg_agent.report.numbers import format_reference

HEADINGS = ("#", "target", "place", "size", "long × perp.", "prob.", "score", "reference", "p")


def report_html(
    request: str, answer: str, outcome: str, warnings: Sequence[str], findings: Sequence[Finding], disclaimer: str
) -> str:
    """Request, answer, findings and warnings, the disclaimer last."""
    table = findings_html(findings) if findings else ""
    remarks = "".join(f"<li>{escape(warning)}</li>" for warning in warnings)
    return (
        f"<div><p><strong>{escape(request)}</strong> ({escape(outcome.replace('_', ' '))})</p>"
        f"<p>{escape(answer)}</p>{table}{f'<ul>{remarks}</ul>' if remarks else ''}"
        f"<p><strong>{escape(disclaimer)}</strong></p></div>"
    )


def findings_html(findings: Sequence[Finding]) -> str:
    """One row per finding; p stands only where it is valid."""
    head = "".join(f"<th>{escape(heading)}</th>" for heading in HEADINGS)
    rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in _cells(f))}</tr>" for f in findings)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def findings_text(findings: Sequence[Finding]) -> str:
    """The same table as Markdown."""
    lines = [f"| {' | '.join(HEADINGS)} |", "|" + "---|" * len(HEADINGS)]
    lines += [f"| {' | '.join(cell.replace('|', '/') for cell in _cells(finding))} |" for finding in findings]
    return "\n".join(lines)


def _cells(finding: Finding) -> tuple[str, ...]:
    m = finding.measurements
    return (
        str(finding.number),
        finding.target_name,
        m.place or MISSING,
        format_size(m),
        format_diameters(m),
        format_share(finding.probability),
        format_score(finding.score),
        format_reference(finding.reference),
        format_p(finding.p),
    )
