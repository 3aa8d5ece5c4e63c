"""`TargetState`: how far the search for one target has come, and which round can follow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from r2seg_agent.frozen import Frozen
from r2seg_agent.outcomes import OutcomeKind
from r2seg_agent.reason import anatomy
from r2seg_agent.reason.plan import AnatomyPlan
from r2seg_agent.reason.roi import ROI, WidenStep, widen
from r2seg_agent.store.refs import ArtifactRef

Stage = Literal["planned", "anchored", "roi_built", "segmented", "rejected", "measured"]


class TargetState(Frozen):
    """How far the search for one target has come. `answer_shown`: the user was given its answer.

    `plan` is the plan as it stands in this round (widening changes its padding and anchors); `why` says what the
    current round does differently. `included` are organs that the user wants searched too: as those that widening
    adds, they count where they border on the plan's own. `rounds` refer to stored `SearchRound`s, `findings` to stored
    `Finding`s.
    """

    plan: AnatomyPlan
    original_plan: AnatomyPlan
    included: tuple[str, ...] = ()
    stage: Stage = "planned"
    round_index: int = 1
    why: str = ""
    anchors: ArtifactRef | None = None
    anchor_labels: Mapping[str, tuple[int, ...]] = {}
    anchors_ml: Mapping[str, float] = {}
    rois: tuple[ROI, ...] = ()
    regions: ArtifactRef | None = None
    rounds: tuple[ArtifactRef, ...] = ()
    survivors: tuple[str, ...] = ()
    findings: ArtifactRef | None = None
    outcome: OutcomeKind | None = None
    answer: str = ""
    answer_shown: bool = False


def next_round(target: TargetState, rounds: int) -> WidenStep | None:
    """The round that could follow this one; None when all `rounds` are used or the plan's ladder has ended."""
    if target.round_index >= rounds:
        return None
    step = widen(target.original_plan, target.round_index + 1, available=tuple(target.anchor_labels))
    return None if step is None else step.model_copy(update={"plan": with_organs(step.plan, target.included)})


def with_organs(plan: AnatomyPlan, organs: tuple[str, ...]) -> AnatomyPlan:
    """`plan` with further anchors, each once; what is to be searched is vetoed no longer."""
    if not organs:
        return plan
    searched = {around for name in organs for around in _places(name)}
    return plan.model_copy(
        update={
            "anchors": tuple(dict.fromkeys((*plan.anchors, *organs))),
            "not_inside": tuple(name for name in plan.not_inside if name not in searched),
        }
    )


def _places(name: str) -> tuple[str, ...]:
    return anatomy.containing(name) if name in anatomy.organs() else (name,)
