"""Presets: each leaves out what it says, in the one graph, and says so; runs stay resumable, replayable, verifiable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.small_case import small_options, write_case

from r2seg_agent.errors import BudgetError, InputError
from r2seg_agent.graphs.referee import conversation_steps, verdict
from r2seg_agent.method.presets import LEFT_OUT, PARTS, Preset
from r2seg_agent.reject.gates import GateSettings
from r2seg_agent.report.models import Report
from r2seg_agent.runs.api import FindResult, open_chat, run_find, run_fork, run_resume
from r2seg_agent.runs.replay import replay_run
from r2seg_agent.runs.session import Session
from r2seg_agent.segment.contrast import ContrastSegmenter
from r2seg_agent.segment.protocol import Prompt
from r2seg_agent.tools.context import Budget
from r2seg_agent.tools.state import Turn
from r2seg_agent.trace.run import TracedRun, open_run
from r2seg_agent.trace.verify import verify_run

REQUEST = "find a liver lesion"
UNGATED: tuple[Preset, ...] = ("baseline", "+roi", "+roi+reject")


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("case")
    write_case(folder, seed=5)
    return folder


@pytest.fixture(scope="module")
def runs(case: Path) -> dict[Preset, FindResult]:
    return {preset: _find(case, preset) for preset in PARTS if preset != "conformal"}


def _find(case: Path, preset: Preset, **more: Any) -> FindResult:
    image = str(case / "image.nii.gz")
    return run_find(REQUEST, image, small_options(case, modality="CT", preset=preset, overlays=False, **more))


def _tools(run: TracedRun) -> list[str]:
    return [event.step for event in run.events if event.kind == "tool_call"]


def _boxes(report: Report) -> set[tuple[int, int, int]]:
    return {roi.box.shape for target in report.targets for one in target.rounds for roi in one.rois}


def test_each_step_keeps_no_more_than_the_one_before(runs: dict[Preset, FindResult]) -> None:
    kept = [len(result.report.findings) for result in runs.values()]
    assert kept == sorted(kept, reverse=True)
    assert kept[0] > kept[1] > kept[-1] > 0, "the whole image has noise that the organ's region has not"


def test_the_baseline_sees_the_whole_image_and_locates_nothing(case: Path, runs: dict[Preset, FindResult]) -> None:
    report = runs["baseline"].report
    assert _tools(open_run(case / "ws", report.run_id))[1:4] == ["build_rois", "segment_lesions", "reject_candidates"]
    assert report.image is not None
    assert _boxes(report) == {report.image.geometry.shape}
    assert report.targets[0].anchors_ml == {}
    assert report.anchor_source is not None
    assert report.anchor_source.kind == "none"
    assert "locate_organs" in _tools(open_run(case / "ws", runs["+roi"].report.run_id))


def test_where_nothing_is_tested_everything_is_reported_without_p_values(runs: dict[Preset, FindResult]) -> None:
    for preset in ("baseline", "+roi"):
        report = runs[preset].report
        candidates = [c for one in report.targets[0].rounds for c in one.candidates]
        assert len(report.findings) == len(candidates)
        assert all(c.p is None and c.q is None and c.gates == () and c.score is not None for c in candidates)
        assert report.reject is not None
        assert report.reject.mode == "none"
        assert not report.reject.valid


def test_the_test_alone_decides_without_gates_and_the_gates_with_them(case: Path) -> None:
    """Below 1 / (B + 1) no p-value is small enough, and no candidate has a cubic metre."""
    assert _find(case, "+roi", alpha=0.0005).report.outcome == "lesions_found"
    assert _find(case, "+roi+reject", alpha=0.0005).report.outcome == "no_lesion_survived"
    huge = GateSettings(min_volume_mm3=1e9)
    assert _find(case, "+roi+reject", gates=huge).report.outcome == "lesions_found"
    assert _find(case, "+gates", gates=huge).report.outcome == "no_lesion_survived"


def test_the_papers_gates_are_applied_without_ours(case: Path, runs: dict[Preset, FindResult]) -> None:
    def names(result: FindResult) -> set[str]:
        rounds = result.report.targets[0].rounds
        return {
            gate.name.split(".")[0] for one in rounds for c in one.candidates for gate in (*c.gates, *one.case_gates)
        }

    assert names(runs["+roi+reject"]) == set()
    assert names(runs["+gates"]) == {"L1", "L2"}
    assert names(_find(case, "full", reject="paper")) == {"L1", "L2", "ours"}
    gates = {gate.name for one in runs["full"].report.targets[0].rounds for c in one.candidates for gate in c.gates}
    assert gates <= {"ours.not_inside"}, "a learned score stands in place of the others"


@pytest.mark.parametrize("preset", LEFT_OUT)
def test_what_was_left_out_is_said(runs: dict[Preset, FindResult], preset: Preset) -> None:
    result = runs[preset]
    assert result.report.preset == preset
    assert any(LEFT_OUT[preset] in warning.text for warning in result.report.warnings)
    text = (result.folder / "report.md").read_text(encoding="utf-8")
    assert LEFT_OUT[preset] in text
    assert ("## Nothing was tested" in text) == (preset in ("baseline", "+roi"))
    assert ("No organ was located" in text) == (preset == "baseline")
    assert "overlay.png" not in text, "no picture was drawn, so none is linked"
    assert not (result.folder / "overlay.png").exists()


def test_the_trace_names_the_preset_and_every_preset_is_a_run_of_its_own(
    case: Path, runs: dict[Preset, FindResult]
) -> None:
    assert len({result.report.run_id for result in runs.values()}) == len(runs)
    for preset, result in runs.items():
        assert open_run(case / "ws", result.report.run_id).started.settings["preset"] == preset


def test_the_baseline_does_not_depend_on_anchors_or_rounds(case: Path, runs: dict[Preset, FindResult]) -> None:
    again = _find(case, "baseline", anchors="hounsfield", rounds=1)
    assert again.report.run_id == runs["baseline"].report.run_id


@pytest.mark.parametrize("preset", ["baseline", "+roi", "+gates"])
def test_runs_of_presets_are_verified_and_replayed(case: Path, runs: dict[Preset, FindResult], preset: Preset) -> None:
    run = open_run(case / "ws", runs[preset].report.run_id)
    assert [(check.name, check.problems) for check in verify_run(run) if not check.passed] == []
    replayed = replay_run(run)
    assert replayed.same, replayed.differences


@pytest.mark.parametrize("preset", ["baseline", "+roi+reject"])
def test_a_stopped_run_goes_on_with_its_preset(case: Path, tmp_path: Path, preset: Preset) -> None:
    opened: list[Session] = []

    def stop(session: Session) -> None:
        opened.append(session)
        session.context.stop.set()

    options = small_options(case, modality="CT", preset=preset, workspace=tmp_path, overlays=False)
    image = str(case / "image.nii.gz")
    with pytest.raises(BudgetError):
        run_find(REQUEST, image, options, opened=stop)
    resumed = run_resume(opened[0].id, tmp_path)
    whole = run_find(REQUEST, image, options.model_copy(update={"workspace": tmp_path / "other"}))
    assert (resumed.folder / "report.json").read_bytes() == (whole.folder / "report.json").read_bytes()
    fork = run_fork(opened[0].id, 3, tmp_path)
    assert fork.report.preset == preset


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "conformal"}, "needs a calibration"),
        ({"preset": "+roi", "reject": "paper"}, "settles how candidates are rejected"),
        ({"preset": "baseline", "reject": "score"}, "settles how candidates are rejected"),
        ({"preset": "+gates", "calibration": "x.json"}, "has no use for a calibration"),
    ],
)
def test_contradictions_are_told_before_any_work(case: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as told:
        run_find(REQUEST, str(case / "image.nii.gz"), small_options(case, modality="CT", **options))
    assert told.value.hint


def test_a_conversation_offers_no_tool_for_what_was_left_out(case: Path, tmp_path: Path) -> None:
    options = small_options(case, modality="CT", preset="baseline", workspace=tmp_path)
    with open_chat(str(case / "image.nii.gz"), options) as session:
        list(session.say(REQUEST))
        search, parts = session.search, session.context.parts
        assert any("findings for" in sentence for sentence in search.answer_sentences)
        names = {step.tool for step in conversation_steps(search, session.context.budget, parts)}
        assert not names & {"include_organs", "change_alpha", "widen_search"}
        assert {"describe_findings", "explain_candidate", "show_slices"} <= names
        list(session.say("why did you keep the first one?"))
        assert "Nothing was tested" in " ".join(session.search.answer_sentences)
        list(session.say("show me the first one"))
        assert not session.unfinished


def test_the_referees_step_follows_from_state_and_parts(case: Path, tmp_path: Path) -> None:
    options = small_options(case, modality="CT", workspace=tmp_path)
    with open_chat(str(case / "image.nii.gz"), options) as session:
        list(session.say(REQUEST))
        search = session.search.reset_target(0)
    search = search.model_copy(update={"turns": (Turn(index=1, text=REQUEST),)})
    for preset, tool in (("full", "locate_organs"), ("baseline", "build_rois"), ("+roi", "locate_organs")):
        (step,) = verdict(search, Budget(), parts=PARTS[preset]).steps  # type: ignore[index]
        assert step.tool == tool


def test_a_model_of_boxes_alone_is_asked_by_one_box_around_each_whole_slice(
    case: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Prompt] = []
    segment, info = ContrastSegmenter.segment, ContrastSegmenter().info

    def noted(self: ContrastSegmenter, encoded: Any, prompts: Any) -> Any:
        asked.extend(prompts)
        return segment(self, encoded, prompts)

    monkeypatch.setattr(ContrastSegmenter, "segment", noted)
    _find(case, "baseline", workspace=tmp_path / "a")
    assert [(prompt.box, prompt.mask) for prompt in asked] == [(None, None)]
    boxes = info.model_copy(update={"prompt_kinds": ("box", "mask")})
    monkeypatch.setattr(ContrastSegmenter, "info", property(lambda self: boxes))
    asked.clear()
    _find(case, "baseline", workspace=tmp_path / "b")
    (prompt,) = asked
    assert prompt.mask is None
    assert prompt.box is not None
    assert prompt.box.shape == (24, 48, 48)
    asked.clear()
    _find(case, "+roi", workspace=tmp_path / "b")
    assert all(prompt.box is None and prompt.mask is not None for prompt in asked)
