"""`r2seg calibrate --builtin`: phantoms like a scan, said in every result, refused where the scan is unlike them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.calibrated import REQUEST, calibrated_chat, said, small_calibration
from typer.testing import CliRunner

from r2seg_agent.batch.match_phantoms import match_cohort, organ_of
from r2seg_agent.cli.main import app
from r2seg_agent.errors import InputError
from r2seg_agent.imaging.geometry import Geometry
from r2seg_agent.imaging.volume import Volume
from r2seg_agent.imaging.write import write_label_map
from r2seg_agent.phantom import Acquisition, Scanner, make_phantom
from r2seg_agent.phantom.files import synthetic_nifti
from r2seg_agent.reject.calibration import Calibration, CaseScores, build_calibration, merge_calibrations
from r2seg_agent.reject.calibration_file import load_calibration
from r2seg_agent.reject.profile import ScanProfile

SPACING = (6.0, 6.0, 6.0)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Calibration:
    """99 cases without a profile, all below the ball."""
    return small_calibration(tmp_path_factory.mktemp("real"), 99)


def _synthetic(real: Calibration, profile: ScanProfile) -> Calibration:
    cases = [
        CaseScores(case=c.case, patient=c.patient, scores=c.scores, rounds=c.rounds, profile=profile)
        for c in real.cases
    ]
    return build_calibration(real.identity, cases, synthetic=True)


def _profile(real: Calibration, folder: Path) -> ScanProfile:
    with calibrated_chat(folder, real) as chat:
        said(chat, REQUEST)
        profile = chat.report().targets[0].profile
    assert profile is not None
    return profile


def test_every_result_says_that_the_cases_are_phantoms(real: Calibration, tmp_path: Path) -> None:
    with calibrated_chat(tmp_path / "b", _synthetic(real, _profile(real, tmp_path / "a"))) as chat:
        said(chat, REQUEST)
        report = chat.report()
    assert len(report.findings) == 1
    (caution,) = [c for c in report.warnings if c.kind == "synthetic_calibration"]
    assert "99 lesion-free cases are SYNTHETIC phantoms" in caution.text


def test_a_scan_unlike_the_phantoms_is_refused(real: Calibration, tmp_path: Path) -> None:
    profile = _profile(real, tmp_path / "a")
    noisy = profile.model_copy(update={"noise_sd": 5.0 * profile.noise_sd + 1.0})
    with (
        calibrated_chat(tmp_path / "b", _synthetic(real, noisy)) as chat,
        pytest.raises(InputError, match="phantoms are not like this scan: .* noise "),
    ):
        said(chat, REQUEST)


def test_phantoms_and_patients_are_never_one_calibration(real: Calibration, tmp_path: Path) -> None:
    phantoms = build_calibration(real.identity, [CaseScores(case="x", patient="x", scores=())], synthetic=True)
    with pytest.raises(InputError, match="SYNTHETIC phantoms and the other of patients"):
        merge_calibrations(real, phantoms)
    with pytest.raises(InputError, match="SYNTHETIC phantoms and the other of patients"):
        build_calibration(real.identity, [CaseScores(case="x", patient="x", scores=())], earlier=phantoms)


@pytest.mark.parametrize(
    ("anchors", "organ"), [(("liver",), "liver"), (("lung_left", "lung_right"), "lung"), (("kidney_left",), "kidney")]
)
def test_the_phantoms_organ_is_the_targets(anchors: tuple[str, ...], organ: str) -> None:
    assert organ_of(anchors) == organ


def test_what_no_phantom_can_be_like_is_refused() -> None:
    with pytest.raises(InputError, match="no phantoms for the anchors brain"):
        organ_of(("brain",))
    geometry = Geometry(shape=(1, 30, 30), spacing_mm=(1.0, 1.0, 1.0), origin_lps_mm=(0.0, 0.0, 0.0))
    slice_ = Volume(np.zeros((1, 30, 30), np.int16), geometry, modality="CT", unit="HU", name="slice")
    mask = np.ones((1, 30, 30), bool)
    with pytest.raises(InputError, match="this image is one slice"):
        match_cohort(slice_, mask, "liver", seed=0)
    volume = Geometry(shape=(3, 30, 30), spacing_mm=(1.0, 1.0, 1.0), origin_lps_mm=(0.0, 0.0, 0.0))
    mr = Volume(np.zeros((3, 30, 30), np.int16), volume, modality="MR", unit="arbitrary", name="mr")
    with pytest.raises(InputError, match="this image is no CT in HU"):
        match_cohort(mr, np.ones((3, 30, 30), bool), "liver", seed=0)


def test_it_is_one_or_the_other(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["calibrate", "--target", "liver lesion", "--out", str(tmp_path / "c.json")])
    assert isinstance(result.exception, InputError)
    assert "either `--cases` (lesion-free scans) or `--builtin`" in result.exception.message


@pytest.mark.slow
def test_from_a_scan_to_a_calibration(tmp_path: Path) -> None:
    acquisition = Acquisition(scanner=Scanner(noise_sd=15.0), phase="native", finest_mm=SPACING)
    scan = make_phantom(3, spacing_mm=SPACING, view="belly", acquisition=acquisition)
    (tmp_path / "scan.nii.gz").write_bytes(synthetic_nifti(scan.volume))
    names = {k: v for k, v in scan.class_names.items() if v in ("liver", "stomach")}
    kept = np.where(np.isin(scan.labels, list(names)), scan.labels, 0)
    write_label_map(tmp_path / "organs.nii.gz", kept, scan.volume.geometry, names=names)
    told = ["calibrate", "--builtin", str(tmp_path / "scan.nii.gz"), "--anchors", str(tmp_path / "organs.nii.gz")]
    told += ["--target", "liver lesion", "--segmenter", "contrast", "--score", "region", "--rounds", "1"]
    told += ["--phantoms", "2", "--out", str(tmp_path / "c.json"), "--workspace", str(tmp_path / "ws")]
    result = CliRunner().invoke(app, told)
    assert result.exit_code == 0, result.output
    made = load_calibration(tmp_path / "c.json")
    assert made.synthetic
    assert made.n_cases == 2
    assert made.identity.score == "region"
    assert all(len(case.scores) > 0 for case in made.cases)
    assert "2 SYNTHETIC lesion-free patients like `scan.nii.gz`: liver of" in " ".join(result.output.split())
