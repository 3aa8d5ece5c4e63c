"""`locate_finding`: where a finding is, in patient terms and in millimetres."""

from __future__ import annotations

from langgraph.types import Command

from r2seg_agent.method.models import Finding
from r2seg_agent.report.planes import axial_axis, is_picture
from r2seg_agent.tools._runtime import (
    NO_FINDING,
    Runtime,
    ToolCard,
    ToolResult,
    answer,
    context_of,
    search_of,
    search_tool,
)
from r2seg_agent.tools.context import Context
from r2seg_agent.tools.lookup import finding_by_number


class LocateFindingResult(ToolResult):
    """Position of a finding. LPS: +x to the patient's left, +y to the back, +z to the head, in mm; `slice` is the axial
    one in which it is widest, counted from 1.
    """

    finding: int
    place: str
    centroid_lps_mm: tuple[float, float, float]
    slice: int

    def line(self) -> str:
        """See `ToolResult`."""
        return f"finding {self.finding}: {self.place}"


@search_tool(
    "locate_finding",
    ToolCard(
        asked_by='"where?"',
        unavailable=NO_FINDING,
    ),
)
def locate_finding(finding: int, runtime: Runtime) -> Command[str]:
    """Say where a finding (by its number) lies: organ, side, third, distance to the surface, position in mm."""
    search, context = search_of(runtime), context_of(runtime)
    found = finding_by_number(context, search, finding)
    x, y, z = found.measurements.centroid_lps_mm
    result = LocateFindingResult(
        finding=finding,
        place=found.measurements.place,
        centroid_lps_mm=(round(x, 1), round(y, 1), round(z, 1)),
        slice=found.measurements.diameter_slice + 1,
    )
    search = search.model_copy(update={"focus": finding})
    return answer(runtime, search, result, "locate_finding", say=_sentence(found, context))


def _sentence(found: Finding, context: Context) -> str:
    m, geometry = found.measurements, context.volume.geometry
    head = f"Finding {found.number} ({found.target_name}) lies here: {m.place}."
    if is_picture(context.volume):
        _, row, column = m.centroid_zyx
        return f"{head} Its centre is at column {column:.0f}, row {row:.0f} of the picture."
    x, y, z = (f"{v:.1f}".replace("-", "−") for v in m.centroid_lps_mm)
    at = f"Its centre is at x {x}, y {y}, z {z} mm (LPS: to the patient's left, back and head)"
    n = geometry.shape[axial_axis(geometry)]
    return (
        f"{head} {at}."
        if geometry.is_2d
        else f"{head} {at}; it is widest in axial slice {m.diameter_slice + 1} of {n}."
    )
