"""What `r2seg find` prints: the answer first, then the tables, then where the files are."""

from __future__ import annotations

from r2seg_agent.outcomes import DISCLAIMER
from r2seg_agent.runs.api import FindResult

MAX_ROWS = 12
"""Findings in the terminal's table; the report has all."""


def print_answer(result: FindResult, *, quiet: bool) -> None:
    """Print a finished run to the terminal (tables on stdout)."""
    from rich.console import Console
    from rich.text import Text

    from r2seg_agent.report.table import findings_table, rejected_table, truth_table

    report = result.report
    console = Console(highlight=False)
    if report.image is not None and report.image.synthetic:
        console.print(Text("SYNTHETIC CONTENT", style="bold black on yellow"))
    console.print(Text(report.answer, style="bold"))
    if report.question is not None:
        for choice in report.choices:
            console.print(Text(f"  · {choice.line}"))
        console.print(Text('Ask again with one of these, e.g. r2seg find "…" --image …', style="dim"))
        return
    if report.findings:
        console.print(findings_table(report, MAX_ROWS))
    if quiet:
        return
    if any(c.decision == "rejected" for t in report.targets for r in t.rounds for c in r.candidates):
        console.print(rejected_table(report))
    if report.truth is not None:
        console.print(truth_table(report))
    if report.segmenter_choice is not None:
        console.print(Text(report.segmenter_choice.line, style="dim"))
    if report.reject is not None:
        console.print(Text(f"Reject mode {report.reject.mode}: {report.reject.guarantee}", style="dim"))
    for warning in report.warnings:
        console.print(Text(f"! {warning.text}", style="yellow"))
    console.print(Text(f"Files in {result.folder}: {', '.join(result.files)}", style="dim"))
    console.print(Text(DISCLAIMER, style="dim"))
