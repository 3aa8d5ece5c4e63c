"""Rows of docs/results.md, the baseline without Reason and Reject, and the demo where the weights cannot be had."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from r2seg_agent.errors import InputError, MissingDependencyError
from r2seg_agent.evals import demo
from r2seg_agent.evals.alone import alone
from r2seg_agent.evals.cases import CASES, DEMO, case_named
from r2seg_agent.evals.measure import Measured, run_measured, run_shown
from r2seg_agent.evals.results import HEADER, row
from r2seg_agent.imaging.write import write_label_map
from r2seg_agent.phantom import LesionSpec, make_phantom
from r2seg_agent.report.models import LesionTruth, TruthEvaluation
from r2seg_agent.segment.contrast import ContrastSegmenter
from r2seg_agent.segment.weights import weights_path

DONE = Measured(status=0, seconds=12.4, peak_gb=0.834, output="", cpu_seconds=20.6)
TRUTH = TruthEvaluation(
    dice=0.5,
    sensitivity=0.75,
    precision=None,
    lesions=(
        LesionTruth(label=1, volume_ml=1.0, finding=None, dice=0.0, sensitivity=0.0, precision=None),
        LesionTruth(label=2, volume_ml=2.0, finding=3, dice=0.875, sensitivity=0.9, precision=0.8),
    ),
    false_findings=(1, 2),
)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_row_has_the_columns_of_the_header() -> None:
    names = cells(HEADER.splitlines()[0])
    line = cells(row("lung1", "contrast", TRUTH, 4, 7, DONE))
    found = dict(zip(names, line, strict=True))
    assert found["voxel Dice"] == "0.50"
    assert found["precision"] == "–"
    assert found["lesion Dice"] == "0.88"
    assert found["its rank"] == "3"
    assert found["findings (false)"] == "4 (2)"
    assert (found["CPU s"], found["s"], found["peak GB"]) == ("21", "12", "0.83")


def test_without_a_lesion_every_finding_is_false_and_the_model_alone_has_no_ranks() -> None:
    names = cells(HEADER.splitlines()[0])
    healthy = dict(zip(names, cells(row("abdomen", "x", None, 5, 1, DONE)), strict=True))
    assert healthy["findings (false)"] == "5 (5)"
    assert healthy["lesion Dice"] == "no lesion there"
    bare = dict(zip(names, cells(row("lung1", "x alone", TRUTH, 4, None, DONE)), strict=True))
    assert (bare["its rank"], bare["rejected"]) == ("–", "–")


def test_alone_every_component_of_the_whole_image_is_a_finding(tmp_path: Path) -> None:
    """Not told where the liver is, the model marks all that is no fat or air; the lesion drowns in it."""
    phantom = make_phantom(11, spacing_mm=(4.0, 4.0, 4.0), lesions=(LesionSpec("liver", 12.0, -70.0),))
    truth = tmp_path / "truth.nrrd"
    write_label_map(truth, phantom.lesions[0].astype(np.uint8), phantom.volume.geometry)
    found = alone(phantom.volume, "find a liver lesion", ContrastSegmenter(), truth)
    assert found.truth is not None
    assert found.findings >= 1
    assert found.truth.precision is not None
    assert found.truth.precision < 0.2
    assert alone(phantom.volume, "find a liver lesion", ContrastSegmenter(), None).truth is None
    with pytest.raises(InputError, match="target"):
        alone(phantom.volume, "how are you?", ContrastSegmenter(), None)


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
