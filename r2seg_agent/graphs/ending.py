"""How targets, turns and runs end: named outcomes, the sentences that go with them, and their events."""

from __future__ import annotations

from r2seg_agent.graphs.answer import budget_answer, exhausted_answer, overall_answer
from r2seg_agent.graphs.referee import Verdict, is_exhausted, overall_outcome
from r2seg_agent.tools.context import Context
from r2seg_agent.tools.state import SearchState

NOTHING_UNDERSTOOD = (
    "I did not understand that. You can ask for a lesion in an organ, for the size, place or picture of a finding, "
    "why a candidate was rejected, or for a wider search."
)


def close_exhausted(search: SearchState, context: Context) -> SearchState:
    """Give the current target its outcome when no candidate survived its last round."""
    index = search.current
    if index is None or not is_exhausted(search.targets[index], context.budget):
        return search
    target = search.targets[index]
    context.recorder.record(
        "referee",
        "close_target",
        {"target": index + 1, "outcome": "no_lesion_survived", "why": f"all {target.round_index} rounds are used"},
    )
    answer = exhausted_answer(target, context.store)
    return search.with_target(index, outcome="no_lesion_survived", answer=answer)


def tell_targets(search: SearchState) -> SearchState:
    """Add the answer of every target that just got its outcome to what the user is told."""
    for index, target in enumerate(search.targets):
        if target.outcome is not None and not target.told:
            search = search.with_target(index, told=True)
            search = search.model_copy(update={"said": (*search.said, target.answer)})
    return search


def end_turn(search: SearchState, ruling: Verdict, context: Context) -> SearchState:
    """Close the turn with its outcome and answer; a single run ends with its only turn."""
    record = context.recorder.record
    if ruling.budget:
        record("budget", ruling.budget, {"why": ruling.why})
    if ruling.outcome == "budget_exhausted":
        for index, target in enumerate(search.targets):
            if target.outcome is None:
                search = search.with_target(index, outcome="budget_exhausted", answer=budget_answer(target))
        search = tell_targets(search)
    outcome = ruling.outcome or overall_outcome(search)
    if search.question is not None or not context.converse:
        answer = overall_answer(search)
    else:
        answer = " ".join(search.said) or NOTHING_UNDERSTOOD
    if not search.said and search.question is None:
        search = search.model_copy(update={"said": (answer,)})
    record("referee", "finish", {"outcome": outcome, "why": ruling.why})
    turn = search.turns[-1].index if search.turns else 1
    record("answer", f"turn {turn}", {"turn": turn, "outcome": outcome, "answer": answer, "words": search.words})
    search = search.model_copy(update={"turn_open": False, "outcome": outcome, "answer": answer})
    return search.with_turn(answer=answer) if search.turns else search
