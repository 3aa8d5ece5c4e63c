"""`show_slices`: a picture of a finding, of a rejected candidate, or of the searched region, for the user."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

from langgraph.types import Command
from pydantic import Field

from r2seg_agent.report.canvas import Outline
from r2seg_agent.report.masks import candidate_mask
from r2seg_agent.report.overlay import draw_slice
from r2seg_agent.report.planes import Plane, planes
from r2seg_agent.report.scene import rejected_outline
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
from r2seg_agent.tools._slice_subject import scene_of, slice_of, subject_of
from r2seg_agent.tools.context import Context
from r2seg_agent.tools.state import SearchState


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
    subject = subject_of(context, search, finding, rejected, target)
    by_name: dict[str, Plane] = {p.name: p for p in planes(context.volume)}
    chosen = by_name.get(plane) or by_name.get("image")
    if chosen is None:
        raise ToolUseError(f"this image has no {plane} plane; it has: {', '.join(by_name)}")
    scene = scene_of(context, search, subject.target, whole=finding == 0 and rejected == 0)
    index = slice_of(context, subject, scene, chosen)
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
        slice=index + 1,
        caption=f"{subject.name}, {where}",
    )
    say = f"The picture shows {subject.name} in the {where}{f': {subject.place}' if subject.place else ''}."
    return Drawn(ref, result, say)
