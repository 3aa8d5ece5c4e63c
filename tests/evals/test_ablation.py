"""`r2seg ablate` on four tiny scans: a batch per preset, tables, resuming, and what was forgotten."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from helpers.phantoms import phantom
from helpers.small_case import GEOMETRY, write_case

from r2seg_agent.batch.row import make_jobs
from r2seg_agent.cli.main import main
from r2seg_agent.datasets.case import Case
from r2seg_agent.errors import InputError
from r2seg_agent.evals.ablation import presets_named
from r2seg_agent.evals.ablation_models import Ablation, Forgetting, OrganState, WeightsState
from r2seg_agent.evals.ablation_tables import WORDS, forgetting_words
from r2seg_agent.evals.forgetting import weights_state
from r2seg_agent.imaging.itk import write_itk
from r2seg_agent.imaging.write import write_label_map
from r2seg_agent.method.presets import PARTS
from r2seg_agent.runs.options import RunOptions

TINY = Path(__file__).parents[1] / "data" / "tiny_totalseg"
PRESETS = "baseline,+roi,full"


class Ran(NamedTuple):
    status: int
    out: str
    err: str


def _r2seg(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Ran:
    monkeypatch.setattr(sys, "argv", ["r2seg", *arguments])
    try:
        main()
        status = 0
    except SystemExit as stop:
        status = int(stop.code or 0)
    return Ran(status, *capsys.readouterr())


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scans with a ball and two without, in a table of cases."""
    folder = tmp_path_factory.mktemp("cases")
    z, y, x = np.indices(GEOMETRY.shape)
    ball = ((z - 12) * 3.0) ** 2 + ((y - 24) * 2.0) ** 2 + ((x - 26) * 2.0) ** 2 <= 11.0**2
    rows = []
    for number, (seed, bearing) in enumerate([(2, True), (5, True), (7, False), (6, False)]):
        write_case(folder / str(number), ball=bearing, seed=seed)
        truth = (ball if bearing else np.zeros_like(ball)).astype(np.uint8)
        write_label_map(folder / str(number) / "truth.nii.gz", truth, GEOMETRY)
        rows.append([f"{number}/image.nii.gz", f"{number}/organs.nii.gz", f"{number}/truth.nii.gz::1", "CT"])
    with (folder / "cases.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["image", "anchors", "truth", "modality"], *rows])
    return folder / "cases.csv"


@pytest.mark.slow
def test_one_command_runs_every_step_and_goes_on_where_it_stopped(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ["ablate", str(table), "--out", str(out), "--segmenter", "contrast", "--presets", PRESETS]
    command += ["--request", "find a liver lesion"]
    first = _r2seg(capsys, monkeypatch, *command)
    assert first.status == 0, first.err
    assert {path.name for path in out.iterdir() if path.is_file()} >= {"ablation.json", "ablation.md", "ablation.png"}
    made = Ablation.model_validate_json((out / "ablation.json").read_bytes())
    assert [step.preset for step in made.steps] == ["baseline", "+roi", "full"]
    assert [(c.first, c.second, c.paired) for c in made.comparisons] == [("baseline", "+roi", 4), ("+roi", "full", 4)]
    false = [step.figure("lesion.overlap.fp_per_scan").value for step in made.steps]
    assert all(value is not None for value in false)
    assert false == sorted(false, key=lambda value: -(value or 0))
    assert [step.figure("lesion.overlap.sensitivity").value for step in made.steps] == [1.0, 1.0, 1.0]
    assert made.steps[-1].accounting.lesion_free == 2
    # The default search lists what ranks best, in a lesion-free scan too; see docs/evidence/finder.md.
    assert (made.steps[-1].figure("scan.specificity").value, made.steps[-1].figure("scan.specificity").n) == (0.0, 2)
    assert made.comparisons[0].difference("lesion.overlap.fp_per_scan").difference == (false[1] or 0) - (false[0] or 0)
    assert made.forgetting.same
    text = (out / "ablation.md").read_text(encoding="utf-8")
    for words in ("| step | Dice | Sens. | Spec. | Acc. | CA |", "Nothing was forgotten", "`full` − `+roi`"):
        assert words in text
    assert (out / "roi" / "artifacts").resolve() == (out / "artifacts").resolve()

    journal = out / "roi" / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:3]))
    before = {name: (out / name / "journal.jsonl").read_bytes() for name in ("baseline", "full")}
    again = _r2seg(capsys, monkeypatch, *command, "--quiet")
    assert again.status == 0
    assert len(journal.read_bytes().splitlines()) == 4
    assert before == {name: (out / name / "journal.jsonl").read_bytes() for name in before}
    assert (out / "ablation.json").read_bytes() == made.model_dump_json(indent=1).encode() + b"\n"

    other = _r2seg(capsys, monkeypatch, *command, "--seed", "3", "--quiet")
    assert other.status == 2
    assert "other cases or settings" in other.err


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--presets", "baseline,conformal"], "needs a calibration"),
        (["--presets", "+rois"], "there is no preset `+rois`; there are: baseline, +roi"),
        (["--presets", "+roi", "--calibration", "x.json"], "only the preset `conformal`"),
        (["--presets", "+roi"], "4 cases have no request"),
    ],
)
def test_what_cannot_be_run_is_told_at_once(
    table: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    extra: list[str],
    message: str,
) -> None:
    ran = _r2seg(capsys, monkeypatch, "ablate", str(table), "--out", str(tmp_path / "out"), *extra)
    assert ran.status == 2
    assert message in ran.err
    assert "→" in ran.err
    assert not (tmp_path / "out" / "roi").exists()


