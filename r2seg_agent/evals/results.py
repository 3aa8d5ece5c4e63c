"""`make results`: every demo scan with one and the same settings; prints the table of docs/results.md.

Each case is one `r2seg find` in a process of its own, exactly as a user would type it, plus its wall time and peak
memory. Nothing here knows a scan's truth but the evaluation at the end.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from r2seg_agent.data.fetch import fetch
from r2seg_agent.evals.cases import CASES
from r2seg_agent.evals.demo import find_arguments
from r2seg_agent.evals.measure import machine_line, run_measured
from r2seg_agent.report.models import Report

HEADER = (
    "| scan | asked | anchors | outcome | best Dice | its rank | findings (false) | rejected | s | peak GB |\n"
    "|---|---|---|---|---|---|---|---|---|---|"
)


def row(dataset: str, anchors: str, report: Report, seconds: float, peak_gb: float) -> str:
    """One line of the table."""
    rejected = sum(c.decision == "rejected" for t in report.targets for r in t.rounds for c in r.candidates)
    best = max(report.truth.lesions, key=lambda lesion: lesion.dice) if report.truth else None
    # Without a reference mask the scan is known to hold no lesion: every finding is a false one.
    false = len(report.truth.false_findings) if report.truth else len(report.findings)
    dice = "no lesion there" if best is None else f"{best.dice:.2f}"
    rank = "–" if best is None or best.finding is None else str(best.finding)
    return (
        f"| {dataset} | {report.request} | {anchors} | {report.outcome} | {dice} | {rank} "
        f"| {len(report.findings)} ({false}) | {rejected} | {seconds:.1f} | {peak_gb:.2f} |"
    )


def main() -> int:
    """Run all cases, print the table; 1 when a case failed to run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/results"))
    parser.add_argument("--only", nargs="*", default=[case.dataset for case in CASES])
    parser.add_argument("--segmenter", default="contrast")
    given = parser.parse_args()
    print(f"{machine_line()}; segmenter {given.segmenter}")
    print(HEADER, flush=True)
    failed = 0
    for case in CASES:
        if case.dataset not in given.only:
            continue
        scan = fetch(case.dataset)
        command = [sys.executable, "-m", "r2seg_agent", *find_arguments(case, scan, given.out), "--quiet"]
        command += ["--segmenter", given.segmenter]
        done = run_measured(command)
        if done.status != 0:
            failed += 1
            print(f"| {case.dataset} | {case.request} | failed with exit status {done.status} |", flush=True)
            continue
        report = Report.model_validate_json((given.out / case.dataset / "report.json").read_bytes())
        anchors = case.anchors or "the scan's own masks"
        print(row(case.dataset, anchors, report, done.seconds, done.peak_gb), flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
