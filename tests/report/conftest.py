"""A small synthetic case: a box of a body with two lungs, and reports about it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from r2seg_agent.cautions import Caution
from r2seg_agent.imaging.geometry import Box, Geometry, bounding_box
from r2seg_agent.imaging.volume import Volume
from r2seg_agent.method.models import Candidate, Finding, ImageInfo, SearchRound
from r2seg_agent.reason.anchors.protocol import AnchorSet, AnchorSourceInfo
from r2seg_agent.reason.plan import AnatomyPlan
from r2seg_agent.reason.roi import ROI
from r2seg_agent.reject.gates import GateResult
from r2seg_agent.report.measurements import measure
from r2seg_agent.report.models import RejectInfo, Report, TargetReport
from r2seg_agent.segment.candidates import CandidateFeatures
from r2seg_agent.segment.protocol import SegmenterInfo
from r2seg_agent.store.refs import ArtifactRef

SHAPE = (20, 60, 80)
SPACING = (4.0, 2.0, 2.0)
SOURCE = AnchorSourceInfo(
    name="hounsfield", version="1", kind="heuristic", stand_in=True, licence="Apache-2.0", modalities=("CT",)
)
PLAN = AnatomyPlan(
    target="lung_nodule",
    target_name="lung nodule",
    site="lung",
    modality="CT",
    anchors=("lung_right", "lung_left"),
    prompt="nodule in lung CT",
    window=(-1350.0, 150.0),
)


@pytest.fixture
def plan() -> AnatomyPlan:
    return PLAN


@pytest.fixture
def volume() -> Volume:
    array = np.full(SHAPE, 40, dtype=np.int16)
    array[2:18, 10:50, 6:36] = -850
    array[2:18, 10:50, 44:74] = -850
    return Volume(array, Geometry(shape=SHAPE, spacing_mm=SPACING), "CT", "HU", name="image-0badcafe")


@pytest.fixture
def anchors(volume: Volume) -> AnchorSet:
    labels = np.full(SHAPE, 3, dtype=np.uint8)
    labels[2:18, 10:50, 6:36] = 1  # x grows to the patient's left: low x is the right lung
    labels[2:18, 10:50, 44:74] = 2
    names = {"lung_right": (1,), "lung_left": (2,), "body": (1, 2, 3)}
    return AnchorSet(labels, names, volume.geometry, SOURCE)


@pytest.fixture
def labels() -> np.ndarray:
    found = np.zeros(SHAPE, dtype=np.uint8)
    found[13:16, 40:46, 10:18] = 1
    found[5:8, 20:25, 50:54] = 2
    return found


@pytest.fixture
def make_report(volume: Volume, anchors: AnchorSet) -> Callable[..., Report]:
    def make(labels: np.ndarray, *, found: bool = True, synthetic: bool = False, valid: bool = False) -> Report:
        return build_report(volume, anchors, labels, found=found, synthetic=synthetic, valid=valid)

    return make


def features_of(mask: np.ndarray, volume: Volume) -> CandidateFeatures:
    wanted: dict[str, object] = {}
    for name, field in CandidateFeatures.model_fields.items():
        wanted[name] = 1 if field.annotation is int else 0.5
    wanted |= {
        "n_voxels": int(mask.sum()),
        "volume_mm3": float(mask.sum()) * volume.geometry.voxel_volume_mm3,
        "mean_probability": 0.93,
    }
    return CandidateFeatures.model_validate(wanted)


def build_report(
    volume: Volume,
    anchors: AnchorSet,
    labels: np.ndarray,
    *,
    found: bool = True,
    synthetic: bool = False,
    valid: bool = False,
    plan: AnatomyPlan = PLAN,
) -> Report:
    candidates, findings = [], []
    ref = ArtifactRef(sha256="0" * 64, kind="candidates")
    for number in sorted(set(np.unique(labels).tolist()) - {0}):
        mask = labels == number
        box = bounding_box(mask)
        assert box is not None
        candidate = Candidate(
            id=f"t1r1c{number}",
            ref=ref,
            ref_box=volume.geometry.full_box,
            label=number,
            box=box,
            scale=1.0,
            features=features_of(mask, volume),
            score=12.34 / number,
            p=0.0004 if found else 0.3,
            q=0.0321 if found else 0.4,
            gates=(
                GateResult(name="ours.flatness", passed=found, value=0.7, threshold=0.5, note="too flat | <b>rim</b>"),
            ),
            decision="survived" if found else "rejected",
            cause="test" if found else "gate",
            failed_gate=None if found else "ours.flatness",
        )
        candidates.append(candidate)
        if found:
            m = measure(mask[box.slices], box, volume, anchors, plan)
            findings.append(
                Finding(
                    number=number,
                    target=plan.target,
                    target_name=plan.target_name,
                    candidate=candidate,
                    measurements=m,
                )
            )
    shape = volume.geometry.shape
    rois = tuple(
        ROI(
            box=Box(start=(0, 4, 4), stop=(shape[0], shape[1] - pad, shape[2] - pad)),
            scale=scale, padding_mm=10, square=True, anchors=plan.anchors,
        )
        for scale, pad in ((1.0, 6), (1.5, 2))
    )  # fmt: skip
    rounds = SearchRound(
        index=1,
        why="The first round, as planned.",
        padding_mm=10,
        anchors=plan.anchors,
        rois=rois,
        candidates=tuple(candidates),
        survivors=tuple(c.id for c in candidates if found),
    )
    outcome = "lesions_found" if findings else "no_lesion_survived"
    answer = "2 findings for lung nodule." if findings else "No lung nodule survived in 1 round of search."
    target = TargetReport(
        plan=plan,
        outcome=outcome,
        answer=answer,
        anchors_ml=anchors.volumes_ml(),
        in_view=anchors.in_view(),
        rounds=(rounds,),
        findings=tuple(findings),
    )
    return Report(
        r2seg_version="0.1.0",
        run_id="run-1",
        request="find the lung nodule",
        outcome=outcome,
        answer=answer,
        warnings=(Caution(kind="mode_not_valid", text="paper mode is not FDR-valid"),),
        image=ImageInfo(
            name=volume.name, sha256="1" * 64, geometry=volume.geometry, modality=volume.modality,
            unit=volume.unit, synthetic=synthetic,
        ),
        planner="offline",
        planner_kind="offline",
        anchor_source=SOURCE,
        segmenter=SegmenterInfo(
            name="contrast", version="1", ndim=3, prompt_kinds=("mask",), output_kind="probability",
            licence="Apache-2.0", stand_in=True, modalities=("CT",),
        ),
        reject=RejectInfo(
            mode="conformal" if valid else "paper", guarantee="voxels are not exchangeable", valid=valid,
            alpha=0.05, statistic="MMD²", feature="intensity", permutations=999, seed=7,
        ),
        targets=(target,),
        versions={"numpy": "2.0"},
    )  # fmt: skip
