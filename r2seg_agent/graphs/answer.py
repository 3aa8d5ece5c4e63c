"""The sentences that answer the user. Written by code from numbers that the trace holds, never by a model."""

from __future__ import annotations

from r2seg_agent.method.models import SearchRound
from r2seg_agent.report.place import organ_name
from r2seg_agent.store.artifacts import ArtifactStore
from r2seg_agent.tools.state import SearchState, TargetState


def rounds_of(target: TargetState, store: ArtifactStore) -> tuple[SearchRound, ...]:
    """The stored rounds of one target, in order."""
    return tuple(SearchRound.model_validate_json(store.json(ref)) for ref in target.rounds)


def exhausted_answer(target: TargetState, store: ArtifactStore) -> str:
    """One target for which nothing survived any round."""
    rounds = rounds_of(target, store)
    seen = sum(len(one.candidates) for one in rounds)
    organs = ", ".join(organ_name(organ) for organ in target.plan.anchors)
    where = f"around {organs}" if target.anchors is not None else "in the whole image"
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
