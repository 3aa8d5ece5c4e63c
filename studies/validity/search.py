"""One study case searched by the method's own round (`method/round.py`), as the first round of a run searches it.

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
from r2seg_agent.method.round import SearchArea, judge_round, propose, search_area
from r2seg_agent.reason.anchors.protocol import AnchorSet, AnchorSourceInfo
from r2seg_agent.reason.language.plan_request import plan_request
from r2seg_agent.reason.plan import AnatomyPlan
from r2seg_agent.reject.decide import TwoSample, verdicts
from r2seg_agent.reject.gates import GateResult, GateSettings, candidate_gates, case_gates, gates_of_mode
from r2seg_agent.reject.profile import ScanProfile
from r2seg_agent.reject.settings import RejectSettings
from r2seg_agent.segment.candidates import CandidateFeatures, Region
from r2seg_agent.segment.contrast import ContrastSegmenter
from r2seg_agent.segment.protocol import Segmenter

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

    `mmd2` and `paper_p` (paper mode's p-value) are None where the test could not be computed; `n_sampled` are the
    voxels that it drew. `presence` are the presence gates (L1) of the case. `iou`, `inside`: overlap with the lesion
    and the share of the candidate that is lesion (0 in lesion-free cases). `profile`: of a lesion-free scan, for the
    warning of one unlike the calibration's. `plan` is the search's: the candidate gates read it.
    """

    features: tuple[CandidateFeatures, ...]
    mmd2: tuple[float | None, ...]
    paper_p: tuple[float | None, ...]
    n_sampled: tuple[int, ...]
    presence: tuple[GateResult, ...]
    iou: tuple[float, ...]
    inside: tuple[float, ...]
    profile: ScanProfile | None
    plan: AnatomyPlan = field(default_factory=study_plan)

    @property
    def present(self) -> bool:
        """All presence gates of the case passed."""
        return all(gate.passed for gate in self.presence)

    @cached_property
    def gates(self) -> Mapping[GateChoice, tuple[tuple[GateResult, ...], ...]]:
        """Every candidate's gates by choice; they follow from the features, so they are not stored."""
        return {
            choice: tuple(candidate_gates(features, self.plan, settings) for features in self.features)
            for choice, settings in GATES.items()
        }

    @cached_property
    def passed(self) -> Mapping[GateChoice, tuple[bool, ...]]:
        """Which candidates pass all candidate gates of each choice."""
        return {choice: tuple(all(g.passed for g in own) for own in rows) for choice, rows in self.gates.items()}

    @cached_property
    def paper_survived(self) -> Mapping[GateChoice, tuple[bool, ...]]:
        """Which candidates survive paper mode with the gates of each choice: the verdicts of `reject.decide`."""
        tests = TwoSample(mmd2=self.mmd2, permutation_p=self.paper_p, n_sampled=self.n_sampled)
        settings = RejectSettings(mode="paper", alpha=ALPHA)
        return {
            choice: tuple(
                verdict.survived
                for verdict in verdicts(
                    tests,
                    self.features,
                    rows,
                    (*self.presence, *case_gates(self.features, GATES[choice])),
                    settings=settings,
                )
            )
            for choice, rows in self.gates.items()
        }

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

    `plan` None is `study_plan()`; its anchors all mean `organ`. `segmenter` None is `contrast`. `truth`: the lesion's
    voxels. Raises ValueError where the organ is empty.
    """
    segmenter = segmenter or ContrastSegmenter()
    area = case_area(volume, organ, plan or study_plan())
    proposals = propose(area, segmenter)
    judged = judge_round(
        area,
        proposals,
        settings=RejectSettings(mode="paper", permutations=permutations),
        seed=seed,
        segmenter=segmenter,
    )
    overlaps = [_overlap(region, truth) for region in proposals.regions]
    return SearchedCase(
        features=proposals.features,
        mmd2=tuple(verdict.mmd2 for verdict in judged.decided),
        paper_p=tuple(verdict.p for verdict in judged.decided),
        n_sampled=tuple(verdict.n_sampled for verdict in judged.decided),
        presence=proposals.presence,
        iou=tuple(iou for iou, _ in overlaps),
        inside=tuple(inside for _, inside in overlaps),
        profile=judged.profile if truth is None else None,
        plan=area.plan,
    )


def case_area(volume: Volume, organ: Mask, plan: AnatomyPlan) -> SearchArea:
    """Where the first round by `plan` looks when `organ` is every anchor of it."""
    if not organ.any():
        raise ValueError("the organ of a study case is empty")
    return search_area(volume, organ_as_anchors(organ, volume.geometry, plan), plan)


def propose_regions(volume: Volume, organ: Mask) -> tuple[Region, ...]:
    """The candidates alone by the study's plan and `contrast`, largest mass first."""
    return propose(case_area(volume, organ, study_plan()), ContrastSegmenter()).regions


def organ_as_anchors(organ: Mask, geometry: Geometry, plan: AnatomyPlan) -> AnchorSet:
    """`organ` under the name of every anchor of `plan`."""
    return AnchorSet(
        labels=organ.astype(np.uint8), names=dict.fromkeys(plan.anchors, (1,)), geometry=geometry, info=STUDY_SOURCE
    )


def _overlap(region: Region, truth: Mask | None) -> tuple[float, float]:
    """(intersection over union, share of the region inside `truth`)."""
    if truth is None:
        return 0.0, 0.0
    size = int(np.count_nonzero(region.mask))
    both = int(np.count_nonzero(region.mask & truth[region.box.slices]))
    return both / (size + int(np.count_nonzero(truth)) - both), both / size
