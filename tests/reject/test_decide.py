"""Verdicts on candidates in a small noise volume with one implanted lesion: causes, families, modes, independence."""

from __future__ import annotations

import numpy as np
import pytest

from r2seg_agent.errors import InputError
from r2seg_agent.imaging.geometry import Box, Geometry
from r2seg_agent.imaging.volume import Volume
from r2seg_agent.reason.anchors.protocol import AnchorSourceInfo
from r2seg_agent.reason.plan import AnatomyPlan
from r2seg_agent.reject.calibration import Calibration, CalibrationIdentity, CaseScores, build_calibration
from r2seg_agent.reject.decide import Decided, judge
from r2seg_agent.reject.evidence import gather_evidence
from r2seg_agent.reject.gates import GateResult
from r2seg_agent.reject.identity import require_calibration, run_identity
from r2seg_agent.reject.settings import PAPER_LABEL, RejectSettings, describe_mode
from r2seg_agent.segment.candidates import CandidateFeatures, Region
from r2seg_agent.segment.protocol import SegmenterInfo

PLAN = AnatomyPlan(
    target="liver_tumor", target_name="liver tumor", site="liver", modality="CT", anchors=("liver",), prompt="tumor"
)
SEGMENTER = SegmenterInfo(
    name="contrast",
    version="1",
    ndim=3,
    prompt_kinds=("text",),
    output_kind="score",
    licence="Apache-2.0",
    stand_in=True,
    modalities=("CT",),
)
ANCHORS = AnchorSourceInfo(
    name="masks", version="1", kind="masks", stand_in=False, licence="", modalities=("CT",), settings={}
)
PAPER = RejectSettings(permutations=199)
CONFORMAL = RejectSettings(mode="conformal", score="contrast_log_volume")
ROI = Box(start=(1, 2, 2), stop=(15, 30, 30))
LESION, NORMAL, SPECK = (4, 6, 6), (4, 18, 18), (10, 20, 8)


def scene() -> tuple[Volume, np.ndarray, list[Region]]:
    """White noise (sd 10) around 60 with a 4×6×6 lesion 25 darker; candidates: lesion, normal block, one voxel."""
    array = np.random.default_rng(0).normal(60, 10, size=(16, 32, 32)).astype(np.float32)
    array[4:8, 6:12, 6:12] -= 25
    scan = Volume(array, Geometry(shape=array.shape, spacing_mm=(2.0, 1.0, 1.0)), "CT", "HU")
    return scan, np.ones(ROI.shape, dtype=bool), [block(LESION, (4, 6, 6)), block(NORMAL, (4, 6, 6)), block(SPECK)]


def block(start: tuple[int, int, int], shape: tuple[int, int, int] = (1, 1, 1)) -> Region:
    stop = (start[0] + shape[0], start[1] + shape[1], start[2] + shape[2])
    return Region(Box(start=start, stop=stop), np.ones(shape, dtype=bool), np.full(shape, 0.9, np.float32), 1.0)


def describe(scan: Volume, region: Region) -> CandidateFeatures:
    grey = scan.array[region.box.slices]
    return CandidateFeatures(
        n_voxels=grey.size,
        volume_mm3=2.0 * grey.size,
        mean_probability=0.9,
        max_probability=0.9,
        anchor_overlap=1.0,
        mean_intensity=float(grey.mean()),
        sd_intensity=float(grey.std()),
        anchor_median=60.0,
        anchor_mad=10.0,
        contrast=(float(grey.mean()) - 60) / 10,
        sphericity=0.8,
        elongation=1.0,
        exterior_contact=0.0,
    )


def gate(name: str, *, passed: bool, note: str = "") -> GateResult:
    return GateResult(name=name, passed=passed, value=0.4, threshold=0.5, note=note)


def run(settings: RejectSettings = PAPER, seed: int = 7, order: tuple[int, ...] = (0, 1, 2), **more: object) -> tuple:
    scan, mask, regions = scene()
    chosen = [regions[i] for i in order]
    features = [describe(scan, region) for region in chosen]
    device = str(more.pop("device", "cpu"))
    evidence = gather_evidence(scan, ROI, mask, chosen, features, settings=settings, seed=seed, **more)
    return judge(evidence, device=device)


