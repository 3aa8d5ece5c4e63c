"""A scan unlike its calibration's: the warning reaches report, terminal and trace, and the run stays verifiable."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.traced_runs import Case

from r2seg_agent.cli._answer import print_answer
from r2seg_agent.reject.calibration_file import load_calibration
from r2seg_agent.reject.profile import ScanProfile
from r2seg_agent.report.models import Report
from r2seg_agent.runs.api import FindResult
from r2seg_agent.trace.run import open_run
from r2seg_agent.trace.verify import verify_run


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(tmp_path_factory.mktemp("case"))


@pytest.fixture(scope="module")
def found(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """In paper mode: nobody judges by a calibration, the profile is measured all the same."""
    return case.find(tmp_path_factory.mktemp("ws")).report


def scans_like(profile: ScanProfile, *, smoother: float = 1.0, n: int = 39) -> list[ScanProfile]:
    """What a scanner of this profile would make of n patients; `smoother` scales the reach of its noise."""
    rng = np.random.default_rng(0)
    z, y, x = (smoother * f for f in profile.noise_fwhm_mm)
    made = []
    for _ in range(n):
        a, b = rng.lognormal(0, 0.1, 2)
        made.append(
            profile.model_copy(
                update={
                    "noise_sd": profile.noise_sd * a,
                    "anchor_mad": profile.anchor_mad * a,
                    "noise_fwhm_mm": (z * b, y * b, x * b),
                    "anchor_ml": profile.anchor_ml * rng.lognormal(0, 0.2),
                    "anchor_median": profile.anchor_median + rng.normal(0, 5),
                }
            )
        )
    return made


def told(result: FindResult, workspace: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """Everything that a person or a program reads of one run."""
    print_answer(result, quiet=False)
    return {
        "terminal": " ".join(capsys.readouterr().out.split()),
        "report.json": (result.folder / "report.json").read_text(encoding="utf-8"),
        "report.md": (result.folder / "report.md").read_text(encoding="utf-8"),
        "trace": open_run(workspace, result.folder.name).folder.trace.read_text(encoding="utf-8"),
    }


def test_every_report_has_the_profile_of_its_target(found: Report) -> None:
    profile = found.targets[0].profile
    assert profile is not None
    assert profile.noise_sd > 0
    assert profile.spacing_mm == (4.0, 4.0, 4.0)
    assert profile.anchor_ml == pytest.approx(found.targets[0].anchors_ml["liver"])
    assert all(one.profile is None for one in found.targets[0].rounds[1:])


def test_a_scan_unlike_the_calibrations_is_told_everywhere(
    case: Case, found: Report, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = found.targets[0].profile
    assert profile is not None
    finer = scans_like(profile, smoother=0.5)
    result = case.find_by_calibration(tmp_path / "ws", found, tmp_path / "c.json", finer)
    assert load_calibration(tmp_path / "c.json").profiles
    warnings = [warning.text for warning in result.report.warnings if warning.kind == "unlike_calibration"]
    assert ["in the plane" in text for text in warnings] == [True, False]
    assert all("higher than in all 39 lesion-free scans" in text for text in warnings)
    assert all("p-values may be too small" in text for text in warnings)
    for place, text in told(result, tmp_path / "ws", capsys).items():
        assert "noise correlation in the plane" in text, place
    assert all(check.passed for check in verify_run(open_run(tmp_path / "ws", result.folder.name)))


def test_a_scan_like_the_calibrations_is_not_warned_about(
    case: Case, found: Report, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = found.targets[0].profile
    assert profile is not None
    result = case.find_by_calibration(tmp_path / "ws", found, tmp_path / "c.json", scans_like(profile))
    for place, text in told(result, tmp_path / "ws", capsys).items():
        assert "unlike" not in text, place


def test_a_calibration_from_before_profiles_says_that_nobody_checked(case: Case, found: Report, tmp_path: Path) -> None:
    result = case.find_by_calibration(tmp_path / "ws", found, tmp_path / "c.json")
    assert any("holds no scan profiles" in warning.text for warning in result.report.warnings)
