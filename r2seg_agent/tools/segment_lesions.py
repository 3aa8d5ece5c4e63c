"""`segment_lesions`: the frozen model looks inside the ROIs; what it marks becomes candidates."""

from __future__ import annotations

from langgraph.types import Command

from r2seg_agent.method.round import propose
from r2seg_agent.report.format import plural
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
from r2seg_agent.tools.context import Context
from r2seg_agent.tools.state import TargetState
from r2seg_agent.tools.stored_proposals import StoredProposals, store_proposals
from r2seg_agent.version import __version__

PRESENCE_THRESHOLDS = {"p_max", "positive_ratio", "p_ks"}
"""The gate settings that the stored candidates depend on (L1)."""


class SegmentLesionsResult(ToolResult):
    """How many candidates the model proposed, how large they are, and what was too small or too thin to be one."""

    segmenter: str
    stand_in: bool
    candidates: int
    volumes_ml: tuple[float, ...]
    too_small: int
    too_thin: int
    over_limit: int
    artifact: str

    def line(self) -> str:
        """See `ToolResult`."""
        counts = ((self.too_small, "too small"), (self.too_thin, "too thin"), (self.over_limit, "beyond the limit"))
        dropped = ", ".join(f"{n} {why}" for n, why in counts if n)
        by = f"{self.segmenter}{' (a stand-in)' if self.stand_in else ''}"
        return f"{plural(self.candidates, 'candidate')} by {by}{f'; left out: {dropped}' if dropped else ''}"


@search_tool("segment_lesions", ToolCard(part_of_search=True))
def segment_lesions(target: int, runtime: Runtime) -> Command[str]:
    """Segment the lesions of a target (1-based number) in its regions of interest with this run's frozen model."""
    search = search_of(runtime)
    index, state = target_at(search, target, ("roi_built",), "segment_lesions")
    stored, ref = _segment(context_of(runtime), state)
    search = search.with_target(index, stage="segmented", regions=ref)
    info = context_of(runtime).segmenter.info
    result = SegmentLesionsResult(
        segmenter=info.name,
        stand_in=info.stand_in,
        candidates=len(stored.regions),
        volumes_ml=tuple(round(region.features.volume_mm3 / 1000.0, 3) for region in stored.regions),
        too_small=stored.n_small,
        too_thin=stored.n_thin,
        over_limit=stored.n_over_limit,
        artifact=stored.labels.sha256,
    )
    return answer(runtime, search, result, "segment_lesions", artifacts={"regions": ref, "labels": stored.labels})


def _segment(context: Context, state: TargetState) -> tuple[StoredProposals, ArtifactRef]:
    """The candidates from the store, or found now: the key is scan, anchors, ROIs, plan, segmenter and L1 thresholds.

    So presets that differ only in what Reject does share one pass of the model.
    """
    recipe = {
        "step": "candidates",
        "r2seg": __version__,
        "image": context.image.sha256,
        "anchors": None if state.anchors is None else state.anchors.sha256,
        "rois": [roi.model_dump(mode="json") for roi in state.rois],
        "plan": state.plan.model_dump(mode="json", exclude={"rationale", "not_used", "mimics", "not_inside"}),
        "own": state.original_plan.anchors,
        "segmenter": context.segmenter.info.model_dump(mode="json"),
        "presence": context.gates.model_dump(mode="json", include=PRESENCE_THRESHOLDS),
        "ranked_by": context.reject.region_score_sha256,
    }
    if (known := context.store.recall(recipe)) is not None:
        return StoredProposals.model_validate_json(context.store.json(known)), known
    proposals = propose(
        context.area_of(state),
        context.segmenter,
        parts=context.parts,
        gates=context.gates,
        ranked=context.reject.ranks_regions,
        progress=context.progress,
    )
    stored, ref = store_proposals(context.store, context.volume.geometry, proposals)
    context.store.remember(recipe, ref)
    context.progress("candidates", 2, 2, "")
    return stored, ref
