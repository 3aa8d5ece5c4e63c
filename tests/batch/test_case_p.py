"""The p-value of a case in a batch: that of its largest score, family-wise, or none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from helpers.calibrated import small_calibration
from helpers.small_case import GEOMETRY, small_options, write_case

from r2seg_agent.batch.row import CaseRow, make_jobs
from r2seg_agent.batch.run_case import case_p, failed_row, run_job
from r2seg_agent.batch.summary import summarise, summary_markdown
from r2seg_agent.batch.table import case_q_values
from r2seg_agent.datasets.case import Case
from r2seg_agent.imaging.write import write_label_map
from r2seg_agent.reject.calibration_file import save_calibration
from r2seg_agent.report.models import Report
from r2seg_agent.runs.options import RunOptions


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


def test_a_scan_whose_q_is_the_level_is_flagged() -> None:
    """Three of six scans have p = 1/40: q is 0.05 in exact arithmetic, and a rounding above it as a float."""
    cases = tuple(Case(image=f"{i}.nii", patient=str(i)) for i in range(6))
    values = (*[1 / 40] * 3, *[1.0] * 3)
    rows = tuple(
        failed_row(job, "done", "", 0.0).model_copy(update={"p": p})
        for job, p in zip(make_jobs(cases, "x", RunOptions()), values, strict=True)
    )
    q = case_q_values(rows)
    assert min(q.values()) > 0.05
    summary = summarise(rows, q, 0.05, listed=6)
    assert summary.flagged == 3
    assert "q 0.05, 0 findings" in summary_markdown(summary, rows, q)
