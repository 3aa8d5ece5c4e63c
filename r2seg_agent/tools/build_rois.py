"""`build_rois`: the boxes to segment in, from the anchors and the plan."""

from __future__ import annotations

from langgraph.types import Command

from r2seg_agent.method.round import search_rois
from r2seg_agent.reason.roi import ROI
from r2seg_agent.report.format import plural
from r2seg_agent.tools._runtime import (
    Runtime,
    ToolCard,
    ToolResult,
    answer,
    context_of,
    search_of,
    search_tool,
    target_at,
)
from r2seg_agent.tools.state import Stage


class BuildRoisResult(ToolResult):
    """The ROIs of this round, smallest scale first."""

    round: int
    rois: tuple[ROI, ...]

    def line(self) -> str:
        """See `ToolResult`."""
        scales = ", ".join(f"{roi.scale:g}" for roi in self.rois)
        return f"round {self.round}: {plural(len(self.rois), 'region')} at scale {scales}"


@search_tool("build_rois", ToolCard(part_of_search=True))
def build_rois_tool(target: int, runtime: Runtime) -> Command[str]:
    """Build the multi-scale regions of interest of a target (1-based number) around its located organs."""
    search, context = search_of(runtime), context_of(runtime)
    stages: tuple[Stage, ...] = ("anchored",) if context.parts.regions else ("planned",)
    index, state = target_at(search, target, stages, "build_rois")
    rois = search_rois(context.volume, context.anchors_of(state), state.plan)
    search = search.with_target(index, stage="roi_built", rois=rois)
    return answer(runtime, search, BuildRoisResult(round=state.round_index, rois=rois), "build_rois")
