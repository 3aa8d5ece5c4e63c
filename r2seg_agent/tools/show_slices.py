"""`show_slices`: a picture of a finding or of the searched region, for the user."""

from __future__ import annotations

from typing import Literal

from langchain_core.tools import tool
from langgraph.types import Command

from r2seg_agent.frozen import Frozen
from r2seg_agent.report.masks import lesion_labels
from r2seg_agent.report.overlay import draw_slice
from r2seg_agent.report.planes import planes
from r2seg_agent.report.scene import Scene, display_window
from r2seg_agent.tools._use import Runtime, ToolUseError, answer, context_of, search_of
from r2seg_agent.tools.evidence import all_findings, finding_by_number


class ShowSlicesResult(Frozen):
    """The artifact id of the picture and what it shows; the pixels themselves never go to a model."""

    picture: str
    finding: int
    plane: str
    slice: int
    caption: str = ""


@tool("show_slices")
def show_slices(finding: int, plane: Literal["axial", "coronal", "sagittal"], runtime: Runtime) -> Command[str]:
    """Draw the slice through the centre of a finding (by its number) for the user."""
    search = search_of(runtime)
    context = context_of(runtime)
    found = finding_by_number(context, search, finding)
    by_name = {p.name: p for p in planes(context.volume)}
    chosen = by_name.get(plane) or by_name.get("image")
    if chosen is None:
        raise ToolUseError(f"this image has no {plane} plane; it has: {', '.join(by_name)}")
    target = next(t for t in search.targets if t.plan.target == found.target)
    assert target.anchors is not None
    index = round(found.measurements.centroid_zyx[chosen.slice_axis])
    findings = all_findings(context, search)
    scene = Scene(
        volume=context.volume,
        window=display_window(context.volume, target.plan.window),
        anchors=context.anchor_set(target.anchors, dict(target.anchor_labels)),
        organs=target.plan.anchors,
        labels=lesion_labels(context.store, findings, context.volume.geometry.shape),
        names={f.number: f"{f.number} {f.target_name}" for f in findings},
    )
    ref = context.store.put_picture(
        lambda path: draw_slice(path, scene, chosen.name, index, note=f"finding {finding}: {found.measurements.place}")
    )
    result = ShowSlicesResult(
        picture=ref.sha256,
        finding=finding,
        plane=chosen.name,
        slice=index,
        caption=f"finding {finding}, {chosen.name} slice {index + 1}",
    )
    return answer(runtime, search, result, "show_slices", artifacts={"picture": ref})
