"""The referee: pure code that knows which steps are legal, when to widen, when to stop and why.

No model takes part here. The planner may only choose among the steps that `verdict` calls legal; where one step
remains and its arguments are settled, the referee takes it itself and the trace says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from r2seg_agent.frozen import Frozen
from r2seg_agent.method.presets import WHOLE_METHOD, Parts
from r2seg_agent.outcomes import OutcomeKind
from r2seg_agent.tools.context import Budget
from r2seg_agent.tools.state import SearchState, TargetState, next_round

MAX_CALLS_A_TURN = 12
"""Tools that a planner may choose for one message of the user, besides the search's own steps."""


class Step(Frozen):
    """A legal next step. `settled`: its arguments leave nothing to choose, so no model need be asked."""

    tool: str
    args: Mapping[str, int | str | tuple[str, ...]]
    why: str
    settled: bool = True


class Verdict(Frozen):
    """What comes next: legal `steps`, or the end of the turn with `outcome`.

    `optional`: the planner may also do nothing, which ends the turn. `budget` names a bound that was reached.
    """

    steps: tuple[Step, ...] = ()
    outcome: OutcomeKind | None = None
    why: str = ""
    optional: bool = False
    budget: str = ""


def verdict(
    search: SearchState,
    budget: Budget,
    seconds_left: float | None = None,
    *,
    converse: bool = False,
    choices: bool = False,
    parts: Parts = WHOLE_METHOD,
) -> Verdict:
    """What may happen next in `search`, given what is left of the budget and which `parts` of the method take part.

    `converse`: the conversation tools are open once no search is under way. `choices`: the planner may choose where
    the offline rules have one settled answer (which organs to include when widening).
    """
    if search.question is not None:
        return Verdict(outcome="needs_user", why="the request cannot be mapped without an answer from the user")
    index = search.current
    if index is None and search.targets and not (converse and search.turn_open):
        return Verdict(outcome=overall_outcome(search), why="every target has an outcome")
    if index is None and not search.turn_open:
        return Verdict(outcome="needs_user", why="nothing was asked that can be searched")
    if search.tool_calls >= budget.tool_calls:
        why = f"{search.tool_calls} tool calls used of {budget.tool_calls}"
        return Verdict(outcome="budget_exhausted", why=why, budget="tool_calls")
    if seconds_left is not None and seconds_left <= 0:
        why = f"the time budget of {budget.seconds} s is used up"
        return Verdict(outcome="budget_exhausted", why=why, budget="seconds")
    if index is not None:
        return Verdict(steps=(_next_step(search.targets[index], index + 1, parts, choices=choices),))
    if converse and search.turn_calls >= MAX_CALLS_A_TURN + len(search.targets) * 20:
        why = f"{search.turn_calls} tools were called for one message"
        return Verdict(outcome=overall_outcome(search), why=why, budget="calls a turn")
    plan = Step(
        tool="plan_search", args={"targets": (search.message,)}, why="what to look for, and where?", settled=False
    )
    if not converse:
        return Verdict(steps=(plan,))
    return Verdict(steps=(plan, *conversation_steps(search, budget, parts)), optional=bool(search.answer_sentences))


class Legality(NamedTuple):
    """When a conversation tool may be called while no search is under way, and the reason that the trace gives."""

    tool: str
    why: str
    legal: Callable[[SearchState, Budget, Parts], bool]


CONVERSATION: tuple[Legality, ...] = (
    Legality("describe_findings", "findings have sizes", lambda search, _, __: _found(search)),
    Legality("locate_finding", "findings have places", lambda search, _, __: _found(search)),
    Legality("explain_candidate", "candidates were judged", lambda search, _, __: _tested(search)),
    Legality("show_slices", "there is something to show", lambda search, _, __: _tested(search)),
    Legality("ask_which", "the words may fit several", lambda search, _, __: _tested(search)),
    Legality("widen_search", "a wider round is left", lambda search, budget, _: _can_widen(search, budget)),
    Legality(
        "include_organs", "the plan can be widened by hand", lambda s, _, parts: bool(s.targets) and parts.regions
    ),
    Legality("change_alpha", "the level can be changed", lambda _, __, parts: parts.tests),
    Legality("undo_turn", "there is a turn to undo", lambda search, _, __: _can_undo(search)),
    Legality("summarize_session", "what was done can be told", lambda _, __, ___: True),
)
"""The conversation tools, in the order in which they are offered."""


def conversation_steps(search: SearchState, budget: Budget, parts: Parts) -> tuple[Step, ...]:
    """The conversation tools whose preconditions hold while no search is under way; the planner gives the arguments."""
    legal = (row for row in CONVERSATION if row.legal(search, budget, parts))
    return tuple(Step(tool=row.tool, args={}, why=row.why, settled=False) for row in legal)


def _found(search: SearchState) -> bool:
    return any(target.findings is not None for target in search.targets)


def _tested(search: SearchState) -> bool:
    return any(target.rounds for target in search.targets)


def _can_widen(search: SearchState, budget: Budget) -> bool:
    return any(next_round(target, budget.rounds) is not None for target in search.targets if target.rounds)


def _can_undo(search: SearchState) -> bool:
    return any(not turn.undone and turn.kind == "message" for turn in search.turns[:-1])


def is_exhausted(target: TargetState, budget: Budget) -> bool:
    """True when no candidate survived and no round is left to widen into."""
    by_itself = budget.rounds if budget.automatic_rounds is None else min(budget.rounds, budget.automatic_rounds)
    return target.stage == "rejected" and not target.survivors and next_round(target, by_itself) is None


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
    return next((kind for kind in ranked if kind in outcomes), "failed" if outcomes else "needs_user")


def _next_step(target: TargetState, number: int, parts: Parts, *, choices: bool) -> Step:
    args = {"target": number}
    match target.stage:
        case "planned" if not parts.regions:
            return Step(tool="build_rois", args=args, why="no organ is asked for: the model sees the whole image")
        case "planned":
            return Step(tool="locate_organs", args=args, why="the plan names organs; where are they?")
        case "anchored":
            return Step(tool="build_rois", args=args, why="the organs are located; where to look?")
        case "roi_built":
            return Step(tool="segment_lesions", args=args, why="the regions are set; the frozen model looks")
        case "segmented":
            why = "candidates are proposed; which differ from normal?" if parts.tests else "nothing is tested: all stay"
            return Step(tool="reject_candidates", args=args, why=why)
        case "rejected" if target.survivors:
            return Step(tool="measure_finding", args=args, why=f"{len(target.survivors)} candidates survived")
        case _:
            why = f"no candidate survived round {target.round_index}; look wider"
            return Step(tool="widen_search", args=args, why=why, settled=not choices)
