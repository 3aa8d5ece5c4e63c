"""The result of a batch in numbers: `summary.json` for programs, `summary.md` for people."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import PurePath

from r2seg_agent.batch.row import CaseRow
from r2seg_agent.frozen import Frozen
from r2seg_agent.outcomes import DISCLAIMER
from r2seg_agent.reject.alpha import within

SHOWN = 20
"""Rows of a list in `summary.md`; the table has all."""
SLOWEST = 5
_QUOTED = re.compile(r"`[^`]*`")
_NUMBER = re.compile(r"\d[\d.,:]*")


class BatchSummary(Frozen):
    """The result of a batch. `flagged` are the scans whose case-level q is at most `alpha`: the false discovery rate of
    flagged scans is then at most `alpha` (Benjamini-Hochberg over case-level conformal p-values, which share one
    calibration and so depend positively on each other; Bates et al. 2023). None: no scan has a valid p-value.

    `cases` counts those that are finished, of `listed`. `failures` counts reasons, file names and numbers left out.
    `about` says how the data set was read.
    """

    listed: int
    cases: int
    statuses: dict[str, int]
    outcomes: dict[str, int]
    failures: dict[str, int]
    findings: int
    warned: int
    alpha: float
    flagged: int | None
    median_seconds: float | None
    median_dice: float | None
    about: tuple[str, ...] = ()

    @property
    def guarantee(self) -> str:
        """What is promised of the flagged scans, in words."""
        if self.flagged is None:
            return (
                "No case has a valid p-value, so no scan is flagged and nothing is promised of the findings as a "
                "whole. `r2seg calibrate` on lesion-free scans like these is the way to it."
            )
        return (
            f"{self.flagged} scans are flagged (q at most {self.alpha:g}). Of flagged scans at most {self.alpha:.0%} "
            "are expected to be free of lesions, on average over such batches and calibrations (Benjamini-Hochberg "
            "over the cases' family-wise p-values). It holds for scans like those of the calibration."
        )


def summarise(
    rows: Sequence[CaseRow], q: Mapping[str, float], alpha: float, *, listed: int, about: tuple[str, ...] = ()
) -> BatchSummary:
    """The summary of `rows`; `q` by job key, `listed` how many cases there are in all."""
    dice = [row.dice for row in rows if row.dice is not None]
    seconds = [row.seconds for row in rows if row.status == "done"]
    return BatchSummary(
        listed=listed,
        cases=len(rows),
        statuses=_counts(row.status for row in rows),
        outcomes=_counts(str(row.outcome) for row in rows if row.outcome),
        failures=dict(Counter(reason(row) for row in rows if not answered(row)).most_common()),
        findings=sum(row.findings for row in rows),
        warned=sum(row.warnings > 0 for row in rows),
        alpha=alpha,
        flagged=sum(within(value, alpha) for value in q.values()) if q else None,
        median_seconds=statistics.median(seconds) if seconds else None,
        median_dice=statistics.median(dice) if dice else None,
        about=about,
    )


def answered(row: CaseRow) -> bool:
    """False for a case that failed, and for one whose search could not be begun or ended."""
    return row.status == "done" and row.outcome not in ("needs_user", "budget_exhausted", "failed")


def reason(row: CaseRow) -> str:
    """Why a case has no answer, without what only it has: names and numbers."""
    kind = row.outcome if row.status == "done" else row.status
    return f"{_words(str(kind))}: {_NUMBER.sub('…', _QUOTED.sub('…', row.error))}"


def summary_markdown(summary: BatchSummary, rows: Sequence[CaseRow], q: Mapping[str, float], part: str = "") -> str:
    """`summary.md`: counts, flagged scans, failures by reason, slowest cases; every case with a report is a link."""
    lines = [f"# Batch: {summary.cases} of {summary.listed} cases", ""]
    lines += [*(f"{line}" for line in summary.about), ""] if summary.about else []
    lines += ["| result | cases |", "|---|---|"]
    lines += [f"| {_words(outcome)} | {count} |" for outcome, count in summary.outcomes.items()]
    lines += [f"| {_words(s)} | {count} |" for s, count in summary.statuses.items() if s != "done"]
    if summary.listed > summary.cases:
        lines.append(f"| not finished | {summary.listed - summary.cases} |")
    lines += ["", f"{summary.findings} findings. {summary.warned} reports carry warnings.", ""]
    if summary.median_dice is not None:
        lines += [f"Median Dice against the given truth: {summary.median_dice:.3f} (`r2seg eval` has the rest).", ""]
    lines += ["## Flagged scans", "", summary.guarantee, ""]
    flagged = sorted((r for r in rows if within(q.get(r.key, 1.0), summary.alpha)), key=lambda r: (q[r.key], r.number))
    lines += _case_list(flagged, lambda row: f"q {q[row.key]:.3g}, {row.findings} findings, {row.largest_ml:.2f} ml")
    failed = [row for row in rows if not answered(row)]
    if failed:
        lines += ["## Cases without an answer", "", "| reason | cases | first |", "|---|---|---|"]
        for why, count in summary.failures.items():
            first = next(row for row in failed if reason(row) == why)
            lines.append(f"| {_cell(first.error if count == 1 else why)} | {count} | {first.number} |")
        lines.append("")
    slow = sorted((row for row in rows if row.status == "done"), key=lambda row: -row.seconds)[:SLOWEST]
    if slow:
        lines += [f"## Slowest cases (median {summary.median_seconds:.1f} s)", ""]
        lines += _case_list(slow, lambda row: f"{row.seconds:.1f} s")
    lines += [
        f"Tables: results{part}.csv, findings{part}.csv; pictures: [index{part}.html](index{part}.html).",
        "",
        DISCLAIMER,
        "",
    ]
    return "\n".join(lines)


def _case_list(rows: Sequence[CaseRow], describe: Callable[[CaseRow], str]) -> list[str]:
    lines = [f"- {_link(row)}: {describe(row)}" for row in rows[:SHOWN]]
    if len(rows) > SHOWN:
        lines.append(f"- and {len(rows) - SHOWN} more in the table")
    return [*lines, ""] if lines else []


def _link(row: CaseRow) -> str:
    name = f"case {row.number} ({_cell(PurePath(row.image).name)})"
    return f"[{name}](runs/{row.run_id}/report.md)" if row.run_id else name


def _words(text: str) -> str:
    return text.replace("_", " ")


def _cell(text: str) -> str:
    """A text that breaks neither a Markdown table nor a link."""
    plain = " ".join(text.split())
    return "".join(f"\\{c}" if c in "|[]<>\\" else c for c in plain)


def _counts(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))
