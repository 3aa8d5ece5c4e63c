"""The referee: one legal step per stage, a bounded loop, named ends."""

from __future__ import annotations

import pytest

from r2seg_agent.graphs.referee import is_exhausted, overall_outcome, verdict
from r2seg_agent.imaging.geometry import Geometry
from r2seg_agent.method.models import ImageInfo
from r2seg_agent.outcomes import OutcomeKind
from r2seg_agent.reason.plan import AnatomyPlan
from r2seg_agent.tools.context import Budget
from r2seg_agent.tools.state import SearchState, Stage, TargetState

PLAN = AnatomyPlan(
    target="liver_lesion",
    target_name="liver lesion",
    site="liver",
    modality="CT",
    anchors=("liver",),
    neighbours=("gallbladder",),
    prompt="lesion in liver CT",
)


LOCATED = {"liver": (1,), "gallbladder": (2,)}


def _search(*targets: TargetState, **changes: object) -> SearchState:
    image = ImageInfo(
        name="image-0",
        sha256="0" * 64,
        geometry=Geometry(shape=(2, 2, 2), spacing_mm=(1.0, 1.0, 1.0)),
        modality="CT",
        unit="HU",
    )
    return SearchState(request="find it", image=image, targets=targets).model_copy(update=changes)


def _target(stage: Stage, **changes: object) -> TargetState:
    return TargetState(plan=PLAN, original_plan=PLAN, stage=stage).model_copy(update=changes)


def test_nothing_planned_is_the_planners_choice() -> None:
    (step,) = verdict(_search(), Budget()).steps
    assert step.tool == "plan_search"
    assert not step.settled


@pytest.mark.parametrize(
    ("target", "tool"),
    [
        (_target("planned"), "locate_organs"),
        (_target("anchored"), "build_rois"),
        (_target("roi_built"), "segment_lesions"),
        (_target("segmented"), "reject_candidates"),
        (_target("rejected", survivors=("t1r1c1",)), "measure_finding"),
        (_target("rejected"), "widen_search"),
    ],
)
def test_each_stage_has_one_legal_step(target: TargetState, tool: str) -> None:
    ruling = verdict(_search(target), Budget())
    assert [step.tool for step in ruling.steps] == [tool]
    assert ruling.steps[0].args == {"target": 1}
    assert ruling.outcome is None


def test_targets_are_worked_off_in_order() -> None:
    ruling = verdict(_search(_target("measured", outcome="lesions_found"), _target("planned")), Budget())
    assert ruling.steps[0].args == {"target": 2}


@pytest.mark.parametrize("rounds", [1, 2, 3])
def test_the_widen_loop_ends_after_the_budgeted_rounds(rounds: int) -> None:
    budget = Budget(rounds=rounds)
    for index in range(1, rounds):
        assert not is_exhausted(_target("rejected", round_index=index, anchor_labels=LOCATED), budget)
    assert is_exhausted(_target("rejected", round_index=rounds, anchor_labels=LOCATED), budget)
    assert not is_exhausted(_target("rejected", round_index=rounds, survivors=("t1r1c1",)), budget)


def test_the_ladder_ends_early_where_no_neighbour_was_located() -> None:
    assert is_exhausted(_target("rejected", round_index=2, anchor_labels={"liver": (1,)}), Budget())
    assert not is_exhausted(_target("rejected", round_index=2, anchor_labels=LOCATED), Budget())


def test_budgets_end_the_run_by_name() -> None:
    search = _search(_target("planned"), tool_calls=5)
    assert verdict(search, Budget(tool_calls=5)).outcome == "budget_exhausted"
    assert verdict(search, Budget(seconds=1.0), seconds_left=0.0).outcome == "budget_exhausted"
    assert verdict(search, Budget(seconds=1.0), seconds_left=0.5).outcome is None


def test_a_question_ends_the_run_with_the_user() -> None:
    assert verdict(_search(question="Which organ?"), Budget()).outcome == "needs_user"


@pytest.mark.parametrize(
    ("outcomes", "overall"),
    [
        (("no_lesion_survived", "lesions_found"), "lesions_found"),
        (("target_not_in_view", "no_lesion_survived"), "no_lesion_survived"),
        (("no_lesion_survived", "budget_exhausted"), "budget_exhausted"),
        (("target_not_in_view",), "target_not_in_view"),
    ],
)
def test_one_outcome_stands_for_several_targets(outcomes: tuple[OutcomeKind, ...], overall: OutcomeKind) -> None:
    search = _search(*(_target("measured", outcome=outcome) for outcome in outcomes))
    assert overall_outcome(search) == overall
    assert verdict(search, Budget()).outcome == overall
