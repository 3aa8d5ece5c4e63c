"""`plan_search`: from the user's words to one plan per target."""

from __future__ import annotations

from typing import Annotated

from langgraph.types import Command
from pydantic import Field

from r2seg_agent.cautions import Caution
from r2seg_agent.errors import R2SegError
from r2seg_agent.reason.language.grounding import not_said
from r2seg_agent.reason.language.plan_request import plan_request
from r2seg_agent.reason.language.unused import unused_sentence
from r2seg_agent.reason.plan import AnatomyPlan, Choice, PlanSet
from r2seg_agent.report.format import plural
from r2seg_agent.report.plans import plan_line
from r2seg_agent.segment.checks import check_plan
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
from r2seg_agent.tools.context import Context
from r2seg_agent.tools.state import SearchState, TargetState


class PlanSearchResult(ToolResult):
    """The plans, or a question with the nearest legal choices."""

    plans: tuple[AnatomyPlan, ...] = ()
    excluded: tuple[str, ...] = ()
    question: str | None = None
    choices: tuple[Choice, ...] = ()

    def line(self) -> str:
        """See `ToolResult`."""
        if self.question is not None:
            return f"asks: {self.question}"
        left_out = f"; left out: {', '.join(self.excluded)}" if self.excluded else ""
        return f"{plural(len(self.plans), 'target')} planned{left_out}"

    def points(self) -> tuple[str, ...]:
        """The plans, or the choices of the question."""
        return (*(plan_line(plan) for plan in self.plans), *(choice.line for choice in self.choices))


@search_tool("plan_search", ToolCard(asked_by='"find …", "what about …", "any … in the …?"'))
def plan_search(
    targets: Annotated[
        list[str],
        Field(
            min_length=1,
            max_length=8,
            description="What to look for, in the user's own words: one phrase per target, with its side if any.",
        ),
    ],
    runtime: Runtime,
) -> Command[str]:
    """Plan a search: map each phrase to a target of the concept table, its organs, margins and grey window."""
    search = search_of(runtime)
    if search.current is not None:
        raise ToolUseError(f"target {search.current + 1} is being searched; finish it before planning another")
    context = context_of(runtime)
    spoken_of = [name for target in search.targets for name in (target.plan.target_name, *target.plan.anchors)]
    for phrase in targets:
        if reason := not_said(phrase, search.message, context.volume.modality, spoken_of):
            raise ToolUseError(f"{reason}; hand on the user's own words: {search.message!r}")
    available = context.anchor_source.organs(context.volume.modality)
    planned = [
        plan_request(
            phrase,
            context.volume.modality,
            anchors_available=available,
            any_modality=search.any_modality or _settled_by_default(phrase, context, available),
            hounsfield=context.volume.unit == "HU",
        )
        for phrase in targets
    ]
    merged = _merge(planned)
    judged = context.judged(merged.plans)
    if merged.question is not None:
        search = search.model_copy(update={"question": merged.question, "choices": merged.choices})
    else:
        for text in _check(judged, context):
            search = search.with_caution(Caution(kind="other_class", text=text))
        unused = (unused_sentence(search.message), *(text for plan in judged for text in plan.not_used))
        search = search.with_caution(*(Caution(kind="not_used", text=text) for text in unused if text))
        search = context.with_anchor_source(search)
        search = search.without_targets([plan for plan in merged.plans if plan not in judged])
        for plan in judged:
            search = _with_plan(search, plan)
        merged = merged.model_copy(update={"plans": judged})
        excluded = dict.fromkeys((*search.excluded, *merged.excluded))
        search = search.model_copy(update={"excluded": tuple(excluded), "any_modality": False})
        if not context.interactive and (named := _other_modality(targets, context, available)):
            text = f"{named} The image was searched all the same: nobody could be asked."
            search = search.with_caution(Caution(kind="other_modality", text=text))
    return answer(runtime, search, merged, "plan_search", say=_understood(merged) if context.converse else "")


def _check(plans: tuple[AnatomyPlan, ...], context: Context) -> tuple[str, ...]:
    """Remarks on what is searched in place of the targets. Missing weights, an organ that cannot be located, another
    target than the calibration's: a single run ends here, before long work; a conversation continues with what was
    there.
    """
    remarks: list[str] = []
    try:
        for plan in plans:
            remarks.extend(check_plan(context.segmenter, plan))
            context.anchor_source.check(context.volume.modality, plan.anchors)
            context.check_calibration(plan)
    except R2SegError as error:
        if not context.converse:
            raise
        raise ToolUseError(f"{error.message} {error.hint}".strip()) from error
    return tuple(remarks)


def _understood(planned: PlanSearchResult) -> str:
    """How the user's words were read, for a conversation."""
    if not planned.plans:
        return ""
    names = [f"{plan.target_name}{f' ({plan.laterality})' if plan.laterality else ''}" for plan in planned.plans]
    left_out = f", leaving out: {', '.join(planned.excluded)}" if planned.excluded else ""
    return f"I search for: {', '.join(names)}{left_out}."


def _other_modality(targets: list[str], context: Context, available: frozenset[str]) -> str:
    """The question about the modality that `targets` raise, "" when they raise none."""
    for phrase in targets:
        asked = plan_request(phrase, context.volume.modality, anchors_available=available).clarification
        if asked is not None and any(choice.kind == "keep_image" for choice in asked.choices):
            return asked.question
    return ""


def _settled_by_default(phrase: str, context: Context, available: frozenset[str]) -> bool:
    """Where nobody can be asked, an image of another modality than the request names is searched, with a note."""
    return not context.interactive and bool(_other_modality([phrase], context, available))


def _with_plan(search: SearchState, plan: AnatomyPlan) -> SearchState:
    """`search` with a target for `plan`; one that was searched before by the same words starts again."""
    for index, target in enumerate(search.targets):
        old = target.original_plan
        if (old.target, old.laterality, old.anchors) == (plan.target, plan.laterality, plan.anchors):
            return search.reset_target(index, plan)
    new = TargetState(plan=plan, original_plan=plan)
    return search.model_copy(update={"targets": (*search.targets, new), "outcome": None})


def _merge(planned: list[PlanSet]) -> PlanSearchResult:
    for planset in planned:
        if planset.clarification is not None:
            return PlanSearchResult(question=planset.clarification.question, choices=planset.clarification.choices)
    plans: dict[tuple[str, str | None, tuple[str, ...]], AnatomyPlan] = {}
    for planset in planned:
        for plan in planset.plans:
            plans.setdefault((plan.target, plan.laterality, plan.anchors), plan)
    return PlanSearchResult(
        plans=tuple(plans.values()),
        excluded=tuple(dict.fromkeys(name for planset in planned for name in planset.excluded)),
    )
