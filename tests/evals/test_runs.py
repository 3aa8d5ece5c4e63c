"""From a folder of real runs to figures: what is read, what is refused, what is told."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.evaluation_cases import FAST
from helpers.small_case import GEOMETRY, small_options, write_case
from typer.testing import CliRunner

from r2seg_agent.batch.journal import Journal, read_rows
from r2seg_agent.batch.row import make_jobs
from r2seg_agent.batch.run_case import run_job
from r2seg_agent.cli.main import app
from r2seg_agent.datasets.case import Case
from r2seg_agent.errors import InputError, MissingDependencyError, RunFailedError
from r2seg_agent.evals import Evaluation, EvaluationSettings, evaluate_runs, write_evaluation
from r2seg_agent.evals import evaluate as evaluate_module
from r2seg_agent.evals.read import read_runs
from r2seg_agent.evals.truth import truth_source
from r2seg_agent.evals.write import read_evaluation
from r2seg_agent.imaging.masks import LESION_FREE
from r2seg_agent.imaging.write import write_label_map
from r2seg_agent.report.models import Report
from r2seg_agent.report.truth import evaluate

WITH_SURFACE = EvaluationSettings(resamples=100)


def _true_ball() -> np.ndarray:
    z, y, x = np.indices(GEOMETRY.shape)
    return ((z - 12) * 3.0) ** 2 + ((y - 24) * 2.0) ** 2 + ((x - 26) * 2.0) ** 2 <= 11.0**2


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scan with a ball, one without, and one that is no image; masks named like the scans."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "masks").mkdir()
    for name, ball in (("ball", True), ("none", False), ("broken", True)):
        image, organs = write_case(folder / name, ball=ball)
        image.rename(folder / f"{name}.nii.gz")
        organs.rename(folder / f"{name}-organs.nii.gz")
    (folder / "broken.nii.gz").write_bytes(b"no image")
    write_label_map(folder / "masks" / "ball.nii.gz", _true_ball().astype(np.uint8), GEOMETRY)
    write_label_map(folder / "masks" / "none.nii.gz", np.zeros(GEOMETRY.shape, np.uint8), GEOMETRY)
    two = _true_ball().astype(np.uint8)
    two[1:3, 10:14, 10:14] = 2
    write_label_map(folder / "masks" / "broken.nii.gz", two, GEOMETRY)
    return folder


@pytest.fixture(scope="module")
def batch(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The three cases run by the batch's own worker, in this process."""
    out = tmp_path_factory.mktemp("batch")
    cases = tuple(
        Case(
            image=str(data / f"{name}.nii.gz"),
            patient=f"secret-{name}",
            anchors=str(data / f"{name}-organs.nii.gz"),
            modality="CT",
        )
        for name in ("ball", "none", "broken")
    )
    journal = Journal(out / "journal.jsonl")
    for job in make_jobs(cases, "find a liver lesion", small_options(data, workspace=out, store="memory:")):
        row = run_job(job.model_copy(update={"options": job.options.model_copy(update={"workspace": out})}))
        journal.add(row)
    journal.close()
    return out


@pytest.fixture(scope="module")
def evaluation(batch: Path, data: Path) -> Evaluation:
    return evaluate_runs(batch, data / "masks", settings=WITH_SURFACE)


def test_a_batch_is_evaluated_with_its_failures(evaluation: Evaluation) -> None:
    a = evaluation.accounting
    assert (a.cases, a.patients, a.evaluated, a.bearing, a.lesion_free, a.lesions) == (3, 3, 2, 1, 1, 1)
    assert a.unanswered == ("case 3: failed, 2 lesions",)
    assert evaluation.figure("lesion.iou.sensitivity").value == 1.0
    assert evaluation.figure("lesion.iou.sensitivity.with_unanswered").value == pytest.approx(1 / 3)
    assert evaluation.figure("scan.sensitivity.with_unanswered").value == 0.5
    assert evaluation.methods
    assert "segmenter contrast (a stand-in)" in evaluation.methods[0]
    assert "no guarantee for this one" in evaluation.methods[0]
    assert evaluation.cases[0].surface is not None
    assert evaluation.figure("surface.hd95_mm").n == 1


