"""`make ablation`: the ablation on SYNTHETIC patients like one scan, with a calibration from others of the same kind.

Phantoms have many patients, known lesions and known lesion-free livers; the demo scans have one each and are real
(`make results`). Both are in docs/evidence/results.md.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from r2seg_agent.batch.builtin import CASES, phantoms_like
from r2seg_agent.data.fetch import fetch
from r2seg_agent.phantom.cohort import Cohort
from r2seg_agent.phantom.files import write_cohort
from r2seg_agent.runs.options import RunOptions
from studies.lesion_free import SCANS, TARGET
from studies.measure import machine_line, run_r2seg

CALIBRATION_SEED = 51
SEED = 77
"""Not the calibration's: no patient is in both."""
PATIENTS = 30
LESION_FREE_SHARE = 0.33


def cohort_with_lesions(lesion_free: Cohort) -> Cohort:
    """Patients like the calibration's, two thirds of them with one lesion of 0.5 to 5 ml in the liver."""
    return lesion_free.model_copy(update={"seed": SEED, "lesions": (1, 1), "lesion_free_share": LESION_FREE_SHARE})


def main() -> int:
    """Make the patients, calibrate unless a calibration is given, run `r2seg ablate`; the worst exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out/ablation"))
    parser.add_argument("--cases", type=int, default=PATIENTS)
    parser.add_argument("--calibration", type=Path, help="that of `make calibration`, which is of the same kind")
    parser.add_argument("--segmenter", default="contrast")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    out: Path = given.out
    print(machine_line(), flush=True)
    scan = fetch(SCANS[0])
    assert scan.anchors is not None  # the demo scan of the abdomen has organ masks
    options = RunOptions(anchors=str(scan.anchors), workspace=out / ".r2seg", seed=CALIBRATION_SEED)
    like = phantoms_like(str(scan.image), TARGET, options, n=CASES, workers=given.workers)
    shared = ["--segmenter", given.segmenter, "--workers", str(given.workers)]
    calibration, worst = given.calibration, 0
    if calibration is None:
        calibration = out / f"liver-{given.segmenter}.json"
        made = ["calibrate", "--cases", str(like.table), "--target", TARGET, "--out", str(calibration)]
        worst = run_r2seg([*made, "--workspace", str(out / ".r2seg"), *shared, "--quiet"])
    patients = write_cohort(
        cohort_with_lesions(like.matched.cohort), given.cases, out / "patients", workers=given.workers
    )
    if worst == 0:
        ablate = ["ablate", str(patients.cases_csv), "--out", str(out / given.segmenter), "--synthetic"]
        worst = run_r2seg([*ablate, "--calibration", str(calibration), *shared])
    return worst


if __name__ == "__main__":
    sys.exit(main())
