"""`locate_finding`: where a finding is, in patient terms and in millimetres."""

from __future__ import annotations

from langchain_core.tools import tool
from langgraph.types import Command

from r2seg_agent.frozen import Frozen
from r2seg_agent.tools._use import Runtime, answer, context_of, search_of
from r2seg_agent.tools.evidence import finding_by_number


class LocateFindingResult(Frozen):
    """Position of a finding. LPS: +x to the patient's left, +y to the back, +z to the head, in mm."""

    finding: int
    place: str
    centroid_lps_mm: tuple[float, float, float]
    slice: int


@tool("locate_finding")
def locate_finding(finding: int, runtime: Runtime) -> Command[str]:
    """Say where a finding (by its number) lies: organ, side, third, distance to the surface, position in mm."""
    search = search_of(runtime)
    found = finding_by_number(context_of(runtime), search, finding)
    x, y, z = found.measurements.centroid_lps_mm
    result = LocateFindingResult(
        finding=finding,
        place=found.measurements.place,
        centroid_lps_mm=(round(x, 1), round(y, 1), round(z, 1)),
        slice=found.measurements.diameter_slice,
    )
    return answer(runtime, search, result, "locate_finding")
