"""What is settled before a run works: models, scan, Reject step, and the identity that its id is made from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.small_case import GEOMETRY, small_options, write_case

from r2seg_agent.errors import InputError
from r2seg_agent.imaging.write import write_label_map
from r2seg_agent.method.presets import PARTS
from r2seg_agent.reason.anchors.whole_image import NoAnchors
from r2seg_agent.reject.calibration import CalibrationIdentity, CaseScores, build_calibration
from r2seg_agent.reject.calibration_file import save_calibration
from r2seg_agent.runs.loaded import LoadedModels
from r2seg_agent.runs.options import OPTIONS, PROCESS_OPTIONS, RunOptions
from r2seg_agent.runs.prepare import (
    HELD_OTHERWISE,
    RejectSetup,
    choose_models,
    prepare,
    read_scan,
    settle_reject,
    without_paths,
)
from r2seg_agent.segment.orientations import ThreeOrientations


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small case, with a truth."""
    folder = tmp_path_factory.mktemp("case")
    write_case(folder)
    truth = np.zeros(GEOMETRY.shape, np.uint8)
    truth[10:14, 22:26, 24:28] = 1
    write_label_map(folder / "truth.nii.gz", truth, GEOMETRY)
    return folder


@pytest.fixture(scope="module")
def calibration(folder: Path) -> Path:
    """A calibration whose score is not the default one."""
    models = choose_models(small_options(folder), PARTS["full"], LoadedModels())
    identity = CalibrationIdentity(
        segmenter=models.segmenter.info,
        anchor_source=models.source.info,
        anchors=("liver",),
        target="lesion",
        modality="CT",
        score="scan_radius",
    )
    cases = [CaseScores(case=f"{k:064x}", patient=str(k), scores=(float(k),)) for k in range(30)]
    save_calibration(build_calibration(identity, cases), folder / "calibration.json")
    return folder / "calibration.json"


def test_a_preset_without_regions_locates_no_organ(folder: Path) -> None:
    options = small_options(folder, preset="baseline", anchors="no-such-file")
    assert isinstance(choose_models(options, PARTS["baseline"], LoadedModels()).source, NoAnchors)
    with pytest.raises(InputError, match="no-such-file"):
        choose_models(options, PARTS["full"], LoadedModels())


@pytest.mark.data
def test_three_orientations_wrap_a_model_of_slices_and_make_another_run(folder: Path) -> None:
    once, thrice = (small_options(folder, segmenter="lite-medsam", modality="CT", orientations=n) for n in (1, 3))
    loaded, image = LoadedModels(), str(folder / "image.nii.gz")
    assert not isinstance(choose_models(once, PARTS["full"], loaded).segmenter, ThreeOrientations)
    assert isinstance(choose_models(thrice, PARTS["full"], loaded).segmenter, ThreeOrientations)
    ids = {prepare(image, options, models=loaded).run_id("find it") for options in (once, thrice)}
    assert len(ids) == 2


@pytest.mark.parametrize("given", ["scans/Doe", "scans/Doe/"])
def test_no_file_of_a_dicom_folder_is_named_in_a_trace(folder: Path, given: str) -> None:
    message = "The image series in `scans/Doe` cannot be used: `scans/Doe/a b/Jane.dcm` is empty."
    assert without_paths(message, given, small_options(folder)) == (
        "The image series in `(a file of the user)` cannot be used: `(a file of the user)` is empty."
    )


def test_models_that_are_loaded_are_not_loaded_again(folder: Path) -> None:
    loaded = LoadedModels()
    first, second = (choose_models(small_options(folder), PARTS["full"], loaded) for _ in range(2))
    assert first.segmenter is second.segmenter


def _settled(options: RunOptions) -> RejectSetup:
    parts, loaded = PARTS[options.preset], LoadedModels()
    return settle_reject(options, parts, loaded, choose_models(options, parts, loaded).segmenter)


@pytest.mark.parametrize(
    ("given", "calibrated", "mode", "score"),
    [
        ({}, False, "reference", "region"),
        ({"reject": "paper"}, False, "paper", "scan_statistic"),
        ({"score": "mmd2"}, False, "reference", "region"),
        ({"reject": "paper", "score": "mmd2"}, False, "paper", "mmd2"),
        ({"reject": "score", "score": "region"}, False, "score", "region"),
        ({}, True, "conformal", "scan_radius"),
        ({"reject": "paper"}, True, "paper", "scan_radius"),
        ({"reject": "score", "score": "mmd2"}, False, "score", "mmd2"),
        ({"preset": "+roi"}, False, "none", "segmenter_mass"),
        ({"preset": "+gates"}, False, "paper", "scan_statistic"),
        ({"preset": "conformal"}, True, "conformal", "scan_radius"),
    ],
)
def test_the_reject_step_follows_from_options_preset_and_calibration(
    folder: Path, calibration: Path, given: dict[str, Any], calibrated: bool, mode: str, score: str
) -> None:
    options = small_options(folder, alpha=0.1, **given, **({"calibration": calibration} if calibrated else {}))
    setup = _settled(options)
    assert (setup.reject.mode, setup.reject.score, setup.reject.alpha) == (mode, score, 0.1)
    assert (setup.calibration is not None) == calibrated
    assert setup.gates.ours == (options.preset != "+gates"), "the paper's gates come without our own"


