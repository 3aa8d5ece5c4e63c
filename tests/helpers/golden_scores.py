"""What one small scan scores, round by round: the numbers that a calibration and a run must agree on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from helpers.small_case import GEOMETRY, ball_volume
from r2seg_agent.method.round import judge_round, propose, search_area
from r2seg_agent.reason.anchors.protocol import AnchorSet, AnchorSourceInfo
from r2seg_agent.reason.language.plan_request import plan_request
from r2seg_agent.reason.roi import widen
from r2seg_agent.reject.gates import GateSettings, gates_of_mode
from r2seg_agent.reject.scores import OF_MASKS, ScoreName
from r2seg_agent.reject.settings import RejectSettings
from r2seg_agent.segment.contrast import ContrastSegmenter
from r2seg_agent.segment.regions.score import shipped

SOURCE = AnchorSourceInfo(name="golden", version="1", kind="masks", stand_in=True, licence="", modalities=("CT",))


def golden_scores() -> Mapping[str, list[list[float]]]:
    """By score and round: the largest scores, at most three, of the candidates that pass their gates."""
    masks, regions = _scores(OF_MASKS), _scores(("region",))
    return {**masks, **regions}


def _scores(names: Sequence[ScoreName]) -> dict[str, list[list[float]]]:
    volume, segmenter = ball_volume(), ContrastSegmenter()
    labels = np.zeros(GEOMETRY.shape, np.uint8)
    ranked = "region" in names
    organ = np.s_[7:-6, 13:-13, 15:-11] if ranked else np.s_[2:-2, 6:-6, 6:-6]  # ranked regions take their time
    labels[organ] = 1
    labels[2:-2, 6:-6, 1:5] = 2
    anchors = AnchorSet(labels=labels, names={"liver": (1,), "stomach": (2,)}, geometry=GEOMETRY, info=SOURCE)
    (plan,) = plan_request("find the liver lesion", "CT", hounsfield=True).plans
    gates = gates_of_mode("score", GateSettings())
    found: dict[str, list[list[float]]] = {name: [] for name in names}
    for index in (1,) if ranked else (1, 3):
        step = widen(plan, index, available=tuple(anchors.names))
        assert step is not None
        area = search_area(volume, anchors, step.plan, plan.anchors)
        proposals = propose(area, segmenter, gates=gates, ranked=ranked)
        for name in names:
            sha256 = shipped()[1] if ranked else None
            settings = RejectSettings(mode="score", score=name, region_score_sha256=sha256)
            judged = judge_round(
                area, proposals, settings=settings, seed=0, segmenter=segmenter, gates=gates, round_index=index
            )
            kept = [d.score for d in judged.decided if d.score is not None and all(g.passed for g in d.gates)]
            found[name].append([float(f"{value:.6g}") for value in sorted(kept, reverse=True)[:3]])
    return found
