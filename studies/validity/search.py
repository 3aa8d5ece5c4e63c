"""One search of one study case by the real pieces: plan, segmenter, candidates, features, gates, two-sample test.

What comes out (`SearchedCase`) holds all that any mode or score needs, so that a study pays for the search once and
reads every mode, score and calibration size from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Literal

import numpy as np

from r2seg_agent.imaging.geometry import Geometry
from r2seg_agent.imaging.volume import Mask, Volume
from r2seg_agent.reason.anchors.protocol import AnchorSet, AnchorSourceInfo
from r2seg_agent.reason.language.plan_request import plan_request
from r2seg_agent.reason.plan import AnatomyPlan
from r2seg_agent.reason.roi import ROI
from r2seg_agent.reject.decide import judge
from r2seg_agent.reject.evidence import gather_evidence
from r2seg_agent.reject.fdr import benjamini_hochberg
from r2seg_agent.reject.gates import GateResult, GateSettings, candidate_gates, gates_of_mode, presence_gates
from r2seg_agent.reject.profile import ScanProfile, measure_profile
from r2seg_agent.reject.settings import RejectSettings
from r2seg_agent.segment.candidates import CandidateFeatures, Region, find_candidates
from r2seg_agent.segment.contrast import ContrastSegmenter
from r2seg_agent.segment.features import anchor_statistics, describe
from r2seg_agent.segment.protocol import Segmenter
from r2seg_agent.segment.rois import segment_rois

ALPHA = 0.05
REQUEST = "find a liver lesion"
ORGAN = "liver"
STUDY_SOURCE = AnchorSourceInfo(
    name="study", version="1", kind="masks", stand_in=True, licence="Apache-2.0", modalities=("CT",)
)
"""Where the organ of a study case comes from: the study made it."""
HIT_IOU = 0.1
"""A candidate finds the lesion when their intersection over union reaches this (method.md §6) …"""
FALSE_SHARE = 0.1
"""… and is a false one when less than this share of its voxels are the lesion's. Between the two: a piece of it."""

GateChoice = Literal["L2", "conformal", "all"]
GATES: Mapping[GateChoice, GateSettings] = {
    "L2": GateSettings(ours=False),
    "conformal": gates_of_mode("conformal", GateSettings()),
    "all": GateSettings(),
}
"""L2: the paper's candidate gates alone. conformal: what a run applies where a calibration judges. all: what it applies
in paper mode, our plausibility gates in full."""


@lru_cache(maxsize=1)
def study_plan() -> AnatomyPlan:
    """The offline planner's plan for "find a liver lesion" in a CT scan."""
    (plan,) = plan_request(REQUEST, "CT").plans
    return plan


@dataclass(frozen=True)
class SearchedCase:
    """All candidates of one case, in the segmenter's order, each field one entry per candidate.

    `mmd2` and `paper_p` (paper mode's p-value) are None where the test could not be computed. `present`: all presence
    gates (L1) of the case passed. `iou`, `inside`: overlap with the lesion and the share of the candidate that is
    lesion (0 in lesion-free cases). `profile`: of a lesion-free scan, for the warning of one unlike the calibration's.
    `plan` is the search's: the candidate gates read it.
    """

    features: tuple[CandidateFeatures, ...]
    mmd2: tuple[float | None, ...]
    paper_p: tuple[float | None, ...]
    present: bool
    iou: tuple[float, ...]
    inside: tuple[float, ...]
    profile: ScanProfile | None
    plan: AnatomyPlan = field(default_factory=study_plan)

    @cached_property
    def passed(self) -> Mapping[GateChoice, tuple[bool, ...]]:
        """Which candidates pass all candidate gates of each choice; follows from the features, so it is not stored."""
        return {
            choice: tuple(all(g.passed for g in candidate_gates(one, self.plan, settings)) for one in self.features)
            for choice, settings in GATES.items()
        }

    @cached_property
    def paper_survived(self) -> Mapping[GateChoice, tuple[bool, ...]]:
        """Which candidates survive paper mode: presence and candidate gates, Benjamini-Hochberg, as `judge` does."""
        survived: dict[GateChoice, tuple[bool, ...]] = {}
        for choice, passed in self.passed.items():
            family = {
                k: p for k, (p, own) in enumerate(zip(self.paper_p, passed, strict=True)) if own and p is not None
            }
            q = dict(zip(family, benjamini_hochberg(list(family.values())).tolist(), strict=True))
            survived[choice] = tuple(self.present and q.get(k, 1.0) <= ALPHA for k in range(len(passed)))
        return survived

    @property
    def hits(self) -> tuple[bool, ...]:
        """Which candidates find the lesion."""
        return tuple(value >= HIT_IOU for value in self.iou)

    @property
    def false(self) -> tuple[bool, ...]:
        """Which candidates are no part of a lesion; in a lesion-free case, all."""
        return tuple(value < FALSE_SHARE for value in self.inside)


