"""How targets, turns and runs end: named outcomes, the sentences that go with them, and their events.

Every sentence is written by code from numbers that the trace holds, never by a model.
"""

from __future__ import annotations

from r2seg_agent.graphs.referee import Verdict, is_exhausted, overall_outcome
from r2seg_agent.report.place import organ_name
from r2seg_agent.store.artifacts import ArtifactStore
from r2seg_agent.tools.context import Context
from r2seg_agent.tools.lookup import rounds_of
from r2seg_agent.tools.state import SearchState, TargetState

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


def answer_targets(search: SearchState) -> SearchState:
    """Add the answer of every target that just got its outcome to the answer of the turn."""
    for index, target in enumerate(search.targets):
        if target.outcome is not None and not target.answer_shown:
            search = search.with_target(index, answer_shown=True)
            search = search.model_copy(update={"answer_sentences": (*search.answer_sentences, target.answer)})
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
        search = answer_targets(search)
    outcome = ruling.outcome or overall_outcome(search)
    if search.question is not None or not context.converse:
        answer = overall_answer(search)
    else:
        answer = " ".join(search.answer_sentences) or NOTHING_UNDERSTOOD
    if not search.answer_sentences and search.question is None:
        search = search.model_copy(update={"answer_sentences": (answer,)})
    record("referee", "finish", {"outcome": outcome, "why": ruling.why})
    turn = search.turns[-1].index if search.turns else 1
    record("answer", f"turn {turn}", {"turn": turn, "outcome": outcome, "answer": answer, "comment": search.comment})
    search = search.model_copy(update={"turn_open": False, "outcome": outcome, "answer": answer})
    return search.with_turn(answer=answer) if search.turns else search


def exhausted_answer(target: TargetState, store: ArtifactStore) -> str:
    """One target for which nothing survived any round."""
    rounds = rounds_of(store, target)
    seen = sum(len(round_.candidates) for round_ in rounds)
    organs = ", ".join(organ_name(organ) for organ in target.plan.anchors)
    where = f"around {organs}" if target.anchors is not None else "in the whole image"
    if rounds and rounds[-1].mode == "reference" and seen:
        less = f"{seen} less certain candidate{'s are' if seen != 1 else ' is'} listed"
        return f"No {target.plan.target_name} scored above the cut {where}; {less}. This is not proof of absence."
    candidates = (
        f"{seen} candidate{'s' if seen != 1 else ''} proposed, none survived" if seen else "nothing was proposed"
    )
    return (
        f"No {target.plan.target_name} survived in {len(rounds)} round{'s' if len(rounds) != 1 else ''} "
        f"of search {where}: {candidates}. This is not proof of absence."
    )


def budget_answer(target: TargetState) -> str:
    """One target that a budget stopped."""
    return (
        f"The search for {target.plan.target_name} was stopped by a budget in round {target.round_index} "
        f"after the step `{target.stage}`; run again with a larger budget, finished steps are not repeated."
    )


def overall_answer(search: SearchState) -> str:
    """The answer to the whole request."""
    if search.question is not None:
        return search.question
    return " ".join(target.answer for target in search.targets if target.answer) or "Nothing was searched."
