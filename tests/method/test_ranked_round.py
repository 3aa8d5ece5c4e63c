"""A round in which the score ranks regions: they may leave the ROIs, whose box they then widen."""

from __future__ import annotations

import numpy as np

from r2seg_agent.imaging.geometry import Geometry
from r2seg_agent.imaging.volume import Volume
from r2seg_agent.method.round import judge_round, propose, search_area
from r2seg_agent.reason.anchors.protocol import AnchorSet, AnchorSourceInfo
from r2seg_agent.reason.language.plan_request import plan_request
from r2seg_agent.reject.settings import RejectSettings
from r2seg_agent.segment.contrast import ContrastSegmenter
from r2seg_agent.segment.regions.score import shipped

SOURCE = AnchorSourceInfo(name="test", version="1", kind="masks", stand_in=True, licence="", modalities=("CT",))


def test_a_region_that_leaves_the_rois_is_judged() -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:900, :900]
    organ = (y - 450) ** 2 + (x - 450) ** 2 < 330**2
    lesion = (y - 450) ** 2 + (x - 760) ** 2 < 60**2
    grey = np.where(organ, 100.0, 60.0) + rng.normal(0, 4, organ.shape) + 60.0 * lesion
    geometry = Geometry(shape=(1, 900, 900), spacing_mm=(1.0, 1.0, 1.0), known_spacing="none")
    volume = Volume(grey.astype(np.uint8)[None], geometry, modality="CT", unit="arbitrary", name="picture")
    anchors = AnchorSet(labels=organ.astype(np.uint8)[None], names={"brain": (1,)}, geometry=geometry, info=SOURCE)
    (plan,) = plan_request("find the intracranial hemorrhage", "CT").plans
    area, segmenter = search_area(volume, anchors, plan), ContrastSegmenter()
    proposals = propose(area, segmenter, ranked=True)
    assert proposals.box.shape > area.box.shape
    settings = RejectSettings(mode="reference", score="region", cut=0.0, region_score_sha256=shipped()[1])
    judged = judge_round(area, proposals, settings=settings, seed=0, segmenter=segmenter)
    assert len(judged.decided) == len(proposals.regions) > 0