def test_its_dice_is_that_of_the_report(evaluation: Evaluation, batch: Path) -> None:
    """`find --truth` computes it on its own."""
    from r2seg_agent.imaging.masks import read_label_map

    run = batch / "runs" / evaluation.cases[0].run_id
    report = Report.model_validate_json((run / "report.json").read_bytes())
    labels = read_label_map(run / "lesions.nii.gz", GEOMETRY)
    expected = evaluate(labels, _true_ball().astype(np.uint8), GEOMETRY)
    assert evaluation.figure("voxel.dice").value == pytest.approx(expected.dice)
    assert evaluation.cases[0].lesions[0].dice == pytest.approx(expected.lesions[0].dice)
    assert sum(not f.touches for f in evaluation.cases[0].findings) == len(expected.false_findings)
    listed = {c.id for t in report.targets for r in t.rounds for c in r.candidates}
    assert {c.id for c in evaluation.cases[0].candidates or ()} <= listed
    assert any(c.hits_iou == (1,) for c in evaluation.cases[0].candidates or ())


def test_the_files_hold_everything_and_no_path_of_the_user(evaluation: Evaluation, data: Path, tmp_path: Path) -> None:
    files = write_evaluation(evaluation, tmp_path)
    assert set(files) >= {"evaluation.md", "evaluation.json", "cases.csv", "lesions.csv", "dice_by_volume.png"}
    assert read_evaluation(tmp_path / "evaluation.json") == evaluation
    for name in ("evaluation.md", "evaluation.json", "cases.csv", "lesions.csv"):
        text = (tmp_path / name).read_text()
        assert str(data) not in text
        assert "secret" not in text
    assert "Research software" in (tmp_path / "evaluation.md").read_text()
    assert (tmp_path / "cases.csv").read_text().count("\n") == 4
    with pytest.raises(InputError, match="no evaluation"):
        read_evaluation(tmp_path / "cases.csv")


def test_workers_change_nothing(batch: Path, data: Path) -> None:
    once, again = (evaluate_runs(batch, data / "masks", settings=FAST, workers=n) for n in (1, 2))
    assert again == once


