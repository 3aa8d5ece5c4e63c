"""Verdicts follow from stored evidence alone, to the last bit, and evidence that was changed is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from r2seg_agent.errors import RunFailedError
from r2seg_agent.reason.anchors.protocol import AnchorSourceInfo
from r2seg_agent.reject.calibration import Calibration, CalibrationIdentity, CaseScores, build_calibration
from r2seg_agent.reject.decide import judge
from r2seg_agent.reject.evidence import Evidence
from r2seg_agent.reject.gates import GateResult
from r2seg_agent.reject.settings import RejectSettings
from r2seg_agent.segment.candidates import CandidateFeatures
from r2seg_agent.segment.protocol import SegmenterInfo
from r2seg_agent.store.artifacts import ArtifactStore
from r2seg_agent.trace.evidence import read_evidence, store_evidence

PAPER = RejectSettings(permutations=99, sample_size=50)
CONFORMAL = RejectSettings(mode="conformal", score="contrast_log_volume", sample_size=50)


def features(volume_mm3: float, contrast: float) -> CandidateFeatures:
    return CandidateFeatures(
        n_voxels=int(volume_mm3), volume_mm3=volume_mm3, mean_probability=0.8, max_probability=0.9, anchor_overlap=1.0,
        mean_intensity=1 / 3, sd_intensity=0.1, anchor_median=0.5, anchor_mad=0.1, contrast=contrast, sphericity=0.7,
        elongation=1.2, exterior_contact=0.1,
    )  # fmt: skip


def calibration() -> Calibration:
    identity = CalibrationIdentity(
        segmenter=SegmenterInfo(
            name="contrast", version="1", ndim=3, prompt_kinds=("text",), output_kind="score", licence="",
            stand_in=True, modalities=("CT",),
        ),
        anchor_source=AnchorSourceInfo(
            name="masks", version="1", kind="masks", stand_in=False, licence="", modalities=("CT",), settings={}
        ),
        anchors=("liver",), target="liver_tumor", modality="CT", score="contrast_log_volume",
    )  # fmt: skip
    return build_calibration(
        identity, [CaseScores(case=f"c{i}", patient=f"p{i}", scores=(i / 7, 0.1)) for i in range(39)]
    )


def evidence(settings: RejectSettings, sizes: tuple[int, ...] = (50, 37, 1, 50)) -> Evidence:
    rng = np.random.default_rng(3)
    passed = GateResult(name="L2.volume", passed=True, value=0.1, threshold=0.05, note="fine")
    failed = GateResult(name="ours.flatness", passed=False, value=9.0, threshold=2.5, note="flat")
    return Evidence(
        xs=tuple(rng.normal(0.2 * k, 1.0, size=(n, 1)) for k, n in enumerate(sizes)),
        y=rng.normal(0.0, 1.0, size=(50, 1)),
        features=tuple(features(40.0 + 30 * k, 1.5 * k) for k in range(len(sizes))),
        gates=tuple((passed, failed) if k == 1 else (passed,) for k in range(len(sizes))),
        case_gates=(passed,),
        settings=settings,
        seed=5,
        calibration=calibration() if settings.mode == "conformal" else None,
    )


@pytest.mark.parametrize("settings", [PAPER, CONFORMAL, CONFORMAL.model_copy(update={"score": "mmd2_volume"})])
def test_verdicts_follow_from_what_is_stored_to_the_last_bit(settings: RejectSettings, tmp_path: Path) -> None:
    made = evidence(settings)
    ref = store_evidence(ArtifactStore(tmp_path), made)
    document, back = read_evidence(ArtifactStore(tmp_path), ref)
    assert document.sizes == (50, 37, 1, 50, 50)
    verdicts = judge(made)
    assert judge(back) == verdicts
    assert len({verdict.p for verdict in verdicts}) > 1
    assert store_evidence(ArtifactStore(tmp_path), back) == ref


def test_a_round_without_candidates_has_evidence_too(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    _, back = read_evidence(store, store_evidence(store, evidence(PAPER, sizes=())))
    assert judge(back) == ()


def test_evidence_stays_small(tmp_path: Path) -> None:
    settings = PAPER.model_copy(update={"sample_size": 200})
    store_evidence(ArtifactStore(tmp_path), evidence(settings, sizes=(200,) * 50))
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) < 150_000


@pytest.mark.parametrize("suffix", [".npy", ".doc.json"])
def test_changed_evidence_is_refused(suffix: str, tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    ref = store_evidence(store, evidence(PAPER))
    document, _ = read_evidence(store, ref)
    path = store.path(document.samples.sha256 if suffix == ".npy" else ref.sha256, suffix)
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)
    with pytest.raises(RunFailedError, match="was changed after it was written"):
        read_evidence(ArtifactStore(tmp_path), ref)
    path.unlink()
    with pytest.raises(RunFailedError, match="missing"):
        read_evidence(ArtifactStore(tmp_path), ref)


def test_a_swapped_calibration_is_refused(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    made = evidence(CONFORMAL)
    assert made.calibration is not None
    forged = made.calibration.model_copy(update={"seed": 99})
    ref = store_evidence(store, Evidence(**{**made.__dict__, "calibration": forged}))
    with pytest.raises(RunFailedError, match="calibration and its own hash differ"):
        read_evidence(store, ref)
