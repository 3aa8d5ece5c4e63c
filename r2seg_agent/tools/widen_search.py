"""`widen_search`: the next round looks further, because nothing survived this one."""

from __future__ import annotations

from langchain_core.tools import tool
from langgraph.types import Command

from r2seg_agent.frozen import Frozen
from r2seg_agent.tools._use import Runtime, ToolUseError, answer, context_of, search_of, target_at
from r2seg_agent.tools.state import next_round


class WidenSearchResult(Frozen):
    """What the next round does differently."""

    round: int
    padding_mm: float
    anchors: tuple[str, ...]
    why: str


@tool("widen_search")
def widen_search(target: int, runtime: Runtime) -> Command[str]:
    """Widen the regions of a target (1-based number) for one more round; legal only when no candidate survived."""
    search = search_of(runtime)
    index, state = target_at(search, target, ("rejected",), "widen_search")
    if state.survivors:
        raise ToolUseError(f"target {target} has survivors; measure them with `measure_finding`")
    step = next_round(state, context_of(runtime).budget.rounds)
    if step is None:
        raise ToolUseError(f"target {target} has used all its rounds ({state.round_index})")
    # The stored anchors hold the neighbours too, so widening never runs the anchor model again.
    search = search.with_target(index, stage="anchored", round_index=step.round, plan=step.plan, why=step.why, rois=())
    result = WidenSearchResult(
        round=step.round, padding_mm=step.plan.padding_mm, anchors=step.plan.anchors, why=step.why
    )
    return answer(runtime, search, result, "widen_search")
