"""`make calibration`: a calibration from lesion-free phantoms like one scan, and what it answers on that scan.

TotalSegmentator's example CT has a liver without a lesion, and one patient makes no calibration: the smallest p-value
that n lesion-free patients give is 1 / (n + 1). So `r2seg calibrate --builtin` draws phantoms with the scan's spacing,
phase and noise (measured in its liver), and then "find a liver lesion" is asked of the scan itself and of the same scan
with a SYNTHETIC lesion. Conformal p-values hold where patients and calibration are exchangeable; phantoms and patients
are not, whatever was matched. The scan's profile says where they differ, and nobody can say that nothing else does.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from r2seg_agent.batch.builtin import CASES, phantoms_like
from r2seg_agent.data.fetch import LocalDataset, fetch
from r2seg_agent.phantom.files import write_cohort
from r2seg_agent.runs.options import RunOptions
from studies.cases import case_named
from studies.demo import find_arguments
from studies.measure import run_r2seg

SCANS = ("abdomen", "abdomen-synthetic")
TARGET = "liver lesion"
SEED = 51
ROUNDS = 3
"""As `find` has by default."""
LEVEL_SEED = 991
"""Of the patients by which `--level` counts false findings: none of them is in the calibration."""


def main() -> int:
    """Build the calibration, then ask it; the exit status is the worst of the searches."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("calibration"))
    parser.add_argument("--cases", type=int, default=CASES, help="lesion-free phantoms; 39 serve alpha 0.05 well")
    parser.add_argument("--segmenter", default="contrast")
    parser.add_argument("--score", default="scan_statistic", help="of a candidate: `region` is the learned one")
    parser.add_argument("--seed", type=int, default=SEED, help="of the phantoms: another seed, other patients")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of the search; a calibration is for its number")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--level", type=int, default=0, help="judge so many further lesion-free phantoms by it")
    given = parser.parse_args()
    out: Path = given.out
    out.mkdir(parents=True, exist_ok=True)
    scan = fetch(SCANS[0])
    file = out / f"liver-{given.segmenter}-{given.score}-{given.rounds}-rounds.json"
    setup = ["--segmenter", given.segmenter, "--rounds", str(given.rounds)]
    anchors, workspace = str(scan.anchors), out / ".r2seg"
    calibrate = ["calibrate", "--builtin", str(scan.image), "--anchors", anchors, "--target", TARGET, *setup]
    calibrate += ["--score", given.score, "--out", str(file), "--workspace", str(workspace), "--quiet"]
    calibrate += ["--workers", str(given.workers), "--phantoms", str(given.cases), "--seed", str(given.seed)]
    worst = run_r2seg(calibrate)
    if worst == 0:
        for name in SCANS:
            worst = max(
                worst, run_r2seg([*_find(name, fetch(name), out, given.segmenter, file), "--rounds", str(given.rounds)])
            )
    if worst == 0 and given.level:
        options = RunOptions(anchors=anchors, workspace=workspace, seed=given.seed)
        made = phantoms_like(str(scan.image), TARGET, options, n=given.cases, workers=given.workers)
        others = made.matched.cohort.model_copy(update={"seed": LEVEL_SEED})
        listed = write_cohort(others, given.level, out / "others", workers=given.workers).cases_csv
        batch = ["batch", str(listed), "--request", f"find a {TARGET}", "--out", str(out / "level"), "--synthetic"]
        worst = run_r2seg([*batch, *setup, "--calibration", str(file), "--workers", str(given.workers), "--quiet"])
    return worst


def _find(name: str, scan: LocalDataset, out: Path, segmenter: str, file: Path) -> list[str]:
    arguments = find_arguments(case_named(name), scan, out / segmenter, segmenter)
    return [*arguments, "--calibration", str(file)]


if __name__ == "__main__":
    sys.exit(main())
