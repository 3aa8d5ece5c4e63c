"""`make calibration`: a calibration from lesion-free phantoms like one scan, and what it answers on that scan.

TotalSegmentator's example CT has a liver without a lesion, and one patient makes no calibration: the smallest p-value
that n lesion-free patients give is 1 / (n + 1). So the calibration comes from phantoms with the scan's spacing, phase
and noise (measured in its liver), and then "find a liver lesion" is asked of the scan itself and of the same scan with
a SYNTHETIC lesion. Conformal p-values hold where patients and calibration are exchangeable; phantoms and patients are
not, whatever was matched. The scan's profile says where they differ, and nobody can say that nothing else does.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from r2seg_agent.data.derive import LIVER_LABEL
from r2seg_agent.data.fetch import LocalDataset, fetch
from r2seg_agent.imaging.masks import read_label_map
from r2seg_agent.imaging.read import read_image
from r2seg_agent.imaging.volume import Mask, Volume
from r2seg_agent.phantom.cohort import Cohort, make_case, plan_cohort
from r2seg_agent.phantom.files import write_cohort
from r2seg_agent.reject.profile import ScanProfile, measure_profile
from studies.cases import case_named
from studies.demo import find_arguments
from studies.measure import run_r2seg

SCANS = ("abdomen", "abdomen-synthetic")
TARGET = "liver lesion"
SEED = 51
CASES = 99
PILOTS = 4
"""Phantoms by which the noise of a cohort is set to the scan's."""
PILOT_NOISE_SD = 12.0
NOISE_SPREAD = 0.15
"""Patients of one scanner and protocol differ by about this much in noise (ours)."""
ANCHOR_ERROR_MM = 0.6
"""Border error that gives a phantom's liver mask the same share of fat and lung as the scan's own mask has."""
SHADING_HU = 4.0
GREY_SPREAD_HU = 6.0
"""The phantoms' livers are within this of the scan's: without contrast agent, vessels are darker than a bright liver
and as bright as a grey one, and then they are, or are not, proposed as lesions."""
ROUNDS = 3
"""As `find` has by default."""
LEVEL_SEED = 991
"""Of the patients by which `--level` counts false findings: none of them is in the calibration."""


class Matched(NamedTuple):
    """A cohort like a scan, the scan's profile, and the profiles of the pilots before the noise was set."""

    cohort: Cohort
    scan: ScanProfile
    pilots: tuple[ScanProfile, ...]


def match_cohort(volume: Volume, liver: Mask, *, seed: int = SEED, pilots: int = PILOTS) -> Matched:
    """Lesion-free phantoms of the spacing and noise that `volume` has in `liver` (both (z, y, x)), without contrast."""
    scan = measure_profile(volume, liver)
    trial = Cohort(
        seed=seed,
        lesions=(0, 0),
        view="belly",
        phase="native",
        spacing_mm=volume.geometry.spacing_mm,
        noise_sd=(PILOT_NOISE_SD, PILOT_NOISE_SD),
        # a scan resampled to coarse voxels by interpolation keeps the noise of single fine ones: no correlation along z
        slice_mm=0.5 * volume.geometry.spacing_mm[0],
        shading_hu=SHADING_HU,
        organ_grey=(scan.anchor_median - GREY_SPREAD_HU, scan.anchor_median + GREY_SPREAD_HU),
        anchor_error_mm=ANCHOR_ERROR_MM,
    )
    seen = []
    for case in plan_cohort(trial, pilots):
        phantom = make_case(trial, case).phantom
        seen.append(measure_profile(phantom.volume, phantom.organ("liver")))
    factor = scan.noise_sd / float(np.mean([profile.noise_sd for profile in seen]))
    middle = PILOT_NOISE_SD * factor
    noise = (round(middle * (1 - NOISE_SPREAD), 2), round(middle * (1 + NOISE_SPREAD), 2))
    return Matched(trial.model_copy(update={"noise_sd": noise}), scan, tuple(seen))


def main() -> int:
    """Build the calibration, then ask it; the exit status is the worst of the searches."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("calibration"))
    parser.add_argument("--cases", type=int, default=CASES, help="lesion-free phantoms; 39 serve alpha 0.05 well")
    parser.add_argument("--segmenter", default="contrast")
    parser.add_argument("--seed", type=int, default=SEED, help="of the phantoms: another seed, other patients")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of the search; a calibration is for its number")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--level", type=int, default=0, help="judge so many further lesion-free phantoms by it")
    given = parser.parse_args()
    out: Path = given.out
    scan = fetch(SCANS[0])
    volume = read_image(scan.image, modality="CT")
    if scan.anchors is None:
        raise ValueError(f"the dataset {SCANS[0]} has organ masks")
    organs = read_label_map(Path(scan.anchors), volume.geometry)
    matched = match_cohort(volume, np.asarray(organs == LIVER_LABEL), seed=given.seed)
    p, cohort = matched.scan, matched.cohort
    print(
        f"== {SCANS[0]}: liver {p.anchor_median:.0f} HU, noise {p.noise_sd:.1f} HU, {p.spacing_mm} mm. "
        f"Phantoms get noise {cohort.noise_sd} HU.",
        flush=True,
    )
    written = write_cohort(cohort, given.cases, out / "phantoms", workers=given.workers)
    print(f"   {written.n} SYNTHETIC lesion-free patients in {out / 'phantoms'}", flush=True)
    file = out / f"liver-{given.segmenter}-{given.rounds}-rounds.json"
    calibrate = ["calibrate", "--cases", str(written.cases_csv), "--target", TARGET, "--segmenter", given.segmenter]
    calibrate += ["--out", str(file), "--workspace", str(out / ".r2seg"), "--workers", str(given.workers)]
    calibrate += ["--rounds", str(given.rounds), "--quiet"]
    worst = run_r2seg(calibrate)
    if worst == 0:
        for name in SCANS:
            worst = max(
                worst, run_r2seg([*_find(name, fetch(name), out, given.segmenter, file), "--rounds", str(given.rounds)])
            )
    if worst == 0 and given.level:
        others = cohort.model_copy(update={"seed": LEVEL_SEED})
        listed = write_cohort(others, given.level, out / "others", workers=given.workers).cases_csv
        batch = ["batch", str(listed), "--request", f"find a {TARGET}", "--out", str(out / "level"), "--synthetic"]
        batch += ["--segmenter", given.segmenter, "--calibration", str(file), "--rounds", str(given.rounds)]
        worst = run_r2seg([*batch, "--workers", str(given.workers), "--quiet"])
    return worst


def _find(name: str, scan: LocalDataset, out: Path, segmenter: str, file: Path) -> list[str]:
    arguments = find_arguments(case_named(name), scan, out / segmenter, segmenter)
    return [*arguments, "--calibration", str(file)]


if __name__ == "__main__":
    sys.exit(main())
