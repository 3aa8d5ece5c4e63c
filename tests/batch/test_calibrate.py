"""From lesion-free scans to valid p-values: `r2seg calibrate`, then `r2seg find --calibration`."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.small_case import small_options, write_case
from typer.testing import CliRunner

from r2seg_agent.batch.calibrate import Calibrated, run_calibration
from r2seg_agent.cli.main import app
from r2seg_agent.datasets.case import Case
from r2seg_agent.datasets.read import read_cases
from r2seg_agent.errors import InputError
from r2seg_agent.reject.calibration_file import load_calibration, save_calibration
from r2seg_agent.runs.api import run_find
from r2seg_agent.runs.options import RunOptions

TARGET = "liver lesion"
CASES = 19


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> tuple[Case, ...]:
    folder = tmp_path_factory.mktemp("scans")
    made = []
    for seed in range(100, 100 + CASES):
        image, organs = write_case(folder / str(seed), ball=False, seed=seed)
        made.append(Case(image=str(image), patient=f"patient-{seed}", anchors=str(organs), modality="CT"))
    return tuple(made)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("calibration")


@pytest.fixture(scope="module")
def made(scans: tuple[Case, ...], workspace: Path) -> Calibrated:
    return run_calibration(TARGET, scans, RunOptions(segmenter="contrast", workspace=workspace))


@pytest.fixture(scope="module")
def file(made: Calibrated, workspace: Path) -> Path:
    save_calibration(made.calibration, workspace / "liver.json")
    return workspace / "liver.json"


@pytest.mark.slow
def test_every_round_of_every_case_is_scored_and_nothing_is_decided(made: Calibrated, scans: tuple[Case, ...]) -> None:
    assert made.calibration.n_cases == CASES
    assert not made.left_out
    assert made.calibration.identity.rounds == 3
    assert max(made.candidates) > 0
    assert "patient-1" not in made.calibration.model_dump_json()


@pytest.mark.slow
def test_a_lesion_survives_and_a_lesion_free_scan_does_not(file: Path, tmp_path: Path) -> None:
    """Nineteen cases serve alpha 0.05: the lesion's score must exceed all of them."""
    write_case(tmp_path / "lesion")
    options = small_options(tmp_path / "lesion", modality="CT", calibration=file)
    found = run_find(f"find a {TARGET}", str(tmp_path / "lesion" / "image.nii.gz"), options).report
    assert found.reject is not None
    assert (found.reject.mode, found.reject.valid) == ("conformal", True)
    assert found.outcome == "lesions_found"
    assert found.findings[0].candidate.p == 1 / (CASES + 1)
    write_case(tmp_path / "free", ball=False, seed=7)
    options = small_options(tmp_path / "free", modality="CT", calibration=file)
    free = run_find(f"find a {TARGET}", str(tmp_path / "free" / "image.nii.gz"), options).report
    assert free.outcome == "no_lesion_survived"


@pytest.mark.slow
def test_a_scan_of_the_calibration_is_not_judged_by_it(file: Path, scans: tuple[Case, ...], tmp_path: Path) -> None:
    case = scans[0]
    options = RunOptions(
        segmenter="contrast", workspace=tmp_path, modality="CT", anchors=str(case.anchors), calibration=file
    )
    with pytest.raises(InputError, match="own lesion-free cases"):
        run_find(f"find a {TARGET}", case.image, options)


@pytest.mark.slow
def test_cases_are_added_over_time_and_none_twice(made: Calibrated, scans: tuple[Case, ...], workspace: Path) -> None:
    options = RunOptions(segmenter="contrast", workspace=workspace)
    part = run_calibration(TARGET, scans[:10], options)
    whole = run_calibration(TARGET, scans, options, earlier=part.calibration)
    assert whole.calibration == made.calibration
    assert len(whole.left_out) == 10
    assert "already" in whole.left_out[0].why