def identity(settings: RejectSettings = CONFORMAL, plan: AnatomyPlan = PLAN) -> CalibrationIdentity:
    return run_identity(SEGMENTER, ANCHORS, plan, settings, rounds=3, preprocessing={"flips": True}, gates={"v": 20.0})


def calibration(n: int = 39, settings: RejectSettings = CONFORMAL, top: float = 6.0) -> Calibration:
    cases = [CaseScores(case=f"c{i}", patient=f"p{i}", scores=(top * i / n, 0.0)) for i in range(n)]
    return build_calibration(identity(settings), cases)


def test_paper_mode_finds_the_lesion_and_not_the_normal_block() -> None:
    lesion, normal, speck = run()
    assert lesion.survived
    assert lesion.p == 1 / 200
    assert lesion.q == pytest.approx(2 / 200)  # BH over the two that reach the test
    assert lesion.cause == "test"
    assert lesion.score == lesion.mmd2
    assert lesion.n_sampled == 144
    assert not normal.survived
    assert (normal.cause, normal.failed_gate) == ("test", None)
    assert normal.q > 0.05
    assert (speck.p, speck.q, speck.mmd2, speck.survived) == (None, None, None, False)
    assert (speck.cause, speck.n_sampled) == ("too_few_voxels", 1)


def test_verdicts_come_back_through_json() -> None:
    for verdict in run():
        assert Decided.model_validate_json(verdict.model_dump_json()) == verdict


def test_no_verdict_depends_on_order_or_company() -> None:
    first = run()
    assert run(order=(2, 0, 1)) == (first[2], first[0], first[1])
    (alone,) = run(order=(1,))
    assert (alone.p, alone.n_sampled) == (first[1].p, first[1].n_sampled)
    assert alone.mmd2 == pytest.approx(first[1].mmd2, abs=1e-13)


def test_the_seed_decides_the_sample() -> None:
    assert run() == run()
    assert run(seed=8)[0].mmd2 != run()[0].mmd2


def test_a_failed_candidate_gate_names_itself_and_leaves_the_family() -> None:
    low = gate("L2 probability", passed=False, note="mean probability 0.42 < 0.5")
    fine = gate("L2 volume", passed=True)
    lesion, normal, _ = run(gates=[(fine,), (fine, low), ()])
    assert (lesion.q, lesion.survived) == (lesion.p, True)  # a family of one
    assert (normal.cause, normal.failed_gate) == ("gate", "L2 probability")
    assert normal.p is not None
    assert normal.q is None
    assert normal.gates == (fine, low)


def test_a_failed_case_gate_rejects_all_in_paper_mode_and_none_under_the_case_maximum() -> None:
    shut = gate("L1 presence", passed=False, note="largest probability 0.31 < 0.5")
    lesion, *_ = run(case_gates=[gate("L3", passed=True), shut])
    assert not lesion.survived
    assert lesion.q is not None
    assert (lesion.cause, lesion.failed_gate) == ("case", "L1 presence")
    lesion, *_ = run(CONFORMAL, case_gates=[shut], calibration=calibration(), identity=identity())
    assert lesion.survived


def test_conformal_mode_reads_the_case_maximum() -> None:
    lesion, normal, speck = run(CONFORMAL, calibration=calibration(), identity=identity())
    assert (lesion.p, lesion.q) == (1 / 40, None)  # family-wise: nothing is left to correct
    assert lesion.score == pytest.approx(2.5 * np.log1p(288), rel=0.1)
    assert (lesion.survived, lesion.cause) == (True, "test")
    assert not normal.survived
    assert normal.p > 0.5
    assert normal.cause == "test"
    assert speck.mmd2 is None
    assert speck.p is not None  # its score needs no two-sample test


def test_conformal_mode_with_a_score_that_needs_mmd2() -> None:
    settings = RejectSettings(mode="conformal", score="mmd2_volume")
    lesion, normal, speck = run(settings, calibration=calibration(39, settings, 0.3), identity=identity(settings))
    assert lesion.score == pytest.approx(lesion.mmd2 * np.log1p(288))
    assert lesion.survived
    assert not normal.survived
    assert (speck.score, speck.p, speck.q) == (None, None, None)


