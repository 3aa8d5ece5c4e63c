"""The main job end to end on phantoms: found where something is, honest where nothing is, the same bytes twice."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import jsonschema
import numpy as np
import pytest
from helpers.phantoms import liver_phantom, phantom

import r2seg_agent
from r2seg_agent.errors import InputError
from r2seg_agent.imaging.itk import write_itk
from r2seg_agent.imaging.masks import read_label_map
from r2seg_agent.imaging.write import write_label_map
from r2seg_agent.method.presets import WHOLE_METHOD
from r2seg_agent.phantom import Phantom
from r2seg_agent.reject.calibration import CaseScores, build_calibration
from r2seg_agent.reject.calibration_file import save_calibration
from r2seg_agent.reject.gates import GateSettings
from r2seg_agent.reject.scores import score_named
from r2seg_agent.reject.settings import RejectSettings
from r2seg_agent.report.models import Report
from r2seg_agent.report.writers import report_schema
from r2seg_agent.runs.api import FindOptions, run_find
from r2seg_agent.runs.loaded import LoadedModels
from r2seg_agent.tools.context import Budget, Context
from r2seg_agent.trace.recorder import read_trace
from studies.widening import too_little_padding


class Case:
    """A phantom on disk: image, named organ masks, truth."""

    def __init__(self, folder: Path, phantom: Phantom) -> None:
        self.phantom = phantom
        self.image, self.organs, self.truth = folder / "ct.nii.gz", folder / "organs.nii.gz", folder / "truth.nii.gz"
        write_itk(self.image, phantom.volume.array, phantom.volume.geometry)
        write_label_map(self.organs, phantom.labels, phantom.volume.geometry, names=phantom.class_names)
        if phantom.lesions:
            write_label_map(self.truth, phantom.lesions[0].astype(np.uint8), phantom.volume.geometry)


@pytest.fixture(scope="module")
def with_lesion(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(tmp_path_factory.mktemp("lesion"), liver_phantom())


@pytest.fixture(scope="module")
def without_lesion(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(tmp_path_factory.mktemp("plain"), phantom(12, noise_sd=6.0))


def _options(case: Case, workspace: Path, **changes: object) -> FindOptions:
    values = {"anchors": str(case.organs), "workspace": workspace, "modality": "CT", "synthetic": True} | changes
    return FindOptions.model_validate(values)


@pytest.fixture(scope="module")
def found(with_lesion: Case, tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Path]:
    workspace = tmp_path_factory.mktemp("found")
    result = run_find(
        "find a liver lesion", str(with_lesion.image), _options(with_lesion, workspace, truth=str(with_lesion.truth))
    )
    assert result.exit_status == 0
    return result.report, result.folder


def test_the_lesion_is_found(found: tuple[Report, Path]) -> None:
    report, _ = found
    assert report.outcome == "lesions_found"
    assert report.truth is not None
    (lesion,) = report.truth.lesions
    assert lesion.dice > 0.7
    best = next(f for f in report.findings if f.number == lesion.finding)
    assert "liver" in best.measurements.place
    assert best.measurements.volume_ml == pytest.approx(12.0, rel=0.4)


def test_every_file_is_there_and_agrees_with_the_report(found: tuple[Report, Path], with_lesion: Case) -> None:
    report, folder = found
    names = {path.name for path in folder.iterdir()}
    assert {"lesions.nii.gz", "overlay.png", "plan.json", "report.json", "report.md", "trace.jsonl"} <= names
    assert Report.model_validate_json((folder / "report.json").read_bytes()) == report
    jsonschema.validate(json.loads((folder / "report.json").read_bytes()), report_schema())
    labels = read_label_map(folder / "lesions.nii.gz", with_lesion.phantom.volume.geometry)
    for finding in report.findings:
        assert np.count_nonzero(labels == finding.number) == finding.candidate.features.n_voxels


def test_what_it_says_is_honest(found: tuple[Report, Path]) -> None:
    report, folder = found
    assert report.reject is not None
    assert not report.reject.valid
    text = (folder / "report.md").read_text(encoding="utf-8")
    for words in ("not a medical device", "SYNTHETIC", "stand-in", "no guarantee"):
        assert words in text


def test_the_trace_tells_every_step_and_who_took_it(found: tuple[Report, Path]) -> None:
    events = read_trace(found[1] / "trace.jsonl")
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    taken = [event.step for event in events if event.kind == "tool_call" and event.data["taken_by"] == "referee"]
    assert taken == ["locate_organs", "build_rois", "segment_lesions", "reject_candidates", "measure_finding"]
    assert events[0].kind == "run_started"
    assert events[-1].data["outcome"] == "lesions_found"


def test_nothing_in_the_run_names_the_users_file(found: tuple[Report, Path], with_lesion: Case) -> None:
    folder = found[1]
    for name in ("trace.jsonl", "report.json", "report.md"):
        assert str(with_lesion.image.parent) not in (folder / name).read_text(encoding="utf-8")


def test_the_same_command_gives_the_same_bytes(found: tuple[Report, Path], with_lesion: Case, tmp_path: Path) -> None:
    options = _options(with_lesion, tmp_path, truth=str(with_lesion.truth))
    again = run_find("find a liver lesion", str(with_lesion.image), options)
    for name in ("lesions.nii.gz", "overlay.png", "plan.json", "report.json", "report.md"):
        assert (again.folder / name).read_bytes() == (found[1] / name).read_bytes(), name


def test_the_python_function_returns_the_typed_report(without_lesion: Case, tmp_path: Path) -> None:
    report = r2seg_agent.find(
        "find the prostate tumor",
        without_lesion.image,
        workspace=tmp_path,
        anchors=str(without_lesion.organs),
        modality="CT",
    )
    assert isinstance(report, r2seg_agent.Report)
    assert report.outcome == "target_not_in_view"


def test_no_candidate_survives_any_round(without_lesion: Case, tmp_path: Path) -> None:
    """With a gate that nothing can pass the loop widens through its ladder and stops, with all the evidence."""
    options = _options(without_lesion, tmp_path, reject="paper", gates={"min_contrast": 1000.0})
    result = run_find("find a liver lesion", str(without_lesion.image), options)
    assert result.exit_status == 0
    (target,) = result.report.targets
    assert target.outcome == "no_lesion_survived"
    assert len(target.rounds) >= 2
    assert [r.index for r in target.rounds] == list(range(1, len(target.rounds) + 1))
    assert target.rounds[1].padding_mm > target.rounds[0].padding_mm
    for one in target.rounds:
        assert one.rois
        for candidate in one.candidates:
            assert candidate.decision == "rejected"
            assert candidate.p is not None
            assert candidate.cause != "none"
    assert "not proof of absence" in target.answer


def test_a_plan_with_too_little_padding_finds_the_lesion_by_widening(tmp_path: Path) -> None:
    """The anchor is a landmark beside the lesion: its own box misses the lesion, the widened one holds it."""
    report = too_little_padding(tmp_path)
    (target,) = report.targets
    first, second = target.rounds
    assert not first.survivors
    assert all(first.rois[0].box != roi.box for roi in second.rois)
    assert report.truth is not None
    assert report.truth.lesions[0].dice > 0.8


def test_an_organ_out_of_view_is_named_with_what_is_in_view(without_lesion: Case, tmp_path: Path) -> None:
    labels = without_lesion.phantom.labels.copy()
    names = without_lesion.phantom.class_names
    labels[labels == next(k for k, v in names.items() if v == "pancreas")] = 0
    write_label_map(tmp_path / "organs.nii.gz", labels, without_lesion.phantom.volume.geometry, names=names)
    options = _options(without_lesion, tmp_path / "ws", anchors=str(tmp_path / "organs.nii.gz"))
    result = run_find("find the pancreatic lesion", str(without_lesion.image), options)
    assert result.report.outcome == "target_not_in_view"
    assert result.exit_status == 0
    assert "liver" in result.report.answer


def test_a_request_that_cannot_be_mapped_asks_back(without_lesion: Case, tmp_path: Path) -> None:
    result = run_find("find the flux capacitor", str(without_lesion.image), _options(without_lesion, tmp_path))
    assert result.report.outcome == "needs_user"
    assert result.exit_status == 2
    assert result.report.choices


def test_two_targets_are_searched_one_after_the_other(with_lesion: Case, tmp_path: Path) -> None:
    report = run_find(
        "any lesions in the liver or the spleen?", str(with_lesion.image), _options(with_lesion, tmp_path)
    ).report
    assert [t.plan.site for t in report.targets] == ["liver", "spleen"]
    assert [f.number for f in report.findings] == list(range(1, len(report.findings) + 1))


def test_a_time_budget_ends_in_a_resumable_way(with_lesion: Case, tmp_path: Path) -> None:
    stopped = run_find("find a liver lesion", str(with_lesion.image), _options(with_lesion, tmp_path, seconds=0.0))
    assert stopped.report.outcome == "budget_exhausted"
    assert stopped.exit_status == 4
    again = run_find("find a liver lesion", str(with_lesion.image), _options(with_lesion, tmp_path))
    assert again.report.outcome == "lesions_found"


@pytest.mark.parametrize("alpha", [0.0, 1.0, -1.0])
def test_alpha_must_be_a_level(with_lesion: Case, tmp_path: Path, alpha: float) -> None:
    with pytest.raises(InputError, match="alpha"):
        run_find("find a liver lesion", str(with_lesion.image), _options(with_lesion, tmp_path, alpha=alpha))


def _calibration(case: Case, report: Report, path: Path, scores: list[float], **changes: object) -> Path:
    """Lesion-free cases with these largest scores, for exactly the set-up of `report`."""
    plan = report.targets[0].plan
    masks = LoadedModels().anchor_source(str(case.organs))
    context = SimpleNamespace(
        anchor_source=masks,
        findable_neighbours=lambda plan: tuple(organ for organ in plan.neighbours if organ in masks.organs("CT")),
        segmenter=SimpleNamespace(info=report.segmenter),
        reject=RejectSettings(mode="conformal"),
        budget=Budget(),
        gates=GateSettings(),
        parts=WHOLE_METHOD,
    )
    identity = Context.calibration_identity(context, plan).model_copy(update=changes)  # type: ignore[arg-type]
    cases = [CaseScores(case=f"case {i}", patient=f"patient {i}", scores=(s,)) for i, s in enumerate(scores)]
    save_calibration(build_calibration(identity, cases), path)
    return path


def test_conformal_mode_judges_by_a_matching_calibration(
    found: tuple[Report, Path], with_lesion: Case, tmp_path: Path
) -> None:
    features = found[0].findings[0].candidate.features
    score = score_named(RejectSettings().score)(features, 0.0)
    weak = _calibration(with_lesion, found[0], tmp_path / "weak.json", [score * i / 100 for i in range(39)])
    strong = _calibration(with_lesion, found[0], tmp_path / "strong.json", [1e9] * 39)  # above all
    options = _options(with_lesion, tmp_path / "ws", reject="conformal", calibration=weak)
    kept = run_find("find a liver lesion", str(with_lesion.image), options).report
    assert kept.reject is not None
    assert kept.reject.valid
    assert "39 lesion-free" in kept.reject.guarantee
    assert kept.findings[0].candidate.p == pytest.approx(1 / 40)
    assert not any("not FDR-valid" in warning.text for warning in kept.warnings)
    again = run_find(
        "find a liver lesion", str(with_lesion.image), options.model_copy(update={"calibration": strong})
    ).report
    assert again.outcome == "no_lesion_survived"
    assert again.targets[0].rounds[0].candidates[0].p == 1.0


def test_a_calibration_of_another_set_up_is_refused_before_long_work(
    found: tuple[Report, Path], with_lesion: Case, tmp_path: Path
) -> None:
    other = _calibration(with_lesion, found[0], tmp_path / "mr.json", [1.0] * 39, modality="MR")
    options = _options(with_lesion, tmp_path / "ws", reject="conformal", calibration=other)
    with pytest.raises(InputError, match="modality"):
        run_find("find a liver lesion", str(with_lesion.image), options)
    assert not list((tmp_path / "ws" / "artifacts").glob("??/*.npy"))


def test_conformal_mode_without_a_calibration_says_what_to_do(with_lesion: Case, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="calibration"):
        run_find("find a liver lesion", str(with_lesion.image), _options(with_lesion, tmp_path, reject="conformal"))