def test_conformal_mode_needs_a_calibration(folder: Path) -> None:
    with pytest.raises(InputError, match="calibration"):
        _settled(small_options(folder, reject="conformal"))


def test_the_hint_for_a_missing_calibration_counts_patients_for_the_level_that_was_asked_for(folder: Path) -> None:
    with pytest.raises(InputError) as error:
        prepare(str(folder / "image.nii.gz"), small_options(folder, preset="conformal", alpha=0.01))
    assert "99 patients for alpha 0.01" in error.value.hint


def test_the_scan_is_read_with_its_truth_and_what_reports_say_of_it(folder: Path) -> None:
    options = small_options(folder, modality="CT", truth=str(folder / "truth.nii.gz"), synthetic=True)
    scan = read_scan(
        str(folder / "image.nii.gz"), options, choose_models(options, PARTS["full"], LoadedModels()), plans=()
    )
    assert scan.truth is not None
    assert scan.truth.shape == scan.volume.array.shape == GEOMETRY.shape
    assert scan.truth.sum() == 4**3
    assert (scan.info.modality, scan.info.synthetic) == ("CT", True)
    assert scan.info.geometry == scan.volume.geometry


def test_a_modality_that_does_not_exist_is_refused_with_those_that_do(folder: Path) -> None:
    options = small_options(folder, modality="XYZ")
    with pytest.raises(InputError, match="CT, MR"):
        read_scan(str(folder / "image.nii.gz"), options, choose_models(options, PARTS["full"], LoadedModels()), ())


def test_a_scan_is_not_judged_by_a_calibration_that_holds_it(folder: Path, calibration: Path, tmp_path: Path) -> None:
    plain = prepare(str(folder / "image.nii.gz"), small_options(folder, modality="CT", calibration=calibration))
    assert plain.calibration is not None
    own = CaseScores(case=plain.image.sha256, patient="own", scores=(1.0,))
    save_calibration(build_calibration(plain.calibration.identity, [*plain.calibration.cases, own]), tmp_path / "own")
    with pytest.raises(InputError, match="one of the calibration's own"):
        prepare(str(folder / "image.nii.gz"), small_options(folder, modality="CT", calibration=tmp_path / "own"))


CHANGES: Mapping[str, Any] = {
    "alpha": 0.1,
    "anchors": "hounsfield",
    "feature": "multiscale",
    "model_calls": 7,
    "modality": "MR",
    "planner": "openai:some-model",
    "preset": "+gates",
    "rounds": 1,
    "false_findings": "3",
    "score": "mmd2",
    "seed": 5,
    "synthetic": True,
    "tokens": 9,
}
SAME_SEARCH: Mapping[str, Any] = {
    "base_url": "http://localhost:1",
    "interactive": True,
    "mask_format": "same",
    "out": "elsewhere",
    "overlays": False,
    "seconds": 60.0,
    "share_images": True,
    "store": "postgresql://nowhere",
    "workspace": "another",
}


@pytest.mark.parametrize("name", CHANGES)
def test_an_option_that_can_change_the_result_changes_the_id(folder: Path, name: str) -> None:
    plain = small_options(folder, modality="CT", **({"reject": "score"} if name == "score" else {}))
    image = str(folder / "image.nii.gz")
    changed = prepare(image, plain.changed({name: CHANGES[name]}))
    assert changed.run_id("find it") != prepare(image, plain).run_id("find it")


def test_options_that_change_no_search_leave_the_id_as_it_is(folder: Path) -> None:
    plain = small_options(folder, modality="CT")
    image = str(folder / "image.nii.gz")
    assert prepare(image, plain.changed(SAME_SEARCH)).identity == prepare(image, plain).identity
    assert prepare(image, plain).run_id("find it") != prepare(image, plain).run_id("find that")


def test_the_identity_has_the_entries_that_ids_were_made_from_before(folder: Path) -> None:
    """Another entry for a run with default options would give every run a new id."""
    found = prepare(str(folder / "image.nii.gz"), small_options(folder, modality="CT")).identity
    models = {"image", "modality", "anchors", "segmenter", "calibration", "plans", "planner"}
    assert set(found) == models | {"r2seg", "preset", "reject", "gates", "budget", "seed", "synthetic"}


def test_every_option_is_held_by_the_identity_or_belongs_to_one_process() -> None:
    """All present options; one that is added later takes part by itself (tests/develop/test_add_an_option.py)."""
    assert HELD_OTHERWISE | PROCESS_OPTIONS == set(OPTIONS) == set(RunOptions.model_fields)
    assert not HELD_OTHERWISE & PROCESS_OPTIONS
