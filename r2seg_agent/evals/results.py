"""`make results`: every demo scan with one and the same settings, by several methods; the tables of docs/results.md.

Each row is one process, exactly as a user would start it, with its wall time and peak memory. Nothing here knows a
scan's truth but the evaluation at the end.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from r2seg_agent.data.fetch import fetch
from r2seg_agent.evals.alone import Alone
from r2seg_agent.evals.cases import CASES, Case, case_named
from r2seg_agent.evals.demo import find_arguments
from r2seg_agent.evals.measure import Measured, machine_line, run_measured
from r2seg_agent.report.models import Report, TruthEvaluation

METHODS = ("contrast", "lite-medsam", "lite-medsam alone")
"""A segmenter with Reason and Reject around it, or `… alone`: on the whole image, everything it marks is a finding."""
HEADER = (
    "| scan | method | voxel Dice | sensitivity | precision | lesion Dice | its rank | findings (false) | rejected "
    "| CPU s | s | peak GB |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|---|"
)


def row(
    dataset: str, method: str, truth: TruthEvaluation | None, findings: int, rejected: int | None, done: Measured
) -> str:
    """One line of the table; a scan without a reference mask is known to hold no lesion: every finding is false."""
    best = max(truth.lesions, key=lambda lesion: lesion.dice, default=None) if truth else None
    false = len(truth.false_findings) if truth else findings
    voxels = [_two(value) for value in (truth.dice, truth.sensitivity, truth.precision)] if truth else ["–"] * 3
    rank = "–" if best is None or best.finding is None or rejected is None else str(best.finding)
    cells = [
        dataset,
        method,
        *voxels,
        "no lesion there" if best is None else f"{best.dice:.2f}",
        rank,
        f"{findings} ({false})",
        "–" if rejected is None else str(rejected),
        f"{done.cpu_seconds:.0f}",
        f"{done.seconds:.0f}",
        f"{done.peak_gb:.2f}",
    ]
    return f"| {' | '.join(cells)} |"


def run_case(case: Case, method: str, out: Path) -> str:
    """The row of one scan and method; a failure is a row too."""
    name, _, alone = method.partition(" ")
    out.mkdir(parents=True, exist_ok=True)
    if alone:
        answer = out / f"{case.dataset}-{name}-alone.json"
        done = run_measured(
            [sys.executable, "-m", "r2seg_agent.evals.alone", case.dataset, "--segmenter", name, "--out", str(answer)]
        )
        if done.status != 0:
            return f"| {case.dataset} | {method} | failed with exit status {done.status} |"
        found = Alone.model_validate_json(answer.read_bytes())
        return row(case.dataset, method, found.truth, found.findings, None, done)
    arguments = find_arguments(case, fetch(case.dataset), out / name, name)
    done = run_measured([sys.executable, "-m", "r2seg_agent", *arguments, "--quiet"])
    if done.status != 0:
        return f"| {case.dataset} | {method} | failed with exit status {done.status} |"
    report = Report.model_validate_json((out / name / case.dataset / "report.json").read_bytes())
    rejected = sum(c.decision == "rejected" for t in report.targets for r in t.rounds for c in r.candidates)
    return row(case.dataset, method, report.truth, len(report.findings), rejected, done)


def main() -> int:
    """Run all cases by all methods, print the table; 1 when a case failed to run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/results"))
    parser.add_argument("--only", nargs="*", default=[case.dataset for case in CASES])
    parser.add_argument("--methods", nargs="*", default=list(METHODS), help="A segmenter's name, or 'NAME alone'.")
    given = parser.parse_args()
    print(machine_line())
    print(HEADER, flush=True)
    failed = 0
    for dataset in given.only:
        fetch(dataset)  # a download is no part of a measurement
        for method in given.methods:
            line = run_case(case_named(dataset), method, given.out)
            failed += "failed with exit status" in line
            print(line, flush=True)
    return int(failed > 0)


def _two(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


if __name__ == "__main__":
    sys.exit(main())
