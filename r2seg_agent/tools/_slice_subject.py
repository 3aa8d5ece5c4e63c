"""What a picture of `show_slices` is of: a finding, a rejected candidate, the searched region; its scene and slice."""

from __future__ import annotations

from dataclasses import dataclass

from r2seg_agent.method.models import Candidate, Finding
from r2seg_agent.report.decisions import reason
from r2seg_agent.report.masks import candidate_mask, lesion_labels
from r2seg_agent.report.planes import Plane
from r2seg_agent.report.scene import Scene, display_window, middle_of, slice_of_finding
from r2seg_agent.tools._runtime import ToolUseError
from r2seg_agent.tools.context import Context
from r2seg_agent.tools.lookup import all_findings, finding_by_number, rejected_candidates
from r2seg_agent.tools.referents import target_of
from r2seg_agent.tools.state import SearchState, TargetState


@dataclass(frozen=True)
class Subject:
    """What a picture is of: `name` for its caption, `place` in patient terms (or why it was rejected)."""

    name: str
    place: str
    target: TargetState
    finding: Finding | None = None
    rejected: Candidate | None = None


def subject_of(context: Context, search: SearchState, finding: int, rejected: int, number: int) -> Subject:
    """The finding or the rejected candidate with this number, else the searched region of target `number` (0: the last
    one's). `ToolUseError` for what is not there."""
    if finding and rejected:
        raise ToolUseError("give `finding` or `rejected`, not both")
    if finding:
        found = finding_by_number(context, search, finding)
        target = search.targets[target_of(found.candidate) - 1]
        return Subject(f"finding {finding} ({found.target_name})", found.measurements.place, target, found)
    if rejected:
        known = rejected_candidates(context, search)
        if rejected > len(known):
            legal = f"there are 1 to {len(known)}" if known else "nothing was rejected"
            raise ToolUseError(f"there is no rejected candidate {rejected}; {legal}")
        candidate = known[rejected - 1]
        target = search.targets[target_of(candidate) - 1]
        return Subject(f"rejected candidate {rejected}", reason(candidate), target, rejected=candidate)
    searched = {n: target for n, target in enumerate(search.targets, start=1) if target.anchors or target.rounds}
    if not searched:
        raise ToolUseError("nothing was searched yet; plan a search with `plan_search` first")
    if number and number not in searched:
        raise ToolUseError(f"target {number} was not searched; there are: {', '.join(map(str, searched))}")
    last = searched[number or max(searched)]
    return Subject(f"the middle of what was searched for {last.original_plan.target_name}", "", last)


def scene_of(context: Context, search: SearchState, target: TargetState, *, whole: bool) -> Scene:
    """The scan with anchor and findings outlined; for a look at the `whole` searched region its boxes too."""
    findings = all_findings(context, search)
    return Scene(
        volume=context.volume,
        window=display_window(context.volume, target.plan.window),
        anchors=context.anchors_of(target),
        organs=target.plan.anchors,
        labels=lesion_labels(context.store, findings, context.volume.geometry.shape) if findings else None,
        rois=tuple(roi.box for roi in target.rois) if whole else (),
        names={f.number: f"{f.number} {f.target_name}" for f in findings},
    )


def slice_of(context: Context, subject: Subject, scene: Scene, plane: Plane) -> int:
    """The slice that shows the subject best: a finding's own, or the one with most of a rejected candidate."""
    axis = plane.slice_axis
    if subject.finding is not None:
        return slice_of_finding(scene, subject.finding, plane)
    if subject.rejected is not None:
        mask = candidate_mask(context.store, subject.rejected)
        areas = mask.sum(axis=tuple(a for a in range(3) if a != axis))
        return subject.rejected.box.start[axis] + int(areas.argmax())
    return middle_of(scene)[axis]
