"""`undo_turn`: the search as it stood before the last turn that changed it."""

from __future__ import annotations

from itertools import pairwise

from langgraph.types import Command

from r2seg_agent.report.format import plural
from r2seg_agent.tools._runtime import (
    Runtime,
    ToolCard,
    ToolResult,
    ToolUseError,
    answer,
    context_of,
    search_of,
    search_tool,
)
from r2seg_agent.tools._words import cut
from r2seg_agent.tools.context import Context
from r2seg_agent.tools.lookup import findings_of
from r2seg_agent.tools.state import SearchState, Turn

RESTORED = ("targets", "excluded", "question", "choices", "focus", "alpha")
"""What a turn can change and undoing gives back. Counters and the history of turns stay."""
CHANGING = ("targets", "excluded", "alpha")
"""A turn that changed none of these only talked: there is nothing in it to undo."""
MAX_QUOTED = 80


class UndoTurnResult(ToolResult):
    """The turn that was undone, and what there is now."""

    turn: int
    text: str
    targets: int
    findings: int

    def line(self) -> str:
        """See `ToolResult`."""
        now = f"{plural(self.targets, 'target')}, {plural(self.findings, 'finding')}"
        return f"turn {self.turn} (“{self.text}”) undone: {now} again"


@search_tool(
    "undo_turn",
    ToolCard(
        asked_by='"undo that"',
        unavailable="There is nothing to undo.",
        before_search=True,
    ),
)
def undo_turn(runtime: Runtime) -> Command[str]:
    """Take back the last turn of the user that changed the search; turns that only asked something are passed over."""
    search, context = search_of(runtime), context_of(runtime)
    found = _last_change(search, context)
    if found is None:
        raise ToolUseError("there is nothing to undo: no earlier turn changed the search")
    undone, before = found
    restored = {name: getattr(before, name) for name in RESTORED}
    level = context.reject_for(search).alpha
    turns = tuple(
        turn.model_copy(update={"undone": True}) if turn.index == undone.index else turn for turn in search.turns
    )
    search = search.model_copy(update={**restored, "turns": turns}).with_turn(kind="undo")
    if (now := context.reject_for(search).alpha) != level:
        search = search.with_level(now).model_copy(update={"alpha": before.alpha})
    n_findings = sum(len(findings_of(context.store, target)) for target in search.targets)
    result = UndoTurnResult(
        turn=undone.index, text=undone.text[:MAX_QUOTED], targets=len(search.targets), findings=n_findings
    )
    say = f"Undone: “{cut(undone.text, MAX_QUOTED)}”. {_now(search, context)}"
    return answer(runtime, search, result, "undo_turn", say=say)


def _last_change(search: SearchState, context: Context) -> tuple[Turn, SearchState] | None:
    """The last turn that was not undone and changed the search, with the search as it stood before it."""
    for turn, following in reversed(list(pairwise(search.turns))):
        if turn.undone or turn.kind == "undo" or turn.before is None:
            continue
        before = _stored(turn, context)
        after = search if following.before is None else _stored(following, context)
        if any(getattr(before, name) != getattr(after, name) for name in CHANGING):
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