def test_parts_of_a_batch_are_one_and_a_case_done_again_counts_once(batch: Path, data: Path, tmp_path: Path) -> None:
    shutil.copytree(batch, tmp_path / "b")
    lines = (batch / "journal.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "b" / "journal.jsonl").unlink()
    (tmp_path / "b" / "journal-1of2.jsonl").write_text(lines[0] + lines[2])
    (tmp_path / "b" / "journal-2of2.jsonl").write_text(lines[1] + lines[1])
    assert read_runs(tmp_path / "b") == tuple(
        dataclasses.replace(case, folder=case.folder and tmp_path / "b" / "runs" / case.run_id)
        for case in read_runs(batch)
    )


def test_one_run_a_workspace_and_a_copy_without_artifacts(batch: Path, data: Path, tmp_path: Path) -> None:
    table = tmp_path / "truth.csv"
    table.write_text(f"image,truth\n{data}/ball.nii.gz,{data}/masks/ball.nii.gz\n{data}/none.nii.gz,{LESION_FREE}\n")
    run = next((batch / "runs").glob("*/lesions.nii.gz")).parent
    one = evaluate_runs(run, table, settings=FAST)
    assert one.accounting.cases == 1
    shutil.copytree(batch / "runs", tmp_path / "ws" / "runs")
    bare = evaluate_runs(tmp_path / "ws", table, settings=FAST)
    assert bare.accounting.cases == 2
    assert bare.accounting.without_candidates == 2
    assert bare.figure("lesion.iou.sensitivity").value == 1.0
    assert bare.figure("froc.iou.cpm").value is None
    assert bare.curves.froc_iou == ()


def test_truth_of_the_runs_themselves(data: Path, tmp_path: Path) -> None:
    image, organs = write_case(tmp_path / "x")
    case = Case(image=str(image), patient="p", anchors=str(organs), truth=str(data / "masks" / "ball.nii.gz"))
    job = make_jobs((case,), "find a liver lesion", small_options(tmp_path / "x", modality="CT", store="memory:"))[0]
    row = run_job(job)
    assert row.status == "done", row.error
    found = evaluate_runs(tmp_path / "x" / "ws", settings=FAST)
    assert found.figure("voxel.dice").value == pytest.approx(row.dice)


def test_a_truth_on_another_grid_costs_its_case_and_is_told(batch: Path, data: Path, tmp_path: Path) -> None:
    shutil.copytree(data / "masks", tmp_path / "masks")
    other = GEOMETRY.model_copy(update={"spacing_mm": (3.0, 1.0, 2.0)})
    write_label_map(tmp_path / "masks" / "ball.nii.gz", _true_ball().astype(np.uint8), other)
    found = evaluate_runs(batch, tmp_path / "masks", settings=FAST)
    assert found.accounting.evaluated == 1
    assert len(found.accounting.bad_truth) == 1
    assert "another grid" in found.accounting.bad_truth[0]
    assert "spacing" in found.accounting.bad_truth[0]
    assert str(tmp_path) not in found.model_dump_json()
    (tmp_path / "masks" / "none.nii.gz").unlink()
    (tmp_path / "masks" / "broken.nii.gz").unlink()
    with pytest.raises(InputError, match="another grid"):
        evaluate_runs(batch, tmp_path / "masks", settings=FAST)


def test_a_damaged_report_costs_its_case(batch: Path, data: Path, tmp_path: Path) -> None:
    shutil.copytree(batch, tmp_path / "b")
    rows = [row for row in read_rows(tmp_path / "b" / "journal.jsonl") if row.status == "done"]
    (tmp_path / "b" / "runs" / rows[0].run_id / "report.json").write_text("{}")
    found = evaluate_runs(tmp_path / "b", data / "masks", settings=FAST)
    assert found.accounting.unanswered[0] == "case 1: report unreadable, 1 lesions"
    (tmp_path / "b" / "runs" / rows[1].run_id / "report.json").unlink()
    with pytest.raises(RunFailedError, match="another version"):
        evaluate_runs(tmp_path / "b", data / "masks", settings=FAST)


def test_cases_without_truth_and_cases_that_were_not_run_are_listed(batch: Path, data: Path, tmp_path: Path) -> None:
    table = tmp_path / "truth.csv"
    table.write_text(f"image,truth\n{data}/ball.nii.gz,{data}/masks/ball.nii.gz\nunseen.nii.gz,{LESION_FREE}\n")
    found = evaluate_runs(batch, table, settings=FAST)
    assert len(found.accounting.no_truth) == 1
    assert found.accounting.not_run == ("unseen.nii.gz",)
    rest = evaluate_runs(batch, table, lesion_free="rest", settings=FAST)
    assert rest.accounting.lesion_free == 1
    (tmp_path / "free.txt").write_text("# no lesion\nnone.nii.gz\n")
    named = evaluate_runs(batch, table, lesion_free=str(tmp_path / "free.txt"), settings=FAST)
    assert named.accounting.lesion_free == 1


def test_folders_that_are_no_runs_are_refused_in_words(tmp_path: Path, batch: Path) -> None:
    with pytest.raises(InputError, match="there is no folder"):
        read_runs(tmp_path / "nowhere")
    with pytest.raises(InputError, match="is empty"):
        read_runs(tmp_path)
    (tmp_path / "photo.png").touch()
    with pytest.raises(InputError, match=r"neither journal\.jsonl"):
        read_runs(tmp_path)
    with pytest.raises(InputError, match="not a folder"):
        read_runs(tmp_path / "photo.png")
    (tmp_path / "journal.jsonl").touch()
    with pytest.raises(InputError, match="no finished case"):
        read_runs(tmp_path)
    with pytest.raises(InputError, match="none of the 3 cases has a truth"):
        evaluate_runs(batch, settings=FAST)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("image,mask\na,b\n", "no columns `image` and `truth`; it has: image, mask"),
        ("image,truth\n,b.nii\n", "line 2 has no `image`"),
        ("image,truth\na.nii,gone.nii\n", "line 2: the truth `gone.nii` does not exist"),
    ],
)
def test_tables_that_cannot_be_used_name_the_line(tmp_path: Path, content: str, told: str) -> None:
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(InputError) as raised:
        truth_source(tmp_path / "t.csv")
    assert told in raised.value.message


