"""One round of Reason-Segment-Reject as plain functions on frozen values: the method itself.

    area = search_area(volume, anchors, plan)      where to look: ROIs around the anchors
    proposals = propose(area, segmenter)           what the frozen model marks there, as candidates with features
    judged = judge_round(area, proposals, ...)     which of them differ from normal tissue

The tools of a run, the calibration, the ablation and the validity study all call these functions; only what they keep
of the results differs. Nothing here knows LangChain, a store or a trace.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from r2seg_agent.errors import InputError
from r2seg_agent.imaging.geometry import Box
from r2seg_agent.imaging.volume import Mask, Volume
from r2seg_agent.method.presets import WHOLE_METHOD, Parts
from r2seg_agent.progress import Progress, silent
from r2seg_agent.reason.anchors.protocol import AnchorSet
from r2seg_agent.reason.plan import AnatomyPlan
from r2seg_agent.reason.roi import ROI, build_rois, whole_image
from r2seg_agent.reject.calibration import Calibration, CalibrationIdentity
from r2seg_agent.reject.decide import Decided, judge
from r2seg_agent.reject.evidence import Evidence, gather_evidence
from r2seg_agent.reject.gates import (
    GateResult,
    GateSettings,
    candidate_gates,
    case_gates,
    gates_of_mode,
    presence_gates,
)
from r2seg_agent.reject.profile import ScanProfile, measure_profile
from r2seg_agent.reject.settings import RejectSettings
from r2seg_agent.reject.vetoes import veto_gate, vetoed
from r2seg_agent.segment.candidates import MAX_CANDIDATES, CandidateFeatures, Region, find_candidates
from r2seg_agent.segment.contrast import SIGNS
from r2seg_agent.segment.features import anchor_statistics, describe
from r2seg_agent.segment.protocol import OutlinesRegions, Segmenter
from r2seg_agent.segment.regions.describe import Prior
from r2seg_agent.segment.regions.select import ranked_regions
from r2seg_agent.segment.rois import search_mask, segment_rois, union_box

MAX_PIECES = 5_000
"""Most pieces of a mask of the whole image that are told apart; those with the smallest score are dropped, counted."""


@dataclass(frozen=True)
class SearchArea:
    """Where one round looks.

    `plan` is the plan as it stands in this round (widening changes its padding and anchors), `own` are the organs of
    the plan of the first round. `anchors` is None where no organ was located: then the whole image is searched.
    """

    volume: Volume
    anchors: AnchorSet | None
    plan: AnatomyPlan
    own: tuple[str, ...]
    rois: tuple[ROI, ...]

    @property
    def box(self) -> Box:
        """The smallest box around all ROIs."""
        return union_box(self.rois)

    @cached_property
    def mask(self) -> Mask:
        """M* inside `box` (z, y, x): where the lesion can lie and what counts as its normal tissue."""
        return search_mask(self.anchors, self.plan, self.own, self.box)

    def mask_in(self, box: Box) -> Mask:
        """M* inside another box than `box` (z, y, x); nothing lies outside `box`."""
        found, common = np.zeros(box.shape, dtype=bool), box.intersection(self.box)
        if common is not None:
            found[common.within(box).slices] = self.mask[common.within(self.box).slices]
        return found

    @property
    def mask_on_grid(self) -> Mask:
        """M* on the whole grid of the volume (z, y, x)."""
        return self.mask_in(self.volume.geometry.full_box)


@dataclass(frozen=True)
class Proposals:
    """The candidates of one round in the order in which they are numbered, one entry each in `regions` and `features`.

    `box` is the area's, or larger where a region leaves it.

    `presence` are the gates (L1) on the whole case. `n_small`, `n_thin`, `n_over_limit` count what
    was too small, too thin, or beyond the largest number of candidates.
    """

    box: Box
    regions: tuple[Region, ...]
    features: tuple[CandidateFeatures, ...]
    presence: tuple[GateResult, ...]
    n_small: int = 0
    n_thin: int = 0
    n_over_limit: int = 0


@dataclass(frozen=True)
class JudgedRound:
    """The verdict on every candidate of a round, in the order of the proposals, with the evidence that it follows from.

    `case_gates` are the gates on the whole case (L1, L3) as far as gates take part. `profile` is what the scan is like
    inside the plan's own anchors: measured in the first round, where anchors were located.
    """

    decided: tuple[Decided, ...]
    evidence: Evidence
    case_gates: tuple[GateResult, ...]
    profile: ScanProfile | None


def search_rois(volume: Volume, anchors: AnchorSet | None, plan: AnatomyPlan) -> tuple[ROI, ...]:
    """The ROIs of a round around the plan's anchors; the whole image where none was located."""
    return whole_image(volume.geometry) if anchors is None else build_rois(anchors, plan)


def search_area(
    volume: Volume, anchors: AnchorSet | None, plan: AnatomyPlan, own: tuple[str, ...] | None = None
) -> SearchArea:
    """Where a round by `plan` looks; `own` are the first plan's organs (None: this is the first round)."""
    rois = search_rois(volume, anchors, plan)
    return SearchArea(volume=volume, anchors=anchors, plan=plan, own=plan.anchors if own is None else own, rois=rois)


