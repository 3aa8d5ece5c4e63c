"""`plan_search`: from the user's words to one plan per target."""

from __future__ import annotations

from typing import Annotated

from langchain_core.tools import tool
from langgraph.types import Command
from pydantic import Field

from r2seg_agent.frozen import Frozen
from r2seg_agent.reason.offline import plan_request
from r2seg_agent.reason.plan import AnatomyPlan, PlanSet
from r2seg_agent.tools._use import Runtime, ToolUseError, answer, context_of, search_of
from r2seg_agent.tools.state import TargetState


class PlanSearchResult(Frozen):
    """The plans, or a question with the nearest legal choices."""

    plans: tuple[AnatomyPlan, ...] = ()
    excluded: tuple[str, ...] = ()
    question: str | None = None
    choices: tuple[str, ...] = ()


@tool("plan_search")
def plan_search(
    targets: Annotated[
        list[str],
        Field(
            min_length=1,
            max_length=8,
            description="What to look for, one phrase per target, with its side if any: 'left kidney tumour'.",
        ),
    ],
    runtime: Runtime,
) -> Command[str]:
    """Plan the search: map each phrase to a target of the concept table, its organs, margins and grey window."""
    search = search_of(runtime)
    if search.targets:
        raise ToolUseError("the search is planned already; go on with `locate_organs`")
    context = context_of(runtime)
    available = context.anchor_source.organs(context.volume.modality)
    planned = [plan_request(phrase, context.volume.modality, anchors_available=available) for phrase in targets]
    merged = _merge(planned)
    if merged.question is not None:
        search = search.model_copy(update={"question": merged.question, "choices": merged.choices})
    else:
        for plan in merged.plans:
            # Missing weights or an impossible modality end the run here, before long work.
            context.anchor_source.check(context.volume.modality, plan.anchors)
        search = search.model_copy(
            update={
                "targets": tuple(TargetState(plan=plan, original_plan=plan) for plan in merged.plans),
                "excluded": merged.excluded,
            }
        )
    return answer(runtime, search, merged, "plan_search")


def _merge(planned: list[PlanSet]) -> PlanSearchResult:
    for one in planned:
        if one.clarification is not None:
            return PlanSearchResult(question=one.clarification.question, choices=one.clarification.choices)
    plans: dict[tuple[str, str | None, tuple[str, ...]], AnatomyPlan] = {}
    for one in planned:
        for plan in one.plans:
            plans.setdefault((plan.target, plan.laterality, plan.anchors), plan)
    return PlanSearchResult(
        plans=tuple(plans.values()), excluded=tuple(dict.fromkeys(name for one in planned for name in one.excluded))
    )
