"""Conversations that a calibration judges: what they may not change, and what they say after a change."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.calibrated import REQUEST, calibrated_chat, said, small_calibration
from helpers.scripted import call, scripted_planner
from helpers.small_case import GEOMETRY, open_small_chat
from helpers.tool_runtime import runtime_of

from r2seg_agent.imaging.write import write_label_map
from r2seg_agent.reason.plan import AnatomyPlan, PlanSet
from r2seg_agent.reject.calibration import Calibration, CaseScores, build_calibration
from r2seg_agent.report.markdown import report_markdown
from r2seg_agent.tools import widen_search
from r2seg_agent.tools._runtime import ToolUseError
from r2seg_agent.trace.recorder import read_trace


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory) -> Calibration:
    """99 cases, of which 11 are above the ball in every round: its p is 0.12 in the first round, more in the others."""
    return small_calibration(tmp_path_factory.mktemp("beside"), 99, beaten=88)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Calibration:
    """99 cases, all below the ball."""
    return small_calibration(tmp_path_factory.mktemp("large"), 99)


def test_no_organ_comes_into_a_search_that_is_compared_with_other_scans(large: Calibration, tmp_path: Path) -> None:
    """The calibration's cases were not searched there, whoever asks for it."""
    with calibrated_chat(tmp_path, large) as chat:
        said(chat, REQUEST)
        assert len(chat.findings()) == 1
        with pytest.raises(ToolUseError, match="nothing can be included in conformal mode"):
            widen_search.func(target=1, include=["spleen"], runtime=runtime_of(chat))
        widen_search.func(target=1, runtime=runtime_of(chat))


@pytest.mark.parametrize(("mode", "taken"), [("score", False), ("paper", True)])
def test_a_model_is_not_asked_what_to_include_where_scans_are_compared(tmp_path: Path, mode: str, taken: bool) -> None:
    """`taken`: in paper mode the model's word counts."""
    plan, widen = call("plan_search", targets=["liver lesion"]), call("widen_search", target=1, include=["spleen"])
    gates = {"max_elongation": 1.0, "max_flatness": 1.0}
    with open_small_chat(tmp_path, scripted_planner(plan, widen, "done"), reject=mode, gates=gates) as chat:
        said(chat, REQUEST)
        target = chat.search.targets[0]
        assert len(target.rounds) > 1
        offered = [names for names in chat.planner.model.offered if "widen_search" in names and len(names) == 1]
        assert bool(offered) == taken
        second = chat.report().targets[0].rounds[1]
        assert ("spleen" in second.anchors) == taken


def test_a_level_that_is_chosen_after_p_was_seen_has_no_promise(beside: Calibration, tmp_path: Path) -> None:
    with calibrated_chat(tmp_path, beside) as chat:
        said(chat, REQUEST)
        before = chat.report().reject
        assert before is not None
        assert not chat.findings()
        assert (before.alpha, before.first_alpha, before.levels) == (0.05, None, ())
        answer = said(chat, "use alpha 0.2")
        assert "the promise speaks of the first" in answer
        assert "allows none below 1" in answer, "11 of 99 cases are above the scan in every round"
        assert len(chat.findings()) == 1
        report = chat.report()
        assert report.reject is not None
        assert (report.reject.alpha, report.reject.first_alpha, report.reject.valid) == (0.2, 0.05, True)
        assert [(level.turn, level.alpha, level.after_p) for level in report.reject.levels] == [(2, 0.2, True)]
        assert "chance of any finding with p at most 0.05 is at most 0.05" in report.reject.guarantee
        assert "level_changed" in {caution.kind for caution in report.warnings}
        chat.write()
        changed = [e for e in read_trace(chat.folder.trace) if e.step == "change_alpha" and e.kind == "tool_result"]
        traced = changed[0].data["result"]
        assert isinstance(traced, dict)
        assert (traced["before"], traced["first_alpha"], traced["after_p"]) == (0.05, 0.05, True)
        # Neither taking it back nor a branch from before it makes the p-values unseen.
        said(chat, "undo that")
        undone = chat.report().reject
        assert undone is not None
        assert (undone.alpha, undone.first_alpha, len(undone.levels)) == (0.05, None, 2)
        assert "was changed" not in undone.guarantee
        with chat.fork(turn=1) as fork:
            said(fork, "use alpha 0.3")
            forked = fork.report().reject
            assert forked is not None
            assert (forked.alpha, forked.first_alpha, forked.levels[-1].after_p) == (0.3, 0.05, True)


def test_a_level_that_is_chosen_before_any_p_is_the_promises(beside: Calibration, tmp_path: Path) -> None:
    with calibrated_chat(tmp_path, beside) as chat:
        said(chat, "use alpha 0.2")
        said(chat, REQUEST)
        assert len(chat.findings()) == 1
        reject = chat.report().reject
        assert reject is not None
        assert (reject.alpha, reject.first_alpha) == (0.2, None)
        assert [level.after_p for level in reject.levels] == [False]
        assert "chance of any false finding is at most 0.2 per target" in reject.guarantee


def test_a_scan_above_all_cases_may_be_called_at_a_level_chosen_later(large: Calibration, tmp_path: Path) -> None:
    with calibrated_chat(tmp_path, large) as chat:
        said(chat, REQUEST)
        reject = chat.report().reject
        assert reject is not None
        assert reject.e_value == pytest.approx(100 / 1.6350 / 2, rel=1e-3)
        assert "(30.6) allows 0.033 or more" in said(chat, "use alpha 0.04")


