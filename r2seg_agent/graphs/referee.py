"""The referee: pure code that knows which steps are legal, when to widen, when to stop and why.

No model takes part here. The planner may only choose among the steps that `verdict` calls legal; where one step
remains and its arguments are settled, the referee takes it itself and the trace says so.
"""

from __future__ import annotations

from collections.abc import Mapping

from r2seg_agent.frozen import Frozen
from r2seg_agent.report.models import OutcomeKind
from r2seg_agent.tools.context import Budget
from r2seg_agent.tools.state import SearchState, TargetState, next_round


class Step(Frozen):
    """A legal next step. `settled`: its arguments leave nothing to choose, so no model need be asked."""

    tool: str
    args: Mapping[str, int | str | tuple[str, ...]]
    why: str
    settled: bool = True


class Verdict(Frozen):
    """What comes next: legal `steps`, or the end with `outcome`. `close` names a target to end first."""

    steps: tuple[Step, ...] = ()
    outcome: OutcomeKind | None = None
    why: str = ""


def verdict(search: SearchState, budget: Budget, seconds_left: float | None = None) -> Verdict:
    """What may happen next in `search`, given what is left of the budget."""
    if search.question is not None:
        return Verdict(outcome="needs_user", why="the request cannot be mapped without an answer from the user")
    if not search.targets:
        return Verdict(
            steps=(
                Step(tool="plan_search", args={"targets": (search.request,)}, why="nothing is planned", settled=False),
            )
        )
    index = search.current
    if index is None:
        return Verdict(outcome=overall_outcome(search), why="every target has an outcome")
    if search.tool_calls >= budget.tool_calls:
        return Verdict(outcome="budget_exhausted", why=f"{search.tool_calls} tool calls used of {budget.tool_calls}")
    if seconds_left is not None and seconds_left <= 0:
        return Verdict(outcome="budget_exhausted", why=f"the time budget of {budget.seconds} s is used up")
    return Verdict(steps=(_next_step(search.targets[index], index + 1),))


def is_exhausted(target: TargetState, budget: Budget) -> bool:
    """True when no candidate survived and no round is left to widen into."""
    return target.stage == "rejected" and not target.survivors and next_round(target, budget.rounds) is None


def overall_outcome(search: SearchState) -> OutcomeKind:
    """One outcome for several targets: a found lesion first, then a search that was carried out."""
    outcomes = [target.outcome for target in search.targets]
    ranked: tuple[OutcomeKind, ...] = (
        "lesions_found",
        "budget_exhausted",
        "no_lesion_survived",
        "target_not_in_view",
        "failed",
    )
    return next((kind for kind in ranked if kind in outcomes), "failed")


def _next_step(target: TargetState, number: int) -> Step:
    args = {"target": number}
    match target.stage:
        case "planned":
            return Step(tool="locate_organs", args=args, why="the plan names organs; where are they?")
        case "anchored":
            return Step(tool="build_rois", args=args, why="the organs are located; where to look?")
        case "roi_built":
            return Step(tool="segment_lesions", args=args, why="the regions are set; the frozen model looks")
        case "segmented":
            return Step(tool="reject_candidates", args=args, why="candidates are proposed; which differ from normal?")
        case "rejected" if target.survivors:
            return Step(tool="measure_finding", args=args, why=f"{len(target.survivors)} candidates survived")
        case _:
            return Step(
                tool="widen_search", args=args, why=f"no candidate survived round {target.round_index}; look wider"
            )
