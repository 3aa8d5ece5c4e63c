"""One round of Reason-Segment-Reject as plain functions: the same numbers whoever calls them, and no LangChain."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from helpers.small_case import GEOMETRY, ball_volume

from r2seg_agent.errors import InputError
from r2seg_agent.method.presets import PARTS
from r2seg_agent.method.round import SearchArea, judge_round, propose, search_area
from r2seg_agent.reason.anchors.protocol import AnchorSet, AnchorSourceInfo
from r2seg_agent.reason.language.plan_request import plan_request
from r2seg_agent.reason.plan import AnatomyPlan
from r2seg_agent.reject.gates import GateSettings
from r2seg_agent.reject.settings import RejectSettings
from r2seg_agent.segment.contrast import ContrastSegmenter

SOURCE = AnchorSourceInfo(
    name="test", version="1", kind="masks", stand_in=True, licence="Apache-2.0", modalities=("CT",)
)
PAPER = RejectSettings(permutations=199)


@pytest.fixture(scope="module")
def plan() -> AnatomyPlan:
    (plan,) = plan_request("find a liver lesion", "CT").plans
    return plan


@pytest.fixture(scope="module")
def area(plan: AnatomyPlan) -> SearchArea:
    return search_area(ball_volume(), liver(), plan)


def liver() -> AnchorSet:
    labels = np.zeros(GEOMETRY.shape, np.uint8)
    labels[2:-2, 6:-6, 6:-6] = 1
    return AnchorSet(labels=labels, names={"liver": (1,)}, geometry=GEOMETRY, info=SOURCE)


def test_a_lesion_is_proposed_described_and_found(area: SearchArea) -> None:
    proposals = propose(area, ContrastSegmenter())
    judged = judge_round(area, proposals, settings=PAPER, seed=0, segmenter=ContrastSegmenter())
    assert len(proposals.regions) == len(proposals.features) == len(judged.decided)
    survived = [region for region, verdict in zip(proposals.regions, judged.decided, strict=True) if verdict.survived]
    assert any(all(a <= c < b for a, c, b in zip(r.box.start, (12, 24, 26), r.box.stop, strict=True)) for r in survived)
    assert judged.profile is not None
    assert judged.case_gates == proposals.presence


def test_the_same_round_gives_the_same_bits(area: SearchArea) -> None:
    def run(seed: int) -> object:
        return judge_round(
            area, propose(area, ContrastSegmenter()), settings=PAPER, seed=seed, segmenter=ContrastSegmenter()
        ).decided

    assert run(0) == run(0)
    assert run(0) != run(1)


def test_the_area_is_the_union_of_the_rois_and_its_mask_lies_inside(area: SearchArea) -> None:
    assert all(area.box.contains(roi.box) for roi in area.rois)
    whole = np.zeros(GEOMETRY.shape, bool)
    whole[area.box.slices] = area.mask
    assert np.array_equal(whole, area.mask_on_grid)
    assert np.array_equal(whole, liver().labels == 1)


def test_without_anchors_the_whole_image_is_searched_and_nothing_is_measured_of_it(plan: AnatomyPlan) -> None:
    volume = ball_volume()
    area = search_area(volume, None, plan)
    assert area.box == volume.geometry.full_box
    assert area.mask.all()
    parts = PARTS["baseline"]
    proposals = propose(area, ContrastSegmenter(), parts=parts)
    settings = RejectSettings(mode="none", score="segmenter_mass")
    judged = judge_round(area, proposals, settings=settings, seed=0, segmenter=ContrastSegmenter(), parts=parts)
    assert judged.profile is None
    assert judged.case_gates == ()
    assert all(d.survived and d.cause == "none" and d.gates == () for d in judged.decided)


def test_gates_take_part_as_the_preset_says(area: SearchArea) -> None:
    proposals = propose(area, ContrastSegmenter())
    judge = {
        name: judge_round(
            area, proposals, settings=PAPER, seed=0, segmenter=ContrastSegmenter(), parts=PARTS[name], gates=gates
        ).decided
        for name, gates in (("full", None), ("+gates", GateSettings(ours=False)), ("+roi+reject", None))
    }
    names = {preset: {gate.name.partition(".")[0] for d in own for gate in d.gates} for preset, own in judge.items()}
    assert names == {"full": {"L2", "ours"}, "+gates": {"L2"}, "+roi+reject": set()}


def test_the_profile_is_measured_in_the_first_round_alone(area: SearchArea) -> None:
    proposals = propose(area, ContrastSegmenter())
    later = judge_round(area, proposals, settings=PAPER, seed=0, segmenter=ContrastSegmenter(), round_index=2)
    assert later.profile is None


def test_conformal_mode_without_a_calibration_is_an_error_of_the_user(area: SearchArea) -> None:
    settings = RejectSettings(mode="conformal")
    with pytest.raises(InputError, match="needs a calibration"):
        judge_round(area, propose(area, ContrastSegmenter()), settings=settings, seed=0, segmenter=ContrastSegmenter())


def test_the_method_needs_no_langchain() -> None:
    code = (
        "import sys, r2seg_agent.method.round; "
        "sys.exit(any(m.partition('.')[0] in ('langchain', 'langchain_core', 'langgraph') for m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
