"""`make results`: the ablation on the demo scans, with the table of docs/evidence/results.md by scan.

The cases go through `r2seg ablate`, as a user's would. Nothing here knows a scan's truth but the evaluation.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from r2seg_agent.data.fetch import LocalDataset, fetch
from r2seg_agent.evals.ablation_models import Ablation
from r2seg_agent.evals.models import CaseEvaluation, Evaluation
from r2seg_agent.files import write_text_atomic
from studies.cases import CASES, Case, case_named
from studies.measure import machine_line, run_shown

SEGMENTERS = ("contrast", "lite-medsam")
SAME_PATIENT = {"abdomen-synthetic": "abdomen", "slice-synthetic": "abdomen"}
"""Scans that were made from another one: intervals are by patient."""
COLUMNS = ("image", "patient", "request", "anchors", "truth", "modality")


def cases_table(cases: Sequence[Case], scans: Mapping[str, LocalDataset]) -> tuple[str, str]:
    """The demo scans as a table of cases (CSV), and the list of those that are known to hold no lesion."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    free = []
    for case in cases:
        scan = scans[case.dataset]
        anchors = case.anchors or scan.anchors or "auto"
        truth = "" if scan.truth is None else str(scan.truth)
        patient = SAME_PATIENT.get(case.dataset, case.dataset)
        writer.writerow([scan.image, patient, case.request, anchors, truth, scan.modality])
        if scan.truth is None:
            free.append(str(scan.image))
    return text.getvalue(), "".join(f"{name}\n" for name in free)


def scans_markdown(cases: Sequence[Case], evaluations: Mapping[str, Evaluation]) -> str:
    """One row a scan, one column a preset: the Dice of its best found lesion, and the false findings."""
    lines = [f"| scan | {' | '.join(f'`{preset}`' for preset in evaluations)} |", f"|---|{'---|' * len(evaluations)}"]
    for number, case in enumerate(cases, start=1):
        cells = [
            _cell(next((case for case in evaluation.cases if case.number == number), None))
            for evaluation in evaluations.values()
        ]
        lines.append(f"| {case.dataset} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(case: CaseEvaluation | None) -> str:
    if case is None or not case.evaluated:
        return "no answer"
    false = sum(not finding.touches for finding in case.findings)
    if not case.lesions:
        return f"– ({false})"
    return f"{max(lesion.dice for lesion in case.lesions):.2f} ({false})"


def main() -> int:
    """Run the ablation with each segmenter and print the tables; the worst exit status of theirs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/results"))
    parser.add_argument("--only", nargs="*", default=[case.dataset for case in CASES])
    parser.add_argument("--segmenters", nargs="*", default=list(SEGMENTERS))
    parser.add_argument("--presets", default="baseline,+roi,+roi+reject,+gates,full")
    parser.add_argument("--workers", default="1")
    given = parser.parse_args()
    cases = [case_named(name) for name in given.only]
    table, free = cases_table(cases, {case.dataset: fetch(case.dataset) for case in cases})
    write_text_atomic(given.out / "cases.csv", table)
    write_text_atomic(given.out / "lesion-free.txt", free)
    print(machine_line())
    worst = 0
    for segmenter in given.segmenters:
        out = given.out / segmenter
        command = [sys.executable, "-m", "r2seg_agent", "ablate", str(given.out / "cases.csv"), "--out", str(out)]
        command += ["--segmenter", segmenter, "--presets", given.presets, "--workers", given.workers]
        if free:
            command += ["--lesion-free", str(given.out / "lesion-free.txt")]
        done = run_shown(command)
        worst = max(worst, done.status)
        if done.status == 0:
            made = Ablation.model_validate_json((out / "ablation.json").read_bytes())
            evaluations = {str(step.preset): _evaluation(out / step.folder) for step in made.steps}
            print(f"\n{segmenter}, {done.cpu_seconds:.0f} CPU s:\n\n{scans_markdown(cases, evaluations)}\n", flush=True)
    return worst


def _evaluation(folder: Path) -> Evaluation:
    return Evaluation.model_validate_json((folder / "evaluation.json").read_bytes())


if __name__ == "__main__":
    sys.exit(main())
