"""`python -m studies.widening`: the widen loop on two cases, round by round.

First a plan with too little padding on a SYNTHETIC volume: the landmark's own box misses the lesion, the widened one
holds it. Then a real lesion-free scan in which no candidate survives any round, at a level that 999 permutations cannot
reach (the smallest p is 0.001).
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from scipy import ndimage

from r2seg_agent.data.fetch import fetch
from r2seg_agent.imaging.geometry import Geometry
from r2seg_agent.imaging.itk import write_itk
from r2seg_agent.imaging.write import write_label_map
from r2seg_agent.reason.plan import AnatomyPlan
from r2seg_agent.report.decisions import full_reason
from r2seg_agent.report.format import format_box, format_p
from r2seg_agent.report.models import Report
from r2seg_agent.runs.api import FindOptions, run_find

SEED = 5


def too_little_padding(folder: Path) -> Report:
    """A dark ball beside a landmark in noise; the plan starts with no padding at all."""
    geometry = Geometry(shape=(32, 64, 64), spacing_mm=(2.0, 2.0, 2.0))
    z, y, x = np.indices(geometry.shape)
    lesion = (z - 16) ** 2 + (y - 32) ** 2 + (x - 40) ** 2 <= 5**2
    noise = ndimage.gaussian_filter(np.random.default_rng(SEED).standard_normal(geometry.shape), 1.0) * 25.0
    image = np.rint(60.0 + noise - 50.0 * ndimage.gaussian_filter(lesion.astype(float), 0.8)).astype(np.int16)
    landmark = ((abs(z - 16) < 6) & (abs(y - 32) < 8) & (x > 18) & (x < 30)).astype(np.uint8)
    write_itk(folder / "ct.nrrd", image, geometry)
    write_label_map(folder / "organs.nrrd", landmark, geometry, names={1: "urinary_bladder"})
    write_label_map(folder / "truth.nrrd", lesion.astype(np.uint8), geometry)
    plan = AnatomyPlan(
        target="cervical_cancer",
        target_name="cervical cancer",
        site="cervix",
        modality="CT",
        padding_mm=0.0,
        scales=(1.0, 4.0),
        anchors=("urinary_bladder",),
        anchor_role="near",
        prompt="tumor in cervix CT",
        expected_contrast="darker",
        expected_volume_ml=(0.5, 100.0),
    )
    (folder / "plan.json").write_text(plan.model_dump_json(), encoding="utf-8")
    options = FindOptions(
        anchors=str(folder / "organs.nrrd"),
        segmenter="contrast",
        plan=folder / "plan.json",
        truth=str(folder / "truth.nrrd"),
        workspace=folder / "ws",
        modality="CT",
        synthetic=True,
        reject="paper",
    )
    return run_find("find the tumor", str(folder / "ct.nrrd"), options).report


def nothing_survives(folder: Path) -> Report:
    """A real CT without a liver lesion, searched at alpha 0.0005."""
    scan = fetch("abdomen")
    options = FindOptions(
        anchors=scan.anchors or "auto",
        segmenter="contrast",
        modality="CT",
        reject="paper",
        alpha=0.0005,
        workspace=folder / "ws",
    )
    return run_find("find a liver lesion", str(scan.image), options).report


def print_rounds(report: Report) -> None:
    """The evidence of every round: boxes, candidates, p and q."""
    print(f"{report.answer}\n")
    for round_ in report.targets[0].rounds:
        print(f"Round {round_.index}: {round_.why}\n")
        for roi in round_.rois:
            print(f"- scale {roi.scale:g}: {format_box(roi.box)}")
        print("\n| candidate | ml | p | q | verdict |\n|---|---|---|---|---|")
        for c in round_.candidates:
            ml = c.features.volume_mm3 / 1000.0
            print(f"| {c.id} | {ml:.2f} | {format_p(c.p)} | {format_p(c.q)} | {c.decision}: {full_reason(c, round_)} |")
        print()


def main() -> int:
    """Run and print both cases."""
    for name, case in (("A plan with too little padding", too_little_padding), ("Nothing survives", nothing_survives)):
        print(f"### {name}\n")
        with tempfile.TemporaryDirectory() as folder:
            print_rounds(case(Path(folder)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
