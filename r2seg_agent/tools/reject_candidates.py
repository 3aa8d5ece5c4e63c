"""`reject_candidates`: which candidates differ from normal tissue, by the run's Reject mode."""

from __future__ import annotations

from langchain_core.tools import tool
from langgraph.types import Command

from r2seg_agent.frozen import Frozen
from r2seg_agent.method.models import Candidate, SearchRound
from r2seg_agent.reject.decide import Decided, judge
from r2seg_agent.reject.evidence import gather_evidence
from r2seg_agent.reject.gates import candidate_gates, case_gates, gates_of_mode
from r2seg_agent.reject.profile import ScanProfile, measure_profile, profile_warnings
from r2seg_agent.reject.settings import RejectSettings, describe_mode
from r2seg_agent.segment.rois import search_mask
from r2seg_agent.tools._runtime import Runtime, answer, context_of, search_of, target_at
from r2seg_agent.tools.context import Context
from r2seg_agent.tools.regions import StoredRegions, load_regions
from r2seg_agent.tools.state import TargetState
from r2seg_agent.trace.evidence import store_evidence


class RejectCandidatesResult(Frozen):
    """What survived and what did not, with the mode's guarantee; `warnings` say where the scan is unlike those that
    the guarantee speaks of."""

    mode: str
    valid: bool
    survivors: tuple[str, ...]
    rejected: dict[str, str]
    warnings: tuple[str, ...] = ()


@tool("reject_candidates")
def reject_candidates(target: int, runtime: Runtime) -> Command[str]:
    """Test every candidate of a target (1-based number) against normal tissue and reject what does not differ."""
    search = search_of(runtime)
    index, state = target_at(search, target, ("segmented",), "reject_candidates")
    context = context_of(runtime)
    settings = context.reject_for(search)
    one = _reject(context, state, target, settings)
    ref = context.store.put_json(one.model_dump(mode="json"))
    search = search.with_target(index, stage="rejected", rounds=(*state.rounds, ref), survivors=one.survivors)
    mode = describe_mode(settings, context.calibration)
    warnings = _unlike_the_calibration(context, one, settings)
    if new := [text for text in warnings if text not in search.notes]:
        search = search.model_copy(update={"notes": (*search.notes, *new)})
    result = RejectCandidatesResult(
        mode=mode.mode,
        valid=mode.valid,
        survivors=one.survivors,
        rejected={c.id: c.reason for c in one.candidates if c.decision == "rejected"},
        warnings=warnings,
    )
    return answer(
        runtime,
        search,
        result,
        "reject_candidates",
        artifacts={"round": ref, **({"evidence": one.evidence} if one.evidence is not None else {})},
    )


def _reject(context: Context, state: TargetState, number: int, settings: RejectSettings) -> SearchRound:
    assert state.regions is not None
    context.progress("reject", 0, 1, "")
    stored, regions = load_regions(context.store, state.regions)
    plan = state.plan
    anchors = context.anchors_of(state)
    gated = context.parts.gates != "none"
    features = [one.features for one in stored.regions]
    thresholds = gates_of_mode(settings.mode, context.gates)
    solid = not context.volume.geometry.is_2d
    whole_case = (*stored.presence, *case_gates(features, context.gates)) if gated else ()
    evidence = gather_evidence(
        context.volume,
        stored.box,
        search_mask(anchors, plan, state.original_plan.anchors, stored.box),
        regions,
        features,
        site=plan.site,
        settings=settings,
        seed=context.seed,
        gates=[candidate_gates(one, plan, thresholds, has_volume=solid) for one in features] if gated else None,
        case_gates=whole_case,
        calibration=context.calibration,
        round_index=state.round_index,
        identity=context.calibration_identity(state.original_plan),
        segmenter=context.segmenter,
        window=plan.window,
    )
    candidates = _candidates(stored, judge(evidence), number, state.round_index)
    context.progress("reject", 1, 1, "")
    return SearchRound(
        index=state.round_index,
        why=state.why or ("the whole image" if anchors is None else "the plan's own regions"),
        padding_mm=0.0 if anchors is None else plan.padding_mm,
        anchors=() if anchors is None else plan.anchors,
        rois=state.rois,
        candidates=candidates,
        case_gates=whole_case,
        survivors=tuple(c.id for c in candidates if c.decision == "survived"),
        evidence=store_evidence(context.store, evidence),
        profile=_profile(context, state, stored) if state.round_index == 1 else None,
    )


def _profile(context: Context, state: TargetState, stored: StoredRegions) -> ScanProfile | None:
    """The scan inside the plan's own anchors, which the ROIs of the first round hold; None where none was located."""
    anchors = context.anchors_of(state)
    if anchors is None:
        return None
    return measure_profile(context.volume.crop(stored.box), anchors.mask(state.original_plan.anchors, stored.box))


def _unlike_the_calibration(context: Context, one: SearchRound, settings: RejectSettings) -> tuple[str, ...]:
    if settings.mode != "conformal" or context.calibration is None or one.profile is None:
        return ()
    return profile_warnings(context.calibration.profiles, one.profile)


def _candidates(
    stored: StoredRegions, decided: tuple[Decided, ...], target: int, round_index: int
) -> tuple[Candidate, ...]:
    return tuple(
        Candidate(
            id=f"t{target}r{round_index}c{one.label}",
            ref=stored.labels,
            ref_box=stored.box,
            label=one.label,
            box=one.box,
            scale=one.scale,
            features=one.features,
            score=verdict.score,
            p=verdict.p,
            q=verdict.q,
            gates=verdict.gates,
            decision="survived" if verdict.survived else "rejected",
            reason=verdict.reason,
        )
        for one, verdict in zip(stored.regions, decided, strict=True)
    )
