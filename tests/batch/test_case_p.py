"""The p-value of a case in a batch: that of its largest score, family-wise, or none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from helpers.calibrated import small_calibration
from helpers.small_case import GEOMETRY, small_options, write_case

from r2seg_agent.batch.row import CaseRow, make_jobs
from r2seg_agent.batch.run_case import case_p, run_job
from r2seg_agent.datasets.case import Case
from r2seg_agent.imaging.write import write_label_map
from r2seg_agent.reject.calibration_file import save_calibration
from r2seg_agent.report.models import Report


def _row(folder: Path, **more: object) -> CaseRow:
    case = Case(image=str(folder / "image.nii.gz"), patient="p", anchors=str(folder / "organs.nii.gz"), modality="CT")
    (job,) = make_jobs((case,), "find the liver lesion", small_options(folder, overlays=False, **more))
    return run_job(job)


def test_a_case_has_the_p_of_its_largest_score_and_none_where_nothing_was_judged(tmp_path: Path) -> None:
    save_calibration(small_calibration(tmp_path / "cases", 39), tmp_path / "calibration.json")
    judged = tmp_path / "judged"
    write_case(judged)
    row = _row(judged, calibration=tmp_path / "calibration.json")
    report = Report.of_run(judged / "ws" / "runs" / row.run_id)
    assert row.p == report.findings[0].p == 1 / 40
    several = report.model_copy(update={"targets": report.targets * 2})
    assert case_p(several) is None
    assert _row(judged, reject="paper").p is None
    labels = np.zeros(GEOMETRY.shape, np.uint8)
    labels[2:-2, 6:-6, 1:5] = 2
    write_label_map(judged / "organs.nii.gz", labels, GEOMETRY, names={1: "liver", 2: "stomach", 3: "spleen"})
    absent = _row(judged, calibration=tmp_path / "calibration.json")
    assert (absent.outcome, absent.p) == ("target_not_in_view", None)
