"""`show_slices`: a picture of a finding, of a rejected candidate, or of the searched region, for the user."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

from langgraph.types import Command
from pydantic import Field

from r2seg_agent.method.models import Candidate, Finding
from r2seg_agent.report.canvas import Outline
from r2seg_agent.report.decisions import reason
from r2seg_agent.report.masks import candidate_mask, lesion_labels
from r2seg_agent.report.overlay import draw_slice
from r2seg_agent.report.planes import Plane, planes
from r2seg_agent.report.scene import Scene, display_window, middle_of, rejected_outline
from r2seg_agent.store.refs import ArtifactRef
from r2seg_agent.tools._runtime import (
    Runtime,
    ShownPicture,
    ToolCard,
    ToolResult,
    ToolUseError,
    answer,
    context_of,
    search_of,
    search_tool,
)
from r2seg_agent.tools.context import Context
from r2seg_agent.tools.lookup import all_findings, finding_by_number, rejected_candidates
from r2seg_agent.tools.referents import target_of
from r2seg_agent.tools.state import SearchState, TargetState


class ShowSlicesResult(ToolResult):
    """The artifact id of the picture and what it shows; the pixels themselves never go to a model.

    `finding` and `rejected` are 0 where the picture is of the searched region.
    """

    picture: str
    finding: int
    rejected: int = 0
    plane: str
    slice: int
    caption: str = ""

    def line(self) -> str:
        """See `ToolResult`."""
        return self.caption or f"finding {self.finding}, {self.plane}"

    def shown_picture(self) -> ShownPicture:
        """The slice that was drawn."""
        return ShownPicture(sha256=self.picture, caption=self.caption)


@dataclass(frozen=True)
class _Subject:
    """What a picture is of: `name` for its caption, `place` in patient terms (or why it was rejected)."""

    name: str
    place: str
    target: TargetState
    finding: Finding | None = None
    rejected: Candidate | None = None


@search_tool("show_slices", ToolCard(asked_by='"show me"'))
def show_slices(
    runtime: Runtime,
    finding: Annotated[int, Field(ge=0, description="Number of a finding; 0: the middle of the searched region.")] = 0,
    plane: Literal["axial", "coronal", "sagittal"] = "axial",
    rejected: Annotated[int, Field(ge=0, description="Number of a rejected candidate, instead of a finding.")] = 0,
    target: Annotated[int, Field(ge=0, description="Whose searched region, with no finding; 0: the last one's.")] = 0,
) -> Command[str]:
    """Draw a slice for the user: through a finding, a rejected candidate, or the middle of the searched region."""
    search = search_of(runtime)
    drawn = draw(context_of(runtime), search, finding=finding, rejected=rejected, plane=plane, target=target)
    search = search.model_copy(update={"focus": finding}) if finding else search
    return answer(runtime, search, drawn.result, "show_slices", say=drawn.say, artifacts={"picture": drawn.ref})


class Drawn(NamedTuple):
    """A stored picture, what it shows, and the sentence that says so."""

    ref: ArtifactRef
    result: ShowSlicesResult
    say: str


def draw(
    context: Context, search: SearchState, *, finding: int = 0, rejected: int = 0, plane: str = "axial", target: int = 0
) -> Drawn:
    """Draw the slice that `show_slices` shows; `ToolUseError` for a number or a plane that is not there."""
    subject = _subject(context, search, finding, rejected, target)
    by_name: dict[str, Plane] = {p.name: p for p in planes(context.volume)}
    chosen = by_name.get(plane) or by_name.get("image")
    if chosen is None:
        raise ToolUseError(f"this image has no {plane} plane; it has: {', '.join(by_name)}")
    scene = _scene(context, search, subject.target, whole=finding == 0 and rejected == 0)
    index = _slice(context, subject, scene, chosen)
    extra: tuple[Outline, ...] = ()
    if subject.rejected is not None:
        mask = candidate_mask(context.store, subject.rejected)
        extra = (rejected_outline(scene, chosen, index, subject.rejected, mask),)
    note = f"{subject.name}: {subject.place}" if subject.place else subject.name
    ref = context.store.put_picture(
        lambda path: draw_slice(path, scene, chosen.name, index, note=note[:1].upper() + note[1:], extra=extra)
    )
    n = context.volume.geometry.shape[chosen.slice_axis]
    where = f"{chosen.name} slice {index + 1} of {n}" if n > 1 else f"{chosen.name} slice"
    where = "picture" if chosen.name == "image" else where
    result = ShowSlicesResult(
        picture=ref.sha256,
        finding=finding,
        rejected=rejected,
        plane=chosen.name,
        slice=index,
        caption=f"{subject.name}, {where}",
    )
    say = f"The picture shows {subject.name} in the {where}{f': {subject.place}' if subject.place else ''}."
    return Drawn(ref, result, say)


def _subject(context: Context, search: SearchState, finding: int, rejected: int, number: int) -> _Subject:
    if finding and rejected:
        raise ToolUseError("give `finding` or `rejected`, not both")
    if finding:
        found = finding_by_number(context, search, finding)
        target = search.targets[target_of(found.candidate) - 1]
        return _Subject(f"finding {finding} ({found.target_name})", found.measurements.place, target, found)
    if rejected:
        known = rejected_candidates(context, search)
        if rejected > len(known):
            legal = f"there are 1 to {len(known)}" if known else "nothing was rejected"
            raise ToolUseError(f"there is no rejected candidate {rejected}; {legal}")
        candidate = known[rejected - 1]
        target = search.targets[target_of(candidate) - 1]
        return _Subject(f"rejected candidate {rejected}", reason(candidate), target, rejected=candidate)
    searched = {n: target for n, target in enumerate(search.targets, start=1) if target.anchors or target.rounds}
    if not searched:
        raise ToolUseError("nothing was searched yet; plan a search with `plan_search` first")
    if number and number not in searched:
        raise ToolUseError(f"target {number} was not searched; there are: {', '.join(map(str, searched))}")
    last = searched[number or max(searched)]
    return _Subject(f"the middle of what was searched for {last.original_plan.target_name}", "", last)


def _scene(context: Context, search: SearchState, target: TargetState, *, whole: bool) -> Scene:
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


def _slice(context: Context, subject: _Subject, scene: Scene, plane: Plane) -> int:
    """The slice that shows the subject best: through a finding's centroid, or with most of a rejected candidate."""
    axis = plane.slice_axis
    if subject.finding is not None:
        return round(subject.finding.measurements.centroid_zyx[axis])
    if subject.rejected is not None:
        mask = candidate_mask(context.store, subject.rejected)
        areas = mask.sum(axis=tuple(a for a in range(3) if a != axis))
        return subject.rejected.box.start[axis] + int(areas.argmax())
    return middle_of(scene)[axis]