def test_all_presets_that_can_run_are_the_default() -> None:
    assert presets_named(None, calibrated=False) == ("baseline", "+roi", "+roi+reject", "+gates", "full")
    assert presets_named(None, calibrated=True)[-1] == "conformal"
    assert presets_named("full, baseline", calibrated=False) == ("baseline", "full"), "in the order of the ablation"
    with pytest.raises(InputError, match="no preset"):
        presets_named(" , ", calibrated=False)


@pytest.mark.slow
def test_organs_and_weights_are_the_same_before_and_after_a_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The real TotalSegmentator path with the tiny weights: located again each time, equal to the last bit."""
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(TINY))
    scan = phantom(200001, spacing_mm=(3.0, 2.0, 2.0), phase="venous")
    write_itk(tmp_path / "ct.nii.gz", scan.volume.array, scan.volume.geometry)
    write_label_map(tmp_path / "truth.nii.gz", np.zeros(scan.labels.shape, np.uint8), scan.volume.geometry)
    row = "ct.nii.gz,find a liver lesion,truth.nii.gz::1,CT"
    (tmp_path / "cases.csv").write_text(f"image,request,truth,modality\n{row}\n")
    out = tmp_path / "out"
    ran = _r2seg(
        capsys, monkeypatch, "ablate", str(tmp_path / "cases.csv"), "--out", str(out), "--segmenter", "contrast",
        "--anchors", "totalsegmentator:fastest", "--presets", "+roi", "--quiet",
    )  # fmt: skip
    assert ran.status == 0, ran.err
    made = Ablation.model_validate_json((out / "ablation.json").read_bytes())
    before, after = made.forgetting.before, made.forgetting.after
    assert before.anchors_sha256 is not None
    assert before.organs[0].volumes_ml["liver"] > 100
    assert before == after
    assert "1 of 1 label maps are equal to the last bit" in (out / "ablation.md").read_text(encoding="utf-8")


def test_a_changed_network_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hash is taken from the files each time, not from memory."""
    weights = tmp_path / "weights"
    for source in TINY.rglob("*"):
        if source.is_file():
            copy = weights / source.relative_to(TINY)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(source.read_bytes())
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(weights))
    options = RunOptions(anchors="totalsegmentator:fastest", segmenter="contrast")
    jobs = make_jobs((Case(image="x", patient="x", request="find a liver lesion"),), None, options)
    before = weights_state(jobs, scans=0)
    checkpoint = next(weights.rglob("checkpoint_final.pth"))
    data = bytearray(checkpoint.read_bytes())
    data[len(data) // 2] ^= 1
    checkpoint.write_bytes(bytes(data))
    after = weights_state(jobs, scans=0)
    assert before.anchors_sha256 != after.anchors_sha256
    assert "Something changed" in forgetting_words(Forgetting(before=before, after=after))


def test_a_changed_organ_is_told() -> None:
    state = WeightsState(
        segmenter="lite-medsam",
        segmenter_sha256="a" * 64,
        anchors="totalsegmentator",
        anchors_kind="model",
        anchors_sha256="b" * 64,
        organs=(OrganState(scan="c" * 64, labels_sha256="d" * 64, volumes_ml={"liver": 1500.0}),),
    )
    same = forgetting_words(Forgetting(before=state, after=state))
    assert "every organ's Dice of after with before is 1" in same
    other = state.model_copy(update={"organs": (state.organs[0].model_copy(update={"labels_sha256": "e" * 64}),)})
    changed = forgetting_words(Forgetting(before=state, after=other))
    assert "0 of 1 label maps" in changed
    assert "Dice" not in changed


def test_every_preset_has_its_words() -> None:
    assert set(WORDS) == set(PARTS)
