"""`build_rois`: the boxes to segment in, from the anchors and the plan."""

from __future__ import annotations

from langchain_core.tools import tool
from langgraph.types import Command

from r2seg_agent.frozen import Frozen
from r2seg_agent.reason.roi import ROI, build_rois
from r2seg_agent.tools._use import Runtime, answer, context_of, search_of, target_at


class BuildRoisResult(Frozen):
    """The ROIs of this round, smallest scale first."""

    round: int
    rois: tuple[ROI, ...]


@tool("build_rois")
def build_rois_tool(target: int, runtime: Runtime) -> Command[str]:
    """Build the multi-scale regions of interest of a target (1-based number) around its located organs."""
    search = search_of(runtime)
    index, state = target_at(search, target, ("anchored",), "build_rois")
    assert state.anchors is not None
    anchors = context_of(runtime).anchor_set(state.anchors, dict(state.anchor_labels))
    rois = build_rois(anchors, state.plan)
    search = search.with_target(index, stage="roi_built", rois=rois)
    return answer(runtime, search, BuildRoisResult(round=state.round_index, rois=rois), "build_rois")