def propose(
    area: SearchArea,
    segmenter: Segmenter,
    *,
    parts: Parts = WHOLE_METHOD,
    gates: GateSettings | None = None,
    ranked: bool = False,
    progress: Progress = silent,
) -> Proposals:
    """What the frozen model marks in the ROIs of `area`, as candidates with their features.

    `ranked`: candidates are instead the regions of the search mask that the frozen score ranks best, with the outline
    that the model gives them (`OutlinesRegions`). `parts.regions` False keeps connected pieces of the model's mask as
    they are. Of `gates` the presence thresholds (L1) are read.
    """
    if ranked:
        return _ranked(area, segmenter, progress)
    regions, volume, box = parts.regions, area.volume, area.box
    probabilities = segment_rois(segmenter, volume, area.anchors, area.plan, area.own, area.rois, progress)
    progress("candidates", 0, 2, "components")
    found = find_candidates(
        probabilities, volume.geometry, cut=regions, max_candidates=MAX_CANDIDATES if regions else MAX_PIECES
    )
    outermost = next((p for p in probabilities if p.box == box), None)
    presence = presence_gates(volume, probabilities if outermost is None else [outermost], area.mask, box, gates)
    probabilities.clear()
    progress("candidates", 1, 2, f"describe {len(found.regions)}")
    mask = area.mask_on_grid
    statistics = anchor_statistics(volume, mask)
    edge_mm = segmenter.info.edge_mm if regions else 0.0
    features = tuple(describe(region, volume, mask, statistics, edge_mm=edge_mm) for region in found.regions)
    return Proposals(
        box=box,
        regions=tuple(found.regions),
        features=features,
        presence=presence,
        n_small=found.n_small,
        n_thin=found.n_thin,
        n_over_limit=found.n_over_limit,
    )


def _ranked(area: SearchArea, segmenter: Segmenter, progress: Progress) -> Proposals:
    if not isinstance(segmenter, OutlinesRegions):
        raise InputError(
            f"`{segmenter.info.name}` draws masks of its own, it cannot outline regions that are ranked by the score",
            "Use `--reject paper`, a calibration, or `--segmenter contrast` or `lite-medsam`.",
        )
    volume, mask, plan = area.volume, area.mask_on_grid, area.plan
    found = ranked_regions(volume, mask, prior_of(plan, volume), progress=progress)
    progress("segment", 0, 1, f"outlines by {segmenter.info.name}")
    drawn = segmenter.outline(volume, plan.window, [item.region for item in found], progress)
    progress("segment", 1, 1, segmenter.info.name)
    statistics = anchor_statistics(volume, mask)
    features = tuple(
        describe(region, volume, mask, statistics, region_score=item.score)
        for item, region in zip(found, drawn, strict=True)
    )
    box = area.box
    for region in drawn:  # what is near the organ's edge may leave the ROIs
        box = box.union(region.box)
    return Proposals(box=box, regions=drawn, features=features, presence=())


def prior_of(plan: AnatomyPlan, volume: Volume) -> Prior:
    """What `plan` says of its target in this image, for the score."""
    low, high = plan.expected_volume_ml
    return Prior((1000.0 * low, 1000.0 * high), sum(SIGNS[plan.expected_contrast]), volume.modality)


def judge_round(
    area: SearchArea,
    proposals: Proposals,
    *,
    settings: RejectSettings,
    seed: int,
    segmenter: Segmenter,
    parts: Parts = WHOLE_METHOD,
    gates: GateSettings | None = None,
    round_index: int = 1,
    calibration: Calibration | None = None,
    identity: CalibrationIdentity | None = None,
) -> JudgedRound:
    """Which candidates differ from normal tissue, by the mode of `settings`.

    `gates` apply as far as `parts` lets them take part and the mode reads them (`gates_of_mode`). `round_index` counts
    from 1. Conformal mode needs `calibration` and the run's `identity`; raises `InputError` where they do not match.
    """
    chosen = gates or GateSettings()
    gated, thresholds = parts.gates != "none", gates_of_mode(settings.mode, chosen)
    features, plan = proposals.features, area.plan
    whole_case = (*proposals.presence, *case_gates(features, chosen)) if gated and not settings.ranks_regions else ()
    evidence = gather_evidence(
        area.volume,
        proposals.box,
        area.mask_in(proposals.box),
        proposals.regions,
        features,
        settings=settings,
        seed=seed,
        gates=_gates(area, proposals, None if settings.ranks_regions else thresholds, vetoes=parts.gates == "all")
        if gated
        else None,
        case_gates=whole_case,
        calibration=calibration,
        round_index=round_index,
        identity=identity,
        segmenter=segmenter,
        window=plan.window,
    )
    return JudgedRound(
        decided=judge(evidence),
        evidence=evidence,
        case_gates=whole_case,
        profile=_profile(area) if round_index == 1 else None,
    )


def _gates(
    area: SearchArea, proposals: Proposals, thresholds: GateSettings | None, *, vetoes: bool
) -> list[tuple[GateResult, ...]]:
    """The gates of each candidate, with the veto where `vetoes` and something vetoed was located.

    `thresholds` None: the veto alone, since a learned score stands in place of the other gates.
    """
    solid, anchors = not area.volume.geometry.is_2d, area.anchors
    gates: list[tuple[GateResult, ...]] = [() for _ in proposals.features]
    if thresholds is not None:
        gates = [candidate_gates(f, area.plan, thresholds, has_volume=solid) for f in proposals.features]
    organs = vetoed(area.plan, area.own, anchors) if vetoes and anchors is not None else ()
    if anchors is None or not organs:
        return gates
    return [(*own, veto_gate(region, organs, anchors)) for own, region in zip(gates, proposals.regions, strict=True)]


def _profile(area: SearchArea) -> ScanProfile | None:
    if area.anchors is None:
        return None
    return measure_profile(area.volume.crop(area.box), area.anchors.mask(area.own, area.box))
