"""`make ablation`: the ablation on SYNTHETIC patients like one scan, with a calibration from others of the same kind.

Phantoms have many patients, known lesions and known lesion-free livers; the demo scans have one each and are real
(`make results`). Both are in docs/evidence/results.md.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from r2seg_agent.data.derive import LIVER_LABEL
from r2seg_agent.data.fetch import fetch
from r2seg_agent.imaging.masks import read_label_map
from r2seg_agent.imaging.read import read_image
from r2seg_agent.phantom.cohort import Cohort
from r2seg_agent.phantom.files import write_cohort
from studies.lesion_free import CASES, SCANS, TARGET, match_cohort
from studies.measure import machine_line, run_r2seg

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
    volume = read_image(scan.image, modality=scan.modality)
    organs = read_label_map(Path(scan.anchors), volume.geometry)
    cohort = match_cohort(volume, np.asarray(organs == LIVER_LABEL)).cohort
    shared = ["--segmenter", given.segmenter, "--workers", str(given.workers)]
    calibration, worst = given.calibration, 0
    if calibration is None:
        free = write_cohort(cohort, CASES, out / "lesion-free", workers=given.workers)
        calibration = out / f"liver-{given.segmenter}.json"
        made = ["calibrate", "--cases", str(free.cases_csv), "--target", TARGET, "--out", str(calibration)]
        worst = run_r2seg([*made, "--workspace", str(out / ".r2seg"), *shared, "--quiet"])
    patients = write_cohort(cohort_with_lesions(cohort), given.cases, out / "patients", workers=given.workers)
    if worst == 0:
        ablate = ["ablate", str(patients.cases_csv), "--out", str(out / given.segmenter), "--synthetic"]
        worst = run_r2seg([*ablate, "--calibration", str(calibration), *shared])
    return worst


if __name__ == "__main__":
    sys.exit(main())