@pytest.mark.parametrize(("n", "rounds", "says"), [(19, 1, "that needs 59"), (59, 2, "that needs 79"), (79, 3, "")])
def test_rounds_that_can_find_nothing_are_not_searched(tmp_path: Path, n: int, rounds: int, says: str) -> None:
    """All cases are above the ball, so every round of the search is used."""
    calibration = small_calibration(tmp_path / "cases", n, beaten=0)
    with calibrated_chat(tmp_path / "judged", calibration) as chat:
        said(chat, REQUEST)
        report = chat.report()
    assert len(report.targets[0].rounds) == rounds
    assert report.reject is not None
    assert report.reject.rounds == rounds
    assert f"over up to {rounds} search round{'s' * (rounds > 1)} " in report.reject.guarantee
    told = [caution.text for caution in report.warnings if caution.kind == "rounds_not_searched"]
    assert bool(told) == bool(says)
    assert all(says in text for text in told)


def test_a_run_of_fewer_rounds_is_judged_by_a_calibration_of_more(large: Calibration, tmp_path: Path) -> None:
    with calibrated_chat(tmp_path, large, rounds=1) as chat:
        said(chat, REQUEST)
        assert chat.report().findings[0].p == 1 / 100
        assert "over up to 1 search round " in said(chat, "why did you keep finding 1?")


def test_every_promise_says_how_far_one_calibration_may_be_off(large: Calibration, tmp_path: Path) -> None:
    with calibrated_chat(tmp_path, large) as chat:
        said(chat, REQUEST)
        report = chat.write().report
        asked = said(chat, "why did you keep finding 1?")
    assert report.reject is not None
    assert report.reject.level_bound == pytest.approx(0.0901, abs=1e-4)
    words = "with 95 % confidence it is at most 0.0901 by this one"
    for text in (report.reject.guarantee, asked, report_markdown(report)):
        assert words in text
    assert "family-wise p" in report_markdown(report)


def test_a_wanted_confidence_lowers_what_p_must_reach(tmp_path: Path) -> None:
    calibration = small_calibration(tmp_path / "cases", 99, beaten=97)  # p = 3/100 in the first round
    with calibrated_chat(tmp_path / "mean", calibration, rounds=1) as chat:
        said(chat, REQUEST)
        assert len(chat.findings()) == 1
    with calibrated_chat(tmp_path / "sure", calibration, rounds=1, confidence=0.9) as chat:
        said(chat, REQUEST)
        assert not chat.findings()
        report = chat.report()
        assert report.reject is not None
        assert (report.reject.threshold, report.reject.confidence) == (0.02, 0.9)
        assert "holds for this calibration with 90 % confidence, so p must be at most 0.02" in report.reject.guarantee
        assert "above 0.02 (which holds alpha 0.05)" in said(chat, "why was the first one rejected?")
    with calibrated_chat(tmp_path / "few", small_calibration(tmp_path / "n44", 44), confidence=0.9) as chat:
        assert "that needs 45" in said(chat, REQUEST)


def test_of_several_targets_the_one_that_the_calibration_fits_is_searched(large: Calibration, tmp_path: Path) -> None:
    with calibrated_chat(tmp_path, large) as chat:
        said(chat, "find the liver lesion and the spleen lesion")
        assert [target.plan.target for target in chat.search.targets] == [large.identity.target]
        assert len(chat.findings()) == 1
        told = [caution.text for caution in chat.report().warnings if caution.kind == "target_without_calibration"]
        assert len(told) == 1
        assert told[0].startswith("Not searched: lesion of spleen.")
        assert "another set-up: target" in said(chat, "what about the spleen?")
        assert len(chat.findings()) == 1
        plans = (chat.search.targets[0].original_plan, _plan_of(tmp_path, "find the spleen lesion"))
    file = tmp_path / "plan.json"
    file.write_text(PlanSet(request="both", plans=plans).model_dump_json())
    with calibrated_chat(tmp_path / "file", large, plan=file) as chat:
        said(chat, "search")
        assert [target.plan.target for target in chat.search.targets] == [large.identity.target]
        assert "target_without_calibration" in {caution.kind for caution in chat.report().warnings}


def _plan_of(folder: Path, request: str) -> AnatomyPlan:
    with open_small_chat(folder / "other") as chat:
        said(chat, request)
        return chat.search.targets[0].original_plan


def test_other_organs_in_a_later_round_are_another_search(large: Calibration, tmp_path: Path) -> None:
    """The masks of this scan lack the neighbours around which the calibration's third rounds looked."""
    assert large.identity.round_anchors == (("liver",), ("liver",), ("liver", "stomach"))
    labels = np.zeros(GEOMETRY.shape, np.uint8)
    labels[2:-2, 6:-6, 6:-6] = 1
    alone = tmp_path / "liver.nii.gz"
    write_label_map(alone, labels, GEOMETRY, names={1: "liver"})
    with calibrated_chat(tmp_path, large, anchors=str(alone)) as chat:
        assert "organs of the search rounds" in said(chat, REQUEST)
        assert not chat.findings()
    with calibrated_chat(tmp_path, large, anchors=str(alone), rounds=2) as chat:
        said(chat, REQUEST)
        assert len(chat.findings()) == 1


def test_scores_of_another_version_of_the_method_are_not_compared(large: Calibration, tmp_path: Path) -> None:
    older = large.identity.model_copy(update={"method": "0"})
    cases = [CaseScores(case=f"c{i}", patient=f"p{i}", scores=(float(i),)) for i in range(19)]
    with calibrated_chat(tmp_path, build_calibration(older, cases)) as chat:
        assert "version of the method: the calibration has `0`" in said(chat, REQUEST)
