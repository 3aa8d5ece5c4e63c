"""`segment_lesions`: the frozen model looks inside the ROIs; what it marks becomes candidates."""

from __future__ import annotations

import numpy as np
from langchain_core.tools import tool
from langgraph.types import Command

from r2seg_agent.frozen import Frozen
from r2seg_agent.reject.gates import presence_gates
from r2seg_agent.segment.candidates import MAX_CANDIDATES, find_candidates
from r2seg_agent.segment.features import anchor_statistics, describe
from r2seg_agent.segment.rois import search_mask, search_mask_on_grid, segment_rois, union_box
from r2seg_agent.store.refs import ArtifactRef
from r2seg_agent.tools._runtime import Runtime, answer, context_of, search_of, target_at
from r2seg_agent.tools.context import Context
from r2seg_agent.tools.regions import StoredRegions, store_regions
from r2seg_agent.tools.state import TargetState
from r2seg_agent.version import __version__

MAX_PIECES = 5_000
"""Most pieces of a mask of the whole image that are told apart; those with the smallest score are dropped, counted."""
PRESENCE_THRESHOLDS = {"p_max", "positive_ratio", "p_ks"}
"""The gate settings that the stored candidates depend on (L1)."""


class SegmentLesionsResult(Frozen):
    """How many candidates the model proposed, how large they are, and what was too small or too thin to be one."""

    segmenter: str
    stand_in: bool
    candidates: int
    volumes_ml: tuple[float, ...]
    too_small: int
    too_thin: int
    over_limit: int
    artifact: str


@tool("segment_lesions")
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
        volumes_ml=tuple(round(one.features.volume_mm3 / 1000.0, 3) for one in stored.regions),
        too_small=stored.n_small,
        too_thin=stored.n_thin,
        over_limit=stored.n_over_limit,
        artifact=stored.labels.sha256,
    )
    return answer(runtime, search, result, "segment_lesions", artifacts={"regions": ref, "labels": stored.labels})


def _segment(context: Context, state: TargetState) -> tuple[StoredRegions, ArtifactRef]:
    """The candidates from the store, or found now: the key is scan, anchors, ROIs, plan, segmenter and L1 thresholds.

    So presets that differ only in what Reject does share one pass of the model.
    """
    regions = context.parts.regions
    recipe = {
        "step": "candidates",
        "r2seg": __version__,
        "image": context.image.sha256,
        "anchors": None if state.anchors is None else state.anchors.sha256,
        "rois": [roi.model_dump(mode="json") for roi in state.rois],
        "plan": state.plan.model_dump(mode="json", exclude={"rationale"}),
        "own": state.original_plan.anchors,
        "segmenter": context.segmenter.info.model_dump(mode="json"),
        "presence": context.gates.model_dump(mode="json", include=PRESENCE_THRESHOLDS),
    }
    if (known := context.store.recall(recipe)) is not None:
        return StoredRegions.model_validate_json(context.store.json(known)), known
    volume, plan, own = context.volume, state.plan, state.original_plan.anchors
    anchors = context.anchors_of(state)
    probabilities = segment_rois(context.segmenter, volume, anchors, plan, own, state.rois, context.progress)
    context.progress("candidates", 0, 2, "components")
    found = find_candidates(
        probabilities, volume.geometry, cut=regions, max_candidates=MAX_CANDIDATES if regions else MAX_PIECES
    )
    box = union_box(state.rois)
    outermost = next((p for p in probabilities if p.box == box), None)
    presence = presence_gates(
        volume,
        probabilities if outermost is None else [outermost],
        search_mask(anchors, plan, own, box),
        box,
        context.gates,
    )
    probabilities.clear()
    context.progress("candidates", 1, 2, f"describe {len(found.regions)}")
    mask = np.ones(volume.geometry.shape, bool) if anchors is None else search_mask_on_grid(anchors, plan, own, box)
    statistics = anchor_statistics(volume, mask)
    edge_mm = context.segmenter.info.edge_mm if regions else 0.0
    features = [describe(region, volume, mask, statistics, edge_mm=edge_mm) for region in found.regions]
    stored, ref = store_regions(
        context.store,
        box,
        volume.geometry,
        found.regions,
        features,
        presence,
        (found.n_small, found.n_thin, found.n_over_limit),
    )
    context.store.remember(recipe, ref)
    context.progress("candidates", 2, 2, "")
    return stored, ref
