"""`undo_turn`: the search as it stood before the last turn that changed it."""

from __future__ import annotations

from itertools import pairwise

from langchain_core.tools import tool
from langgraph.types import Command

from r2seg_agent.frozen import Frozen
from r2seg_agent.report.format import plural
from r2seg_agent.tools._runtime import Runtime, ToolUseError, answer, context_of, search_of
from r2seg_agent.tools.context import Context
from r2seg_agent.tools.lookup import findings_of
from r2seg_agent.tools.state import SearchState, Turn

RESTORED = ("targets", "excluded", "question", "choices", "focus", "alpha")
"""What a turn can change and undoing gives back. Counters and the history of turns stay."""
TELLING = ("targets", "excluded", "alpha")
"""A turn that changed none of these only talked: there is nothing in it to undo."""
MAX_QUOTED = 80


class UndoTurnResult(Frozen):
    """The turn that was undone, and what there is now."""

    turn: int
    text: str
    targets: int
    findings: int


@tool("undo_turn")
def undo_turn(runtime: Runtime) -> Command[str]:
    """Take back the last turn of the user that changed the search; turns that only asked something are passed over."""
    search, context = search_of(runtime), context_of(runtime)
    found = _last_change(search, context)
    if found is None:
        raise ToolUseError("there is nothing to undo: no earlier turn changed the search")
    undone, before = found
    restored = {name: getattr(before, name) for name in RESTORED}
    turns = tuple(
        turn.model_copy(update={"undone": True}) if turn.index == undone.index else turn for turn in search.turns
    )
    search = search.model_copy(update={**restored, "turns": turns}).with_turn(kind="undo")
    n_findings = sum(len(findings_of(context.store, target)) for target in search.targets)
    result = UndoTurnResult(
        turn=undone.index, text=undone.text[:MAX_QUOTED], targets=len(search.targets), findings=n_findings
    )
    say = f"Undone: “{_cut(undone.text)}”. {_now(search, context)}"
    return answer(runtime, search, result, "undo_turn", say=say)


def _last_change(search: SearchState, context: Context) -> tuple[Turn, SearchState] | None:
    """The last turn that was not undone and changed the search, with the search as it stood before it."""
    for turn, following in reversed(list(pairwise(search.turns))):
        if turn.undone or turn.kind == "undo" or turn.before is None:
            continue
        before = _stored(turn, context)
        after = search if following.before is None else _stored(following, context)
        if any(getattr(before, name) != getattr(after, name) for name in TELLING):
            return turn, before
    return None


def _stored(turn: Turn, context: Context) -> SearchState:
    """The search as it stood when the turn began."""
    assert turn.before is not None
    return SearchState.model_validate_json(context.store.json(turn.before))


def _now(search: SearchState, context: Context) -> str:
    if not search.targets:
        return "Now it is as before the first search."
    states = []
    for target in search.targets:
        n = len(findings_of(context.store, target))
        state = plural(n, "finding") if n else (target.outcome or target.stage).replace("_", " ")
        states.append(f"{target.original_plan.target_name} ({state})")
    level = f"; alpha {context.reject_for(search).alpha:g}"
    return f"Now there {'is' if len(states) == 1 else 'are'}: {', '.join(states)}{level}."


def _cut(text: str) -> str:
    return text if len(text) <= MAX_QUOTED else f"{text[: MAX_QUOTED - 1]}…"
