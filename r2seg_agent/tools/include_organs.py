"""`include_organs`: the user wants more organs searched for a target."""

from __future__ import annotations

from typing import Annotated

from langgraph.types import Command
from pydantic import Field

from r2seg_agent.errors import R2SegError
from r2seg_agent.reason import anatomy
from r2seg_agent.segment.rois import NEAR_MM
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
from r2seg_agent.tools._words import organ_names
from r2seg_agent.tools.context import Context

MAX_LISTED = 15
"""Organs of an anchor source that an error lists."""


class IncludeOrgansResult(ToolResult):
    """The organs that were added and all that the target is now searched in and around."""

    target: int
    added: tuple[str, ...]
    anchors: tuple[str, ...]

    def line(self) -> str:
        """See `ToolResult`."""
        return f"target {self.target}: {organ_names(self.added)} added; now in {organ_names(self.anchors)}"


@search_tool("include_organs", ToolCard(asked_by='"include the …"'))
def include_organs(
    target: int,
    organs: Annotated[
        list[str], Field(min_length=1, max_length=8, description="Organs to search too: 'duodenum', 'left kidney'.")
    ],
    runtime: Runtime,
) -> Command[str]:
    """Search a target (1-based number) again, with the parts of further organs that border on its own."""
    search, context = search_of(runtime), context_of(runtime)
    if not 1 <= target <= len(search.targets):
        raise ToolUseError(f"there is no target {target}; there are 1 to {len(search.targets)}")
    state = search.targets[target - 1]
    plan = state.original_plan
    wanted = dict.fromkeys(name for text in organs for name in _resolved(text, context))
    added = tuple(name for name in wanted if name not in (*plan.anchors, *state.included))
    if not added:
        names = _listed(tuple(wanted))
        raise ToolUseError(f"the {names} {'is' if len(wanted) == 1 else 'are'} searched for {plan.target_name} already")
    if context.reject.compares_cases:
        raise ToolUseError(
            f"the {_listed(added)} cannot be included in {context.reject.mode} mode: the calibration's cases were not "
            f"searched there, so its p-values would not hold; plan a search of its own for the {_listed(added)}"
        )
    try:
        context.anchor_source.check(context.volume.modality, (*plan.anchors, *added))
    except R2SegError as error:
        raise ToolUseError(f"the {_listed(added)} cannot be included: {error.message}") from error
    search = search.with_target(target - 1, included=(*state.included, *added)).reset_target(target - 1)
    search = search.model_copy(update={"focus": None})
    anchors = search.targets[target - 1].plan.anchors
    result = IncludeOrgansResult(target=target, added=added, anchors=anchors)
    say = (
        f"I understand: {plan.target_name} is to be searched in the {_listed(added)} too, as far as "
        f"{'it borders' if len(added) == 1 else 'they border'} on the {_listed(plan.anchors)} (within {NEAR_MM:g} mm). "
        f"For lesions of its own there, ask “what about the {_listed(added[:1])}?”."
    )
    return answer(runtime, search, result, "include_organs", say=say)


def _resolved(text: str, context: Context) -> tuple[str, ...]:
    """Canonical names that the anchor source can find; `ToolUseError` with the nearest or legal ones."""
    name = anatomy.canonical_organ(text)
    if name is None:
        near = ", ".join(anatomy.organ(near_name).display for near_name in anatomy.nearest_organs(text))
        raise ToolUseError(f"`{text[:40]}` is no organ that I know; nearest names: {near}")
    source = context.anchor_source
    available = source.organs(context.volume.modality)
    parts = anatomy.expand(name)
    for names in ((name,) if name in available else (), parts):
        if names and all(part in available for part in names):
            return names
    in_reach = sorted(available & anatomy.organs().keys())
    shown = ", ".join(anatomy.organ(organ).display for organ in in_reach[:MAX_LISTED])
    more = f" and {len(in_reach) - MAX_LISTED} more" if len(in_reach) > MAX_LISTED else ""
    display = anatomy.organ(name).display
    raise ToolUseError(
        f"the anchors of this run ({source.info.name}) cannot find the {display}; they find: {shown}{more}"
    )


def _listed(names: tuple[str, ...]) -> str:
    known = anatomy.organs()
    shown = [known[name].display if name in known else name.replace("_", " ") for name in names]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
