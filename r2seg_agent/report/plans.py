"""A plan in words."""

from __future__ import annotations

from r2seg_agent.reason.plan import AnatomyPlan
from r2seg_agent.report.place import organ_name


def plan_line(plan: AnatomyPlan) -> str:
    """Target, organs, margin, scales, volume and contrast in one line."""
    low, high = plan.expected_volume_ml
    organs = ", ".join(organ_name(organ) for organ in plan.anchors)
    scales = ", ".join(f"{scale:g}" for scale in plan.scales)
    outside = ", ".join(organ_name(organ) for organ in plan.not_inside)
    place = f"{organs}, not inside {outside}" if outside else organs
    return (
        f"{plan.target_name}: in {place}, margin {plan.padding_mm:g} mm, scales {scales}, {low:g} to {high:g} ml, "
        f"{plan.expected_contrast} contrast"
    )
