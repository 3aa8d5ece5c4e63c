"""`reject_candidates`: which candidates differ from normal tissue, by the run's Reject mode."""

from __future__ import annotations

from collections import Counter

from langgraph.types import Command

from r2seg_agent.cautions import Caution
from r2seg_agent.errors import InputError
from r2seg_agent.imaging.volume import Modality
from r2seg_agent.method.models import Candidate, SearchRound
from r2seg_agent.method.round import judge_round
from r2seg_agent.reject.decide import Decided, Rejection
from r2seg_agent.reject.profile import profile_warnings
from r2seg_agent.reject.settings import RejectSettings, describe_mode, threshold_of
from r2seg_agent.report.decisions import brief_reason
from r2seg_agent.segment.regions.score import shipped
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
from r2seg_agent.tools.stored_proposals import StoredProposals, load_proposals
from r2seg_agent.trace.evidence import store_evidence

MAX_NAMED = 6
"""Survivors that the line of the result names."""


class RejectCandidatesResult(ToolResult):
    """What survived and what did not, with the mode's guarantee; `warnings` say where the scan is unlike those that
    the guarantee speaks of."""

    mode: str
    valid: bool
    survivors: tuple[str, ...]
    rejected: dict[str, Rejection]
    warnings: tuple[Caution, ...] = ()

    def line(self) -> str:
        """See `ToolResult`."""
        shown = ", ".join(self.survivors[:MAX_NAMED]) + (" …" if len(self.survivors) > MAX_NAMED else "")
        kept = f"{len(self.survivors)} survived ({shown})" if self.survivors else "none survived"
        if self.mode == "reference":
            return f"{kept}, {len(self.rejected)} less certain (reference mode: a ranking, no error rate)"
        return f"{kept}, {len(self.rejected)} rejected ({self.mode} mode{'' if self.valid else ', not FDR-valid'})"

    def points(self) -> tuple[str, ...]:
        """How many fell for which reason, the commonest first."""
        counted = Counter(brief_reason(why.cause, why.failed_gate) for why in self.rejected.values())
        return tuple(f"{n} × {why}" for why, n in sorted(counted.items(), key=lambda item: (-item[1], item[0])))


@search_tool("reject_candidates", ToolCard(part_of_search=True))
def reject_candidates(target: int, runtime: Runtime) -> Command[str]:
    """Test every candidate of a target (1-based number) against normal tissue and reject what does not differ."""
    search = search_of(runtime)
    index, state = target_at(search, target, ("segmented",), "reject_candidates")
    context = context_of(runtime)
    settings = context.reject_for(search)
    round_ = _reject(context, state, target, settings)
    ref = context.store.put_json(round_.model_dump(mode="json"))
    search = search.with_target(index, stage="rejected", rounds=(*state.rounds, ref), survivors=round_.survivors)
    search = search.model_copy(update={"p_seen": search.p_seen or settings.mode in ("paper", "conformal")})
    mode = describe_mode(settings, context.calibration)
    warnings = _unlike_the_calibration(context, round_, settings)
    search = search.with_caution(*warnings)
    result = RejectCandidatesResult(
        mode=mode.mode,
        valid=mode.valid,
        survivors=round_.survivors,
        rejected={
            c.id: Rejection(cause=c.cause, failed_gate=c.failed_gate)
            for c in round_.candidates
            if c.decision == "rejected"
        },
        warnings=warnings,
    )
    return answer(
        runtime,
        search,
        result,
        "reject_candidates",
        artifacts={"round": ref, **({"evidence": round_.evidence} if round_.evidence is not None else {})},
    )


def _reject(context: Context, state: TargetState, number: int, settings: RejectSettings) -> SearchRound:
    assert state.regions is not None
    context.progress("reject", 0, 1, "")
    stored, proposals = load_proposals(context.store, state.regions)
    area = context.area_of(state)
    judged = judge_round(
        area,
        proposals,
        settings=settings,
        seed=context.seed,
        segmenter=context.segmenter,
        parts=context.parts,
        gates=context.gates,
        round_index=state.round_index,
        calibration=context.calibration,
        identity=context.calibration_identity(state.original_plan),
    )
    candidates = _candidates(stored, judged.decided, number, state.round_index)
    if settings.mode == "reference":
        candidates = tuple(_with_reference(c, context.volume.modality) for c in candidates)
    context.progress("reject", 1, 1, "")
    located = area.anchors is not None
    return SearchRound(
        index=state.round_index,
        why=state.why or ("the plan's own regions" if located else "the whole image"),
        padding_mm=area.plan.padding_mm if located else 0.0,
        anchors=area.plan.anchors if located else (),
        rois=state.rois,
        candidates=candidates,
        case_gates=judged.case_gates,
        survivors=tuple(c.id for c in candidates if c.decision == "survived"),
        site=area.plan.site,
        mode=settings.mode,
        alpha=settings.alpha,
        threshold=threshold_of(settings, context.calibration),
        n_reference=len(judged.evidence.y),
        evidence=store_evidence(context.store, judged.evidence),
        profile=judged.profile,
    )


def _with_reference(candidate: Candidate, modality: Modality) -> Candidate:
    """With what such a score was worth in the reference set."""
    if candidate.score is None:
        return candidate
    return candidate.model_copy(update={"reference": shipped()[0].share(candidate.score, modality)})


def _unlike_the_calibration(context: Context, round_: SearchRound, settings: RejectSettings) -> tuple[Caution, ...]:
    if settings.mode != "conformal" or context.calibration is None or round_.profile is None:
        return ()
    calibration = context.calibration
    texts = profile_warnings(calibration.profiles, round_.profile)
    unlike = tuple(Caution(kind="unlike_calibration", text=text) for text in texts)
    if not calibration.synthetic:
        return unlike
    if texts:
        raise InputError(
            f"the calibration's phantoms are not like this scan: {' '.join(texts)}",
            "Make phantoms like it: `r2seg calibrate --builtin SCAN`; or calibrate on lesion-free patients.",
        )
    says = (
        f"The calibration's {calibration.n_cases} lesion-free cases are SYNTHETIC phantoms like this scan: its "
        "p-values hold for such phantoms, and no patient is one."
    )
    return (Caution(kind="synthetic_calibration", text=says),)


def _candidates(
    stored: StoredProposals, decided: tuple[Decided, ...], target: int, round_index: int
) -> tuple[Candidate, ...]:
    return tuple(
        Candidate(
            id=f"t{target}r{round_index}c{row.label}",
            ref=stored.labels,
            ref_box=stored.box,
            label=row.label,
            box=row.box,
            scale=row.scale,
            features=row.features,
            score=verdict.score,
            p=verdict.p,
            q=verdict.q,
            n_sampled=verdict.n_sampled,
            gates=verdict.gates,
            decision="survived" if verdict.survived else "rejected",
            cause=verdict.cause,
            failed_gate=verdict.failed_gate,
        )
        for row, verdict in zip(stored.regions, decided, strict=True)
    )
