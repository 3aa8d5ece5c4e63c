"""`batch`, `calibrate` and `evaluate` as functions, and the findings table that run, batch and evaluation share."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.small_case import GEOMETRY, write_case

import r2seg_agent
from r2seg_agent.batch.api import batch
from r2seg_agent.batch.calibrate import Calibrated
from r2seg_agent.batch.run import BatchResult
from r2seg_agent.datasets.case import Case
from r2seg_agent.errors import InputError
from r2seg_agent.evals.models import Evaluation
from r2seg_agent.imaging.write import write_label_map
from r2seg_agent.outcomes import DISCLAIMER
from r2seg_agent.reject.calibration_file import load_calibration
from r2seg_agent.report.table_rows import COLUMNS

REQUEST = "find a liver lesion"
OPTIONS: dict[str, Any] = {"segmenter": "contrast", "modality": "CT", "overlays": False}


def case(folder: Path, *, ball: bool, seed: int) -> Case:
    image, organs = write_case(folder, ball=ball, seed=seed)
    return Case(image=str(image), patient=f"=patient {seed}", anchors=str(organs))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def searched(folder: Path) -> BatchResult:
    broken = Case(image=str(folder / "missing.nii.gz"), patient="nobody")
    cases = [case(folder / "1", ball=True, seed=2), case(folder / "2", ball=True, seed=3), broken]
    # Called as a user does: the package is callable, whatever was imported before.
    found: BatchResult = r2seg_agent.batch(cases, REQUEST, out=folder / "out", **OPTIONS)
    return found


@pytest.fixture(scope="module")
def evaluation(searched: BatchResult, folder: Path) -> Evaluation:
    z, y, x = np.indices(GEOMETRY.shape)
    ball = ((z - 12) * 3.0) ** 2 + ((y - 24) * 2.0) ** 2 + ((x - 26) * 2.0) ** 2 <= 11.0**2
    write_label_map(folder / "truth.nii.gz", ball.astype(np.uint8), GEOMETRY)
    lines = [f"{row.image},truth.nii.gz" for row in searched.rows]
    (folder / "truth.csv").write_text("\n".join(["image,truth", *lines]) + "\n")
    return r2seg_agent.evaluate(
        folder / "out", folder / "truth.csv", surface=False, resamples=100, out=folder / "evaluation", pictures=False
    )


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        assert tuple(rows.fieldnames or ()) == COLUMNS
        return list(rows)


def test_every_case_has_a_row_and_its_report(searched: BatchResult, folder: Path) -> None:
    assert [row.status for row in searched.rows] == ["done", "done", "failed"]
    assert searched.folder == folder / "out"
    for row in searched.rows[:2]:
        report = searched.report(row.number)
        assert report.run_id == row.run_id
        assert len(report.findings) == row.findings > 0
        assert report.findings[0].mask().any()
    with pytest.raises(InputError, match=r"no report of case 3"):
        searched.report(3)
    assert "findings.csv" in searched.files


def test_run_batch_and_evaluation_have_the_same_findings(
    searched: BatchResult, evaluation: Evaluation, folder: Path
) -> None:
    of_batch = table(folder / "out" / "findings.csv")
    of_runs = [row for r in searched.rows[:2] for row in table(folder / "out" / "runs" / r.run_id / "findings.csv")]
    of_evaluation = table(folder / "evaluation" / "findings.csv")
    assert len(of_batch) == sum(row.findings for row in searched.rows)

    def without_patient(rows: list[dict[str, str]]) -> list[dict[str, str]]:
        return [{**row, "patient": ""} for row in rows]

    assert without_patient(of_batch) == of_runs == without_patient(of_evaluation)
    assert {row["patient"] for row in of_batch} == {"'=patient 2", "'=patient 3"}, "no spreadsheet runs it"
    assert {row["patient"] for row in of_evaluation} == {c.patient for c in evaluation.cases if c.rows}
    assert all(row["p"] == row["q"] == "" for row in of_batch), "paper mode has no valid p"
    assert all(row["decision"] == "survived" for row in of_batch)
    assert {row["run"] for row in of_batch} == {row.run_id for row in searched.rows[:2]}


def test_the_data_frames_are_the_tables(searched: BatchResult, evaluation: Evaluation) -> None:
    pytest.importorskip("pandas")
    cases, findings = searched.to_dataframe(), searched.to_dataframe("findings")
    assert list(cases["status"]) == ["done", "done", "failed"]
    assert tuple(findings.columns) == COLUMNS
    assert len(findings) == len(evaluation.to_dataframe("findings")) == searched.summary.findings
    figures = evaluation.to_dataframe()
    assert list(figures["key"]) == [figure.key for figure in evaluation.figures]


def test_what_is_shown_is_short_and_escaped(searched: BatchResult, evaluation: Evaluation) -> None:
    assert (
        repr(searched) == f"BatchResult(3 cases: 2 done, 1 failed; {searched.summary.findings} findings. {DISCLAIMER})"
    )
    assert repr(evaluation).startswith("Evaluation(out: 2 of 3 cases, 3 patients, 2 lesions")
    evil = evaluation.model_copy(update={"name": "<script>"})
    for page in (searched._repr_html_(), evil._repr_html_()):
        assert "<script>" not in page
        assert DISCLAIMER in page


def test_a_batch_again_repeats_nothing(searched: BatchResult, folder: Path) -> None:
    cases = [case(folder / "1", ball=True, seed=2), case(folder / "2", ball=True, seed=3)]
    again = batch(cases, REQUEST, out=folder / "out", **OPTIONS)
    assert again.repeated == 2
    assert again.rows == searched.rows[:2]


def test_cases_that_cannot_be_asked_are_refused_at_once(folder: Path) -> None:
    with pytest.raises(InputError, match="1 cases have no request"):
        batch([Case(image="a.nii.gz", patient="a")], out=folder / "none")
    with pytest.raises(InputError, match="list of cases is empty"):
        batch([], REQUEST, out=folder / "none")
    with pytest.raises(InputError, match="`--rounds` must be from 1 to 3"):
        batch([Case(image="a.nii.gz", patient="a")], REQUEST, out=folder / "none", rounds=9)
    with pytest.raises(InputError, match="does not exist"):
        batch(folder / "nothing.csv", REQUEST, out=folder / "none")


def test_wrong_settings_of_an_evaluation_are_named(folder: Path) -> None:
    with pytest.raises(InputError, match="iou must be above 0"):
        r2seg_agent.evaluate(folder, iou=0.0)
    with pytest.raises(InputError, match="rank `best` is unknown; there are: auto"):
        r2seg_agent.evaluate(folder, rank="best")  # type: ignore[arg-type]


def test_a_calibration_makes_p_values_valid(folder: Path) -> None:
    free = [case(folder / f"free{seed}", ball=False, seed=seed) for seed in (21, 22)]
    made = r2seg_agent.calibrate(free, "liver lesion", folder / "liver.json", workspace=folder / "ws", **OPTIONS)
    assert isinstance(made, Calibrated)
    assert load_calibration(folder / "liver.json") == made.calibration
    assert repr(made) == f"Calibrated(2 lesion-free patients, 2 scans, 0 left out; smallest p 0.333. {DISCLAIMER})"
    assert list(made.to_dataframe()["candidates"]) == [len(scan.scores) for scan in made.calibration.cases]
    searched = case(folder / "1", ball=True, seed=2)
    report = r2seg_agent.find(
        REQUEST,
        searched.image,
        anchors=searched.anchors or "",
        calibration=folder / "liver.json",
        alpha=0.4,
        workspace=folder / "ws",
        **OPTIONS,
    )
    assert report.reject is not None
    assert report.reject.valid
    assert report.findings
    for finding, row in zip(report.findings, report.rows(), strict=True):
        assert finding.p == finding.candidate.p == row.p is not None
        assert (finding.q, row.q) == (None, None)