@pytest.mark.slow
def test_a_case_that_cannot_be_used_is_named_and_left_out(
    scans: tuple[Case, ...], workspace: Path, tmp_path: Path
) -> None:
    (tmp_path / "broken.nii.gz").write_bytes(b"no scan")
    bad = Case(image=str(tmp_path / "broken.nii.gz"), patient="x")
    mixed = run_calibration(TARGET, [bad, scans[0]], RunOptions(segmenter="contrast", workspace=workspace))
    assert mixed.calibration.n_cases == 1
    assert mixed.left_out[0].case == bad
    with pytest.raises(InputError, match="no case could be scored"):
        run_calibration(TARGET, [bad], RunOptions(workspace=workspace))


@pytest.mark.slow
def test_cases_of_another_set_up_are_refused(scans: tuple[Case, ...], workspace: Path) -> None:
    other = scans[1].model_copy(update={"modality": "MR"})
    with pytest.raises(InputError, match="another set-up"):
        run_calibration(TARGET, [scans[0], other], RunOptions(segmenter="contrast", workspace=workspace))


def test_the_command_says_what_the_calibration_can_give(scans: tuple[Case, ...], tmp_path: Path) -> None:
    table = tmp_path / "cases.csv"
    rows = [f"{case.image},{case.patient},{case.anchors},CT" for case in scans[:3]]
    table.write_text("\n".join(["image,patient,anchors,modality", *rows]) + "\n")
    out = tmp_path / "made" / "liver.json"
    given = ["--target", TARGET, "--out", str(out), "--segmenter", "contrast", "--workspace", str(tmp_path / "ws")]
    result = CliRunner().invoke(app, ["calibrate", "--cases", str(table), *given, "--quiet"])
    assert result.exit_code == 0, result.output
    assert "smallest p that it can give is 0.25" in result.output
    assert "16 more" in result.output
    assert load_calibration(out).n_cases == 3


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("cases.csv", "picture\nx.nii.gz\n", "no `image`"),
        ("cases.csv", "image\nmissing.nii.gz\n", "line 2: the scan"),
        ("cases.csv", "image\n", "holds no case"),
        ("cases.jsonl", "not json\n", "line 1 is not JSON"),
        ("cases.txt", "image\n", "no list of cases"),
    ],
)
def test_a_bad_table_is_named_with_its_line(
    scans: tuple[Case, ...], tmp_path: Path, name: str, text: str, says: str
) -> None:
    (tmp_path / name).write_text(text.replace("{image}", scans[0].image))
    with pytest.raises(InputError, match=says):
        read_cases(tmp_path / name)


def test_a_folder_lists_its_scans(tmp_path: Path) -> None:
    for name in ("b.nii.gz", "a.nrrd", "notes.txt", ".hidden.nii"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "series").mkdir()
    (tmp_path / "series" / "1").write_bytes(b"")
    assert [Path(case.image).name for case in read_cases(tmp_path)] == ["a.nrrd", "b.nii.gz", "series"]


@pytest.mark.slow
def test_neither_workers_nor_order_nor_a_stop_change_a_byte(
    scans: tuple[Case, ...], workspace: Path, tmp_path: Path
) -> None:
    """The first workspace has done all of them before, one after the other."""
    one = run_calibration(TARGET, scans[:6], RunOptions(segmenter="contrast", workspace=workspace))
    options = RunOptions(segmenter="contrast", workspace=tmp_path / "ws")
    assert run_calibration(TARGET, scans[4:6], options).calibration.n_cases == 2
    both = run_calibration(TARGET, scans[5::-1], options, workers=2)
    for made, name in ((one, "one"), (both, "both")):
        save_calibration(made.calibration, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "both").read_bytes()
    assert len((tmp_path / "ws" / "journal.jsonl").read_text().splitlines()) == 6


@pytest.mark.slow
def test_a_case_whose_truth_holds_a_lesion_is_left_out(scans: tuple[Case, ...], tmp_path: Path) -> None:
    image, organs = write_case(tmp_path / "bearing", seed=3)
    bearing = Case(image=str(image), patient="x", anchors=str(organs), modality="CT", truth=f"{organs}::3")
    free = scans[0].model_copy(update={"truth": f"{scans[0].anchors}::77"})
    options = RunOptions(segmenter="contrast", workspace=tmp_path / "ws")
    made = run_calibration(TARGET, [bearing, free], options)
    assert made.calibration.n_cases == 1
    assert [(one.case, one.why) for one in made.left_out] == [(bearing, "its truth holds a lesion")]