def search_case(
    volume: Volume,
    organ: Mask,
    truth: Mask | None = None,
    *,
    plan: AnatomyPlan | None = None,
    segmenter: Segmenter | None = None,
    permutations: int = 999,
    seed: int = 0,
) -> SearchedCase:
    """Search `organ` (z, y, x, on the grid of `volume`) for the plan's target, as the first round of a run does.

    `plan` None is `study_plan()`; its anchors all mean `organ`. `segmenter` None is `contrast`. One ROI covers the
    image. `truth`: the lesion's voxels.
    """
    plan = plan or study_plan()
    segmenter = segmenter or ContrastSegmenter()
    regions, features, presence = _propose(volume, organ, plan, segmenter)
    evidence = gather_evidence(
        volume,
        volume.geometry.full_box,
        organ,
        regions,
        features,
        site=plan.site,
        settings=RejectSettings(mode="paper", permutations=permutations),
        seed=seed,
        segmenter=segmenter,
        window=plan.window,
    )
    decided = judge(evidence)
    overlaps = [_overlap(region, truth) for region in regions]
    return SearchedCase(
        features=tuple(features),
        mmd2=tuple(one.mmd2 for one in decided),
        paper_p=tuple(one.p for one in decided),
        present=all(gate.passed for gate in presence),
        iou=tuple(iou for iou, _ in overlaps),
        inside=tuple(inside for _, inside in overlaps),
        profile=measure_profile(volume, organ) if truth is None else None,
        plan=plan,
    )


def propose(
    volume: Volume, organ: Mask, *, plan: AnatomyPlan | None = None, segmenter: Segmenter | None = None
) -> tuple[Region, ...]:
    """The candidates alone, largest mass first; arguments as for `search_case`."""
    return _propose(volume, organ, plan or study_plan(), segmenter or ContrastSegmenter())[0]


def organ_as_anchors(organ: Mask, geometry: Geometry, plan: AnatomyPlan) -> AnchorSet:
    """`organ` under the name of every anchor of `plan`."""
    return AnchorSet(
        labels=organ.astype(np.uint8), names=dict.fromkeys(plan.anchors, (1,)), geometry=geometry, info=STUDY_SOURCE
    )


def _propose(
    volume: Volume, organ: Mask, plan: AnatomyPlan, segmenter: Segmenter
) -> tuple[tuple[Region, ...], list[CandidateFeatures], tuple[GateResult, ...]]:
    box = volume.geometry.full_box
    anchors = organ_as_anchors(organ, volume.geometry, plan)
    roi = ROI(box=box, scale=1.0, padding_mm=plan.padding_mm, square=plan.square, anchors=plan.anchors)
    probabilities = segment_rois(segmenter, volume, anchors, plan, plan.anchors, [roi])
    found = find_candidates(probabilities, volume.geometry)
    statistics = anchor_statistics(volume, organ)
    edge_mm = segmenter.info.edge_mm
    features = [describe(region, volume, organ, statistics, edge_mm=edge_mm) for region in found.regions]
    return found.regions, features, presence_gates(volume, probabilities, organ, box)


def _overlap(region: Region, truth: Mask | None) -> tuple[float, float]:
    """(intersection over union, share of the region inside `truth`)."""
    if truth is None:
        return 0.0, 0.0
    size = int(np.count_nonzero(region.mask))
    both = int(np.count_nonzero(region.mask & truth[region.box.slices]))
    return both / (size + int(np.count_nonzero(truth)) - both), both / size
