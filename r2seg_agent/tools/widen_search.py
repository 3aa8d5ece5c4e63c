"""`widen_search`: the next round looks further, because nothing survived this one."""

from __future__ import annotations

from typing import Annotated

from langgraph.types import Command
from pydantic import Field

from r2seg_agent.tools._runtime import (
    Runtime,
    ToolCard,
    ToolResult,
    ToolUseError,
    answer,
    context_of,
    search_of,
    search_tool,
    target_at,
)
from r2seg_agent.tools._words import organ_names
from r2seg_agent.tools.state import next_round
from r2seg_agent.tools.target_state import with_organs


class WidenSearchResult(ToolResult):
    """What the next round does differently."""

    round: int
    padding_mm: float
    anchors: tuple[str, ...]
    why: str

    def line(self) -> str:
        """See `ToolResult`."""
        around = organ_names(self.anchors)
        return f"round {self.round}: {self.why}; margin {self.padding_mm:g} mm around {around}"


@search_tool(
    "widen_search",
    ToolCard(
        asked_by='"look wider", "search further"',
        unavailable="The search cannot go further by itself: its rounds are used up. You can add an organ to it, for "
        "example “include the stomach”.",
    ),
)
def widen_search(
    target: int,
    runtime: Runtime,
    include: Annotated[
        list[str],
        Field(max_length=8, description="Organs in view whose border with the searched organ is searched too."),
    ] = [],  # noqa: B006  (LangChain reads the default; it is never changed)
) -> Command[str]:
    """Search a target (1-based number) one round further: a larger margin, then the neighbouring organs' borders."""
    search = search_of(runtime)
    index, state = target_at(search, target, ("rejected", "measured"), "widen_search")
    context = context_of(runtime)
    step = next_round(state, context.budget.rounds)
    if step is None:
        raise ToolUseError(f"target {target} has used all its rounds ({state.round_index})")
    in_view = sorted(name for name, ml in state.anchors_ml.items() if ml > 0 and name not in step.plan.anchors)
    if include and context.reject.compares_cases:
        raise ToolUseError(
            f"nothing can be included in {context.reject.mode} mode: a calibration compares scans that were searched "
            "in the same places; widen without `include`"
        )
    unknown = [name for name in include if name not in in_view and name not in step.plan.anchors]
    if unknown:
        raise ToolUseError(f"`{unknown[0]}` cannot be included; located and in view: {', '.join(in_view) or 'none'}")
    further = tuple(name for name in in_view if name in include)
    plan = with_organs(step.plan, further)
    # The stored anchors hold the neighbours too, so widening never runs the anchor model again.
    search = search.with_target(
        index,
        stage="anchored",
        round_index=step.round,
        plan=plan,
        why=step.why,
        rois=(),
        survivors=(),
        findings=None,
        outcome=None,
        answer="",
        answer_shown=False,
    ).model_copy(update={"outcome": None})
    result = WidenSearchResult(round=step.round, padding_mm=plan.padding_mm, anchors=plan.anchors, why=step.why)
    return answer(runtime, search, result, "widen_search")
