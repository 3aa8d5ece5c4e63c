"""The demo scans as cases of an ablation, their table by scan, and the demo where the weights cannot be had."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest

from r2seg_agent.data.fetch import LocalDataset
from r2seg_agent.errors import InputError, MissingDependencyError
from r2seg_agent.evals.evaluate import summarise
from r2seg_agent.evals.models import (
    CaseEvaluation,
    EvaluationSettings,
    FindingMatch,
    LesionMatch,
    SliceCounts,
    VoxelCounts,
)
from r2seg_agent.segment.weights import weights_path
from studies import demo
from studies.cases import CASES, DEMO, case_named
from studies.measure import run_measured, run_shown
from studies.results import cases_table, scans_markdown

SLICES = SliceCounts(
    bearing=1,
    bearing_marked=1,
    bearing_hit=1,
    free=0,
    free_marked=0,
    bearing_dice=0.5,
    bearing_accuracy=1,
    free_accuracy=0,
    bearing_class_accuracy=1,
    free_class_accuracy=0,
)


def evaluated(number: int, dice: float | None, false: int) -> CaseEvaluation:
    """A case with one lesion of this Dice (None: no lesion) and so many false findings."""
    touches = [] if not dice else [True]
    findings = [
        FindingMatch(number=i, volume_ml=1, lesion=None, touches=t) for i, t in enumerate(touches + [False] * false)
    ]
    lesion = LesionMatch(
        label=1, volume_ml=1, size="1", finding=None, iou=0, found_ml=None, overlapped=bool(dice), dice=dice or 0
    )
    return CaseEvaluation(
        id=str(number),
        number=number,
        name="image-0",
        patient=str(number),
        request_id="",
        true_ml=0.0 if dice is None else 1.0,
        status="done",
        answered=True,
        truth="lesion-free" if dice is None else "mask",
        voxels=VoxelCounts(tp=1, fp=0, fn=0, tn=1),
        slices=SLICES,
        lesions=() if dice is None else (lesion,),
        findings=tuple(findings),
        candidates=(),
    )


def test_the_demo_scans_as_a_table_of_cases(tmp_path: Path) -> None:
    cases = [case_named(name) for name in ("lung1", "abdomen", "abdomen-synthetic")]
    scans = {
        case.dataset: LocalDataset(
            name=case.dataset,
            image=tmp_path / case.dataset / "image.nrrd",
            truth=None if case.dataset == "abdomen" else tmp_path / "truth.nrrd",
            anchors=None if case.anchors else "organs.nii.gz",
            modality="CT",
            synthetic=False,
        )
        for case in cases
    }
    table, free = cases_table(cases, scans)
    rows = list(csv.DictReader(table.splitlines()))
    assert [row["anchors"] for row in rows] == ["hounsfield", "organs.nii.gz", "organs.nii.gz"]
    assert rows[1]["patient"] == rows[2]["patient"], "the synthetic lesion lies in the same patient"
    assert rows[1]["truth"] == ""
    assert free.splitlines() == [str(tmp_path / "abdomen" / "image.nrrd")]


def test_one_row_a_scan_with_dice_and_false_findings_by_preset() -> None:
    cases = [case_named("lung1"), case_named("abdomen"), case_named("pat3")]
    settings = EvaluationSettings(surface=False, resamples=10)
    first = summarise([evaluated(1, 0.001, 202), evaluated(2, None, 854)], settings, name="baseline")
    second = summarise([evaluated(1, 0.9, 6), evaluated(2, None, 0), evaluated(3, 0.0, 12)], settings, name="full")
    lines = scans_markdown(cases, {"baseline": first, "full": second}).splitlines()
    assert lines[0] == "| scan | `baseline` | `full` |"
    assert lines[2:] == [
        "| lung1 | 0.00 (202) | 0.90 (6) |",
        "| abdomen | – (854) | – (0) |",
        "| pat3 | no answer | 0.00 (12) |",
    ]


def test_cases_by_name() -> None:
    assert case_named("lung1") is CASES[0]
    assert set(DEMO) <= {case.dataset for case in CASES}
    with pytest.raises(InputError, match="lung1"):
        case_named("lung9")


def test_the_demo_says_plainly_when_it_falls_back_to_the_stand_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("R2SEG_CACHE", str(tmp_path))

    def no_network(name: str) -> Path:
        raise MissingDependencyError(f"`{name}` could not be downloaded", "Check the network.")

    monkeypatch.setattr(demo, "fetch_weights", no_network)
    assert demo.demo_segmenter() == "contrast"
    said = capsys.readouterr().out
    assert "could not be downloaded" in said
    assert "WITHOUT learned weights" in said


@pytest.mark.skipif(weights_path("lite-medsam") is None, reason="the released weights are not here: `make data`")
def test_the_demo_takes_the_real_model_where_its_weights_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.demo_segmenter() == "lite-medsam"
    assert "in the cache" in capsys.readouterr().out


def test_a_command_is_measured_with_and_without_its_output(capfd: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "-c", "print('hello'); import sys; sum(range(10**6)); sys.exit(3)"]
    quiet = run_measured(command)
    assert (quiet.status, quiet.output) == (3, "hello\n")
    assert quiet.cpu_seconds > 0
    shown = run_shown(command)
    assert (shown.status, shown.output) == (3, "")
    assert shown.peak_gb > 0
    assert capfd.readouterr().out == "hello\n"
