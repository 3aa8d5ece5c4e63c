"""The conversation tools: what they return, what they say, and what they refuse with the legal choices."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.small_case import open_small_chat
from helpers.tool_runtime import runtime_of
from langgraph.types import Command
from PIL import Image

from r2seg_agent.reason.anchors.masks import MaskSource
from r2seg_agent.reject.calibration import CaseScores, build_calibration
from r2seg_agent.reject.gates import GateSettings
from r2seg_agent.reject.settings import ModeGuarantee, RejectSettings
from r2seg_agent.runs.session import Session
from r2seg_agent.segment.features import prominence
from r2seg_agent.tools import (
    ask_which,
    change_alpha,
    describe_findings,
    explain_candidate,
    include_organs,
    locate_finding,
    show_slices,
    summarize_session,
    undo_turn,
)
from r2seg_agent.tools._runtime import ToolUseError
from r2seg_agent.tools.decision_words import kept_because, rejected_because
from r2seg_agent.tools.lookup import all_findings, rejected_candidates, rounds_of
from r2seg_agent.tools.referents import table_of
from r2seg_agent.tools.state import SearchState, Turn, load_search, next_round


def _open(folder: Path, **more: Any) -> Session:
    session = open_small_chat(folder, **more)
    for _ in session.say("find the liver lesion"):
        pass
    return session


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """Two findings, nothing rejected."""
    with _open(tmp_path_factory.mktemp("found")) as session:
        yield session


@pytest.fixture(scope="module")
def rejected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """Nothing found, all candidates rejected by gates."""
    gates = GateSettings(max_elongation=1.0, max_flatness=1.0)
    with _open(tmp_path_factory.mktemp("rejected"), gates=gates) as session:
        yield session


def _after(command: Command[Any]) -> SearchState:
    assert isinstance(command.update, dict)
    return load_search(command.update)  # type: ignore[arg-type]  # an update holds what the state holds


def _said(command: Command[Any]) -> str:
    return _after(command).answer_sentences[-1]


def _content(command: Command[Any]) -> str:
    assert isinstance(command.update, dict)
    return str(command.update["messages"][0].content)


def test_sizes_are_told_with_their_units_and_one_finding_becomes_it(found: Session) -> None:
    command = describe_findings.func(findings=[2], runtime=runtime_of(found))
    finding = all_findings(found.context, found.search)[1].measurements
    assert f"{finding.longest_diameter:.1f} × {finding.perpendicular_diameter:.1f} mm" in _said(command)
    assert " ml, " in _said(command)
    assert " HU; " in _said(command)
    assert _after(command).focus == 2


def test_all_findings_are_told_together_with_what_there_is_besides(found: Session) -> None:
    command = describe_findings.func(runtime=runtime_of(found))
    assert _said(command).startswith("There are 2 findings. Finding 1")
    assert "Together they hold" in _said(command)
    assert _said(command).endswith("Nothing else was proposed.")
    assert _after(command).focus is None


def test_a_place_is_told_in_patient_terms_and_millimetres(found: Session) -> None:
    said = _said(locate_finding.func(finding=1, runtime=runtime_of(found)))
    x, y, z = all_findings(found.context, found.search)[0].measurements.centroid_lps_mm
    assert f"x {x:.1f}, y {y:.1f}, z {z:.1f} mm (LPS" in said
    assert "axial slice 13 of 24" in said


def test_a_slice_has_one_number_wherever_it_is_told(found: Session) -> None:
    """Sentence, tool result, picture, table and mask: 1-based, and that of the longest diameter."""
    for finding in all_findings(found.context, found.search):
        index = finding.measurements.diameter_slice
        where = locate_finding.func(finding=finding.number, runtime=runtime_of(found))
        shown = show_slices.func(finding=finding.number, runtime=runtime_of(found))
        assert f"axial slice {index + 1} of 24" in _said(where)
        assert f"axial slice {index + 1} of 24" in _said(shown)
        assert f'"slice":{index + 1},' in _content(shown).replace(" ", "")
        assert f'"slice":{index + 1}}}' in _content(where).replace(" ", "")
        assert [row.slice for row in found.report().rows() if row.finding == finding.number] == [index + 1]


def test_a_kept_candidate_is_explained_without_calling_q_an_error_rate(found: Session) -> None:
    for name in ("finding 1", all_findings(found.context, found.search)[0].candidate.id):
        command = explain_candidate.func(candidate=name, runtime=runtime_of(found))
        assert "was kept in round 1" in _said(command)
        assert "(not FDR-valid), at most alpha 0.05" in _said(command)
        assert "p =" not in _said(command)
        assert '"valid":false' in _content(command)
        assert _after(command).focus == 1


def test_rejected_candidates_are_counted_most_prominent_first_everywhere(rejected: Session) -> None:
    ordered = rejected_candidates(rejected.context, rejected.search)
    assert [prominence(c.features) for c in ordered] == sorted((prominence(c.features) for c in ordered), reverse=True)
    assert [c.id for c in ordered] == [c.id for c in rejected.rejected()]
    assert [row.id for row in table_of(rejected.search, rejected.context.store).rejected] == [c.id for c in ordered]
    for number, candidate in enumerate(ordered, start=1):
        command = explain_candidate.func(candidate=f"rejected {number}", runtime=runtime_of(rejected))
        assert f'"candidate":"{candidate.id}"' in _content(command)
        assert _said(command).startswith(f"Rejected candidate {number} (liver, ")


def test_a_rejection_names_every_gate_that_failed_and_proves_nothing(rejected: Session) -> None:
    said = _said(explain_candidate.func(candidate="rejected 1", runtime=runtime_of(rejected)))
    assert "long, like a vessel (" in said
    assert "gate ours.elongation" in said
    assert "also flat, like a rim" in said
    assert said.endswith("A rejection is no proof that it is harmless.")


def test_all_rejected_ones_are_explained_by_their_reasons(rejected: Session) -> None:
    command = explain_candidate.func(candidate="rejected", runtime=runtime_of(rejected))
    n = len(rejected_candidates(rejected.context, rejected.search))
    assert _said(command).startswith(f"{n} candidates were rejected: {n} because: long, like a vessel.")


def test_a_p_is_family_wise_where_a_calibration_judged_and_is_not_told_elsewhere(rejected: Session) -> None:
    one = rounds_of(rejected.context.store, rejected.search.targets[0])[-1]
    candidate = one.candidates[0].model_copy(
        update={"gates": (), "cause": "test", "failed_gate": None, "p": 0.1, "q": 0.2, "decision": "rejected"}
    )
    valid = ModeGuarantee(mode="conformal", guarantee="The chance of any false finding is at most 0.05.", valid=True)
    unsure = ModeGuarantee(mode="paper", guarantee="", valid=False)
    by_calibration = candidate.model_copy(update={"q": None})
    assert ": family-wise p = 0.100, above alpha 0.05" in rejected_because(by_calibration, one, valid, 0.05, "liver")
    stricter = valid.model_copy(update={"threshold": 0.02})
    words = rejected_because(by_calibration, one, stricter, 0.05, "liver")
    assert "above 0.02 (which holds alpha 0.05)" in words
    assert "q = 0.200 (not FDR-valid), above alpha 0.05" in rejected_because(candidate, one, unsure, 0.05, "liver")
    kept = candidate.model_copy(update={"p": 0.01, "q": 0.01, "decision": "survived"})
    assert kept_because(kept, valid, 0.05, "liver").endswith("The chance of any false finding is at most 0.05.")
    assert "p = " not in kept_because(kept, unsure, 0.05, "liver")


@pytest.mark.parametrize("which", [{"finding": 1}, {"rejected": 1}, {}], ids=["finding", "rejected", "region"])
def test_pictures_show_findings_rejected_ones_and_the_region(
    found: Session, rejected: Session, which: dict[str, int]
) -> None:
    session = rejected if "rejected" in which else found
    command = show_slices.func(plane="coronal", runtime=runtime_of(session), **which)
    sha256 = _content(command).split('"picture":"')[1][:64]
    pixels = np.asarray(Image.open(session.context.store.path(sha256, ".png")).convert("RGB"))
    assert pixels.std() > 10
    assert "coronal slice" in _said(command)


def test_a_rejected_candidate_is_outlined_in_a_colour_of_its_own(rejected: Session) -> None:
    from r2seg_agent.report import canvas

    one = _content(show_slices.func(rejected=1, runtime=runtime_of(rejected)))
    none = _content(show_slices.func(runtime=runtime_of(rejected)))
    colour = np.array([int(canvas.REJECTED[i : i + 2], 16) for i in (1, 3, 5)])
    counts = []
    for content in (one, none):
        path = rejected.context.store.path(content.split('"picture":"')[1][:64], ".png")
        pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
        counts.append(int((np.abs(pixels - colour).max(axis=2) < 12).sum()))
    assert counts[0] > 20
    assert counts[1] == 0


def test_an_included_organ_is_searched_where_it_borders_in_every_round(found: Session) -> None:
    command = include_organs.func(target=1, organs=["Spleen"], runtime=runtime_of(found))
    target = _after(command).targets[0]
    assert target.stage == "planned"
    assert target.plan.anchors == ("liver", "spleen")
    assert target.original_plan.anchors == ("liver",), "the liver stays what a lesion is compared with"
    assert (step := next_round(target, 3)) is not None
    assert step.plan.anchors == ("liver", "spleen")
    assert _after(command).reset_target(0).targets[0].plan.anchors == ("liver", "spleen")
    assert "searched in the spleen too, as far as it borders on the liver (within 10 mm)" in _said(command)


def test_another_level_is_explained_and_every_target_is_judged_again(found: Session) -> None:
    command = change_alpha.func(alpha=0.01, runtime=runtime_of(found))
    assert _after(command).alpha == 0.01
    assert [target.stage for target in _after(command).targets] == ["planned"]
    assert "threshold, not an error rate" in _said(command)
    same = change_alpha.func(alpha=0.05, runtime=runtime_of(found))
    assert _after(same).targets == found.search.targets
    assert "already" in _said(same)


def test_a_level_that_a_calibration_cannot_serve_is_said_to_be_one(found: Session) -> None:
    context = found.context
    plan = found.search.targets[0].original_plan
    cases = [CaseScores(case=f"c{i}", patient=f"p{i}", scores=(float(i),)) for i in range(19)]
    calibration = build_calibration(context.calibration_identity(plan), cases)
    old = (context.reject, context.calibration)
    try:
        context.reject, context.calibration = RejectSettings(mode="conformal"), calibration
        said = _said(change_alpha.func(alpha=0.01, runtime=runtime_of(found)))
    finally:
        context.reject, context.calibration = old
    assert "the promise speaks of the first" in said
    assert "the chance of any finding with p at most 0.05 is at most 0.05 per target" in said
    assert "it needs 99 lesion-free cases, the calibration has 19" in said


def test_the_session_is_summed_up_round_by_round(rejected: Session) -> None:
    turns = (*rejected.search.turns, Turn(index=2, text="what did you do so far?"))
    search = rejected.search.model_copy(update={"turns": turns})
    said = _said(summarize_session.func(runtime=runtime_of(rejected, search)))
    assert "You asked: “find the liver lesion”." in said
    for one in rounds_of(rejected.context.store, search.targets[0]):
        assert f"round {one.index} with a margin of {one.padding_mm:g} mm" in said
    assert "Outcome: no lesion survived." in said
    assert "alpha 0.05, paper mode" in said
    assert "not FDR-valid" in said


def test_a_question_offers_what_may_be_meant_and_nothing_else(found: Session) -> None:
    after = _after(ask_which.func(kind="finding", numbers=[1, 2], runtime=runtime_of(found)))
    assert after.question is not None
    assert [(choice.kind, choice.value) for choice in after.choices] == [("finding", "1"), ("finding", "2")]


@pytest.mark.parametrize(
    ("call", "legal"),
    [
        (lambda r: describe_findings.func(findings=[9], runtime=r), "findings: 1, 2"),
        (lambda r: explain_candidate.func(candidate="rejected 4", runtime=r), "nothing was rejected"),
        (lambda r: explain_candidate.func(candidate="2", runtime=r), "`finding 2` or `rejected 2`"),
        (lambda r: explain_candidate.func(candidate="../../etc/passwd", runtime=r), "t1r1c1"),
        (lambda r: show_slices.func(finding=1, rejected=1, runtime=r), "not both"),
        (lambda r: show_slices.func(finding=5, runtime=r), "findings: 1, 2"),
        (lambda r: include_organs.func(target=3, organs=["spleen"], runtime=r), "there are 1 to 1"),
        (lambda r: include_organs.func(target=1, organs=["gizzard"], runtime=r), "nearest names"),
        (lambda r: include_organs.func(target=1, organs=["pancreas"], runtime=r), "liver, spleen, stomach"),
        (lambda r: include_organs.func(target=1, organs=["liver"], runtime=r), "already"),
        (lambda r: change_alpha.func(alpha=0.0, runtime=r), "above 0 and below 1"),
        (lambda r: change_alpha.func(alpha=float("nan"), runtime=r), "above 0 and below 1"),
        (lambda r: undo_turn.func(runtime=r), "nothing to undo"),
        (lambda r: ask_which.func(kind="rejected", numbers=[1, 2], runtime=r), "there are: none"),
    ],
)
def test_a_misuse_names_the_legal_choices(found: Session, call: Any, legal: str) -> None:
    with pytest.raises(ToolUseError, match=legal):
        call(runtime_of(found))


def test_an_organ_that_the_calibration_does_not_cover_is_refused(found: Session) -> None:
    context = found.context
    plan = found.search.targets[0].original_plan
    cases = [CaseScores(case=f"c{i}", patient=f"p{i}", scores=(float(i),)) for i in range(19)]
    calibration = build_calibration(context.calibration_identity(plan), cases)
    old = (context.reject, context.calibration)
    try:
        context.reject, context.calibration = RejectSettings(mode="conformal"), calibration
        with pytest.raises(ToolUseError, match="spleen cannot be included in conformal mode"):
            include_organs.func(target=1, organs=["spleen"], runtime=runtime_of(found))
    finally:
        context.reject, context.calibration = old
    assert isinstance(context.anchor_source, MaskSource)
