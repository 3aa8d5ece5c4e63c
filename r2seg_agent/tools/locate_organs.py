"""`locate_organs`: where the plan's anchor organs are."""

from __future__ import annotations

from langgraph.types import Command

from r2seg_agent.cautions import Caution
from r2seg_agent.frozen import Frozen
from r2seg_agent.reason.anchors.plausible import PLAUSIBLE_ML, implausible
from r2seg_agent.reason.anchors.protocol import AnchorSet
from r2seg_agent.reject.vetoes import to_locate, without_mask
from r2seg_agent.report.format import format_ml
from r2seg_agent.report.place import organ_name
from r2seg_agent.store.refs import ArtifactRef
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
from r2seg_agent.tools._words import organ_names
from r2seg_agent.tools.context import Context
from r2seg_agent.version import __version__


class LocateOrgansResult(ToolResult):
    """Volumes in ml of the plan's organs (0: not in view) and what else is in view."""

    source: str
    stand_in: bool
    anchors_ml: dict[str, float]
    in_view: tuple[str, ...]
    artifact: str
    not_located: tuple[str, ...] = ()
    """Organs that the plan vetoes (`not_inside`) and these anchors do not hold."""

    def line(self) -> str:
        """See `ToolResult`."""
        volumes = self.anchors_ml.items()
        seen = [f"{organ_name(name)} {format_ml(ml) if ml > 0 else 'not in view'}" for name, ml in volumes]
        return f"{', '.join(seen)}, by {self.source}{' (a stand-in)' if self.stand_in else ''}"


class _StoredAnchors(Frozen):
    labels: ArtifactRef
    names: dict[str, tuple[int, ...]]
    volumes_ml: dict[str, float]
    notes: tuple[str, ...] = ()


@search_tool("locate_organs", ToolCard(part_of_search=True))
def locate_organs(target: int, runtime: Runtime) -> Command[str]:
    """Locate the anchor organs of a target (1-based number) with the anchor source of this run."""
    search = search_of(runtime)
    index, state = target_at(search, target, ("planned",), "locate_organs")
    context = context_of(runtime)
    plan = state.plan
    context.anchor_source.check(context.volume.modality, plan.anchors)  # `auto` settles by these before any others
    search = context.with_anchor_source(search)
    context.check_calibration(state.original_plan)
    further = to_locate(plan, context.anchor_source, context.volume.modality)
    organs = tuple(dict.fromkeys((*plan.anchors, *context.findable_neighbours(plan), *further)))
    stored = _locate(context, organs)
    in_view = tuple(sorted(name for name, ml in stored.volumes_ml.items() if ml > 0))
    wanted = {name: stored.volumes_ml.get(name, 0.0) for name in plan.anchors}
    search = search.with_target(
        index, stage="anchored", anchors=stored.labels, anchor_labels=stored.names, anchors_ml=stored.volumes_ml
    )
    for text in stored.notes:
        search = search.with_caution(Caution(kind="reading", text=text))
    if not any(wanted.values()):
        seen = ", ".join(in_view) if in_view else "no organ that this source knows"
        search = search.with_target(
            index,
            outcome="target_not_in_view",
            answer=f"{' and '.join(plan.anchors)} not in view of this scan; in view: {seen}.",
        )
    lacking = without_mask(plan, stored.names)
    if lacking:
        text = (
            f"The {organ_names(lacking)} {'was' if len(lacking) == 1 else 'were'} to be left out, and the anchors by "
            f"{context.anchor_source.info.name} do not hold {'it' if len(lacking) == 1 else 'them'}: candidates there "
            "are not rejected for it."
        )
        search = search.with_caution(Caution(kind="veto_not_applied", text=text))
    if context.anchor_source.info.kind == "model":
        for organ in implausible(wanted):
            search = search.with_caution(_implausible(organ, wanted[organ], context.anchor_source.info.name))
    result = LocateOrgansResult(
        source=context.anchor_source.info.name,
        stand_in=context.anchor_source.info.stand_in,
        anchors_ml={name: round(ml, 2) for name, ml in wanted.items()},
        in_view=in_view,
        artifact=stored.labels.sha256,
        not_located=lacking,
    )
    return answer(runtime, search, result, "locate_organs", artifacts={"anchors": stored.labels})


def _implausible(organ: str, ml: float, source: str) -> Caution:
    low, high = PLAUSIBLE_ML[organ]
    text = (
        f"The anchors by {source} give the {organ_names((organ,))} {format_ml(ml)}; a whole one of an adult has "
        f"{low:g} to {high:g} ml. Unless it is a child's or cut by the edge of the scan, the model does not fit "
        "this image."
    )
    return Caution(kind="implausible_anchors", text=text)


def _locate(context: Context, organs: tuple[str, ...]) -> _StoredAnchors:
    """The anchors from the store, or located now and stored: the key is scan, source, settings and organs."""
    context.anchor_source.check(context.volume.modality, organs)
    recipe = {
        "step": "anchors",
        "r2seg": __version__,
        "image": context.image.sha256,
        "source": context.anchor_source.info_for(context.volume.modality, organs).model_dump(mode="json"),
        "organs": sorted(organs),
    }
    if (known := context.store.recall(recipe)) is not None:
        return _StoredAnchors.model_validate_json(context.store.json(known))
    found: AnchorSet = context.anchor_source.locate(context.volume, organs, context.progress)
    stored = _StoredAnchors(
        labels=context.store.put_array("anchors", found.labels, found.geometry, {"recipe": recipe}),
        names={name: tuple(values) for name, values in found.names.items()},
        volumes_ml=found.volumes_ml(),
        notes=found.notes,
    )
    context.store.remember(recipe, context.store.put_json(stored.model_dump(mode="json")))
    return stored