def test_a_reference_without_voxels_leaves_nothing_to_test() -> None:
    scan, mask, regions = scene()
    features = [describe(scan, regions[0])]
    empty = np.zeros_like(mask)
    (verdict,) = judge(gather_evidence(scan, ROI, empty, regions[:1], features, settings=PAPER, seed=0))
    assert (verdict.cause, verdict.p, verdict.n_sampled) == ("too_few_voxels", None, 144)


def test_a_candidate_that_is_all_of_the_reference_does_not_differ_from_it() -> None:
    scan, mask, regions = scene()
    only = np.zeros_like(mask)
    only[regions[0].box.within(ROI).slices] = True
    features = [describe(scan, regions[0])]
    (verdict,) = judge(gather_evidence(scan, ROI, only, regions[:1], features, settings=PAPER, seed=0))
    assert verdict.p == 1.0
    assert only.sum() == 144  # the caller's mask is untouched


def test_no_candidates() -> None:
    scan, mask, _ = scene()
    assert judge(gather_evidence(scan, ROI, mask, [], [], settings=PAPER, seed=0)) == ()


def test_conformal_mode_without_a_calibration_says_how_to_get_one() -> None:
    with pytest.raises(InputError, match="needs a calibration") as raised:
        run(CONFORMAL)
    assert "r2seg calibrate" in raised.value.hint
    assert "--reject paper" in raised.value.hint


def test_a_calibration_of_another_set_up_is_refused_by_field() -> None:
    wider = PLAN.model_copy(update={"padding_mm": 30.0})
    with pytest.raises(InputError, match=r"preprocessing\.padding_mm: the calibration has 10\.0, this run has 30\.0"):
        run(CONFORMAL, calibration=calibration(), identity=identity(plan=wider))
    with pytest.raises(InputError) as raised:
        run(CONFORMAL, calibration=calibration(12), identity=identity(plan=wider))
    assert "12 lesion-free cases can give p down to 0.0769; alpha 0.05 needs 19, 7 more" in raised.value.hint
    other = RejectSettings(mode="conformal", score="segmenter_mass")
    with pytest.raises(InputError, match="score: the calibration has"):
        run(other, calibration=calibration(), identity=identity(other))


def test_a_calibration_too_small_for_alpha_is_refused_before_work() -> None:
    assert require_calibration(CONFORMAL, calibration(19), identity()) == calibration(19)
    with pytest.raises(
        InputError, match=r"18 lesion-free cases can give p down to 0\.0526; alpha 0\.05 needs 19, 1 more"
    ):
        require_calibration(CONFORMAL, calibration(18), identity())
    with pytest.raises(ValueError, match="identity"):
        require_calibration(CONFORMAL, calibration(19), None)


def test_settings_of_the_statistic_matter_only_to_scores_that_read_it() -> None:
    small = {"sample_size": 50}
    mmd2 = RejectSettings(mode="conformal", score="mmd2")
    assert identity(CONFORMAL.model_copy(update=small)) == identity()
    assert identity(mmd2.model_copy(update=small)) != identity(mmd2)


def test_modes_say_what_they_guarantee() -> None:
    paper = describe_mode(PAPER)
    assert (paper.mode, paper.valid) == ("paper", False)
    assert PAPER_LABEL in paper.guarantee
    conformal = describe_mode(CONFORMAL, calibration(39))
    assert conformal.valid
    assert "any false finding is at most 0.05 per target, over up to 3 search rounds" in conformal.guarantee
    assert "39 lesion-free" in conformal.guarantee
    with pytest.raises(InputError, match="needs a calibration"):
        describe_mode(CONFORMAL)


def test_wrong_device_is_an_input_error() -> None:
    with pytest.raises(InputError, match="no device `cuda:99`"):
        run(device="cuda:99")


def test_lists_that_do_not_go_together_are_refused() -> None:
    scan, mask, regions = scene()
    with pytest.raises(ValueError, match="3 regions, 0 features"):
        gather_evidence(scan, ROI, mask, regions, [], settings=PAPER, seed=0)


def test_importing_the_decisions_does_not_load_torch() -> None:
    import subprocess
    import sys

    code = "import sys, r2seg_agent.reject.decide; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