def test_truth_by_name(tmp_path: Path) -> None:
    for name in ("a.nii.gz", "b_seg.nrrd", "c.nii.gz", "c.nrrd"):
        (tmp_path / name).touch()
    source = truth_source(tmp_path)
    assert source.of("/x/a.nii.gz", None) == str(tmp_path / "a.nii.gz")
    assert source.of("/x/a_0000.nii.gz", None) == str(tmp_path / "a.nii.gz")
    assert source.of("/x/b.mha", None) == str(tmp_path / "b_seg.nrrd")
    assert source.of("/x/d.nii.gz", "own.nii.gz") == "own.nii.gz"
    with pytest.raises(InputError, match="fits several"):
        source.of("/x/c.mha", None)
    for bad, told in ((tmp_path / "gone", "does not exist"), (tmp_path / "a.nii.gz", "no table and no folder")):
        with pytest.raises(InputError, match=told):
            truth_source(bad)
    (tmp_path / "e").mkdir()
    with pytest.raises(InputError, match="is empty"):
        truth_source(tmp_path / "e")
    with pytest.raises(InputError, match="list of lesion-free scans"):
        truth_source(None, str(tmp_path / "gone.txt"))


def test_without_monai_it_stops_before_the_work(
    batch: Path, data: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def missing() -> None:
        raise MissingDependencyError("no MONAI")

    monkeypatch.setattr(evaluate_module, "require_monai", missing)
    with pytest.raises(MissingDependencyError):
        evaluate_runs(batch, data / "masks")
    assert evaluate_runs(batch, data / "masks", settings=FAST).figure("surface.pq").value is None


def test_the_command_writes_shows_and_compares(batch: Path, data: Path, tmp_path: Path) -> None:
    given = ["eval", str(batch), "--truth", str(data / "masks"), "--resamples", "100", "--no-surface", "-q"]
    result = CliRunner().invoke(app, [*given, "--out", str(tmp_path / "one")])
    assert result.exit_code == 0, result.output
    assert "1 without an answer" in result.output
    assert "lesions found (IoU)" in result.output
    assert "not a medical device" in result.output
    assert json.loads((tmp_path / "one" / "evaluation.json").read_text())["schema_version"] == "1"
    result = CliRunner().invoke(app, [*given, "--against", str(batch), "--out", str(tmp_path / "two")])
    assert result.exit_code == 0, result.output
    assert "minus" in result.output
    assert (tmp_path / "two" / "comparison.md").exists()
    assert (tmp_path / "two" / "side-by-side.md").exists()
    other = CliRunner().invoke(app, [*given, "--labels", "9", "--out", str(tmp_path / "three")])
    assert isinstance(other.exception, InputError)
    assert "no truth holds a voxel of the lesion value 9" in other.exception.message
    wrong = CliRunner().invoke(app, [*given, "--labels", "tumour"])
    assert isinstance(wrong.exception, InputError)
    assert "--labels tumour" in wrong.exception.message
