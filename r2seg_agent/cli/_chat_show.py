"""The slice through a finding, drawn on the person's own demand: no turn, no model, nothing in the trace."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from r2seg_agent.errors import InputError

if TYPE_CHECKING:
    from r2seg_agent.graphs.session import Session
    from r2seg_agent.report.models import Finding


def slice_of(session: Session, finding: Finding, plane: str) -> tuple[Path, str]:
    """The picture (PNG) of the slice through the middle of `finding`, and its caption.

    A picture with one plane only is shown whatever `plane` says; else `InputError` names the planes there are.
    """
    from r2seg_agent.report.masks import lesion_labels
    from r2seg_agent.report.overlay import draw_slice
    from r2seg_agent.report.planes import planes
    from r2seg_agent.report.scene import Scene, display_window

    context = session.context
    by_name = {one.name: one for one in planes(context.volume)}
    chosen = next((one for name, one in by_name.items() if name == plane), by_name.get("image"))
    if chosen is None:
        raise InputError(f"this image has no {plane} plane", f"It has: {', '.join(by_name)}.")
    target = next(one for one in session.search.targets if one.plan.target == finding.target)
    assert target.anchors is not None  # it has a finding
    findings = session.findings()
    index = round(finding.measurements.centroid_zyx[chosen.slice_axis])
    scene = Scene(
        volume=context.volume,
        window=display_window(context.volume, target.plan.window),
        anchors=context.anchor_set(target.anchors, dict(target.anchor_labels)),
        organs=target.plan.anchors,
        labels=lesion_labels(context.store, findings, context.volume.geometry.shape),
        names={one.number: f"{one.number} {one.target_name}" for one in findings},
    )
    note = f"finding {finding.number}: {finding.measurements.place}"
    ref = context.store.put_picture(lambda path: draw_slice(path, scene, chosen.name, index, note=note))
    return context.store.path(ref.sha256, ".png"), f"finding {finding.number}, {chosen.name} slice {index + 1}"
