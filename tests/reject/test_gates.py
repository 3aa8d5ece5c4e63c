"""Gates: names, thresholds, notes, and the Kolmogorov-Smirnov p against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import stats

from r2seg_agent.imaging.geometry import Box, Geometry
from r2seg_agent.imaging.volume import Volume
from r2seg_agent.reason.plan import AnatomyPlan
from r2seg_agent.reject.gates import (
    GateSettings,
    candidate_gates,
    case_gates,
    gates_of_mode,
    ks_p_value,
    presence_gates,
)
from r2seg_agent.segment.candidates import CandidateFeatures, ScaleProbability

GOOD = CandidateFeatures(
    n_voxels=400,
    volume_mm3=1000.0,
    mean_probability=0.9,
    max_probability=0.99,
    anchor_overlap=1.0,
    mean_intensity=40.0,
    sd_intensity=5.0,
    anchor_median=-850.0,
    anchor_mad=60.0,
    contrast=14.0,
    sphericity=0.7,
    elongation=1.4,
    exterior_contact=0.1,
    flatness=1.3,
    inner_continuation=0.05,
    outer_continuation=0.05,
    radius_mm=5.0,
    attachment=0.4,
)


def plan(contrast="brighter", volume_ml=(0.02, 500.0)):
    return AnatomyPlan(
        target="lung_nodule",
        target_name="lung nodule",
        site="lung",
        modality="CT",
        anchors=("lung_left",),
        prompt="nodule in lung CT",
        expected_contrast=contrast,
        expected_volume_ml=volume_ml,
    )


def failed(results):
    return [r.name for r in results if not r.passed]


def test_a_good_candidate_passes_and_every_gate_says_what_it_saw():
    results = candidate_gates(GOOD, plan())
    assert failed(results) == []
    assert [r.name for r in results][:3] == ["L2.volume", "L2.mean_probability", "L2.anchor_overlap"]
    assert all(r.name.startswith("ours.") for r in results[3:])
    assert all(r.note and r.value is not None for r in results)


@pytest.mark.parametrize(
    ("change", "gate"),
    [
        ({"volume_mm3": 19.9}, "L2.volume"),
        ({"mean_probability": 0.49}, "L2.mean_probability"),
        ({"anchor_overlap": 0.49}, "L2.anchor_overlap"),
        ({"elongation": 2.6}, "ours.elongation"),
        ({"flatness": 2.6}, "ours.flatness"),
        ({"inner_continuation": 0.4}, "ours.inner_continuation"),
        ({"outer_continuation": 0.4}, "ours.outer_continuation"),
        ({"attachment": 1.01}, "ours.attachment"),
        ({"exterior_contact": 0.51}, "ours.exterior_contact"),
        ({"contrast": -14.0}, "ours.contrast"),
        ({"contrast": 1.4}, "ours.contrast"),
        ({"volume_mm3": 600_000.0}, "ours.plausible_volume_max"),
    ],
)
def test_each_gate_alone_rejects_what_it_is_for(change, gate):
    results = candidate_gates(GOOD.model_copy(update=change), plan())
    assert gate in failed(results)
    assert set(failed(results)) <= {gate, "ours.plausible_volume_min"}
    note = next(r for r in results if r.name == gate).note
    assert "needed" in note or "allowed" in note


@pytest.mark.parametrize(
    ("expected", "contrast", "passes"),
    [("darker", -2, True), ("darker", 2, False), ("either", 2, True), ("either", -2, True), ("either", 0.5, False)],
)
def test_the_expected_sign_of_contrast(expected, contrast, passes):
    results = candidate_gates(GOOD.model_copy(update={"contrast": float(contrast)}), plan(expected))
    assert ("ours.contrast" not in failed(results)) is passes


def test_the_papers_gates_alone():
    bad = GOOD.model_copy(update={"elongation": 20.0, "contrast": -5.0, "inner_continuation": 1.0})
    results = candidate_gates(bad, plan(), GateSettings(ours=False))
    assert [r.name for r in results] == ["L2.volume", "L2.mean_probability", "L2.anchor_overlap"]
    assert failed(results) == []


def test_thresholds_are_the_methods():
    s = GateSettings()
    assert (s.p_max, s.positive_ratio, s.p_ks) == (0.5, 1e-4, 0.05)
    assert (s.min_volume_mm3, s.mean_probability, s.anchor_overlap) == (20.0, 0.5, 0.5)
    assert s.case_score is None
    with pytest.raises(ValidationError):
        GateSettings(p_max=1.5)


def test_the_case_gate_is_off_until_calibrated():
    assert case_gates([GOOD]) == ()
    (passed,) = case_gates([GOOD, GOOD.model_copy(update={"n_voxels": 4})], GateSettings(case_score=17.9))
    assert passed.passed
    assert passed.value == pytest.approx(0.9 * 20)
    (closed,) = case_gates([GOOD], GateSettings(case_score=18.1))
    assert not closed.passed
    (empty,) = case_gates([], GateSettings(case_score=1.0))
    assert not empty.passed
    assert empty.value == 0


def case(shift, p_inside=0.9):
    shape = (10, 20, 20)
    rng = np.random.default_rng(0)
    grey = rng.normal(0, 1, shape).astype(np.float32)
    anchor = np.zeros(shape, bool)
    anchor[:, 2:18, 2:18] = True
    lesion = np.zeros(shape, bool)
    lesion[3:7, 6:12, 6:12] = True
    grey[lesion] += shift
    p = np.where(lesion, p_inside, 0.05).astype(np.float32)
    scan = Volume(array=grey, geometry=Geometry(shape=shape, spacing_mm=(1, 1, 1)), modality="MR", unit="arbitrary")
    return scan, [ScaleProbability(scan.geometry.full_box, 1.0, p)], anchor, scan.geometry.full_box


def test_presence_of_a_lesion():
    results = presence_gates(*case(3.0))
    assert [r.name for r in results] == ["L1.p_max", "L1.positive_ratio", "L1.p_ks"]
    assert failed(results) == []
    assert results[1].value == pytest.approx(144 / 2560)


def test_presence_fails_where_nothing_is_positive_or_it_looks_like_the_rest():
    assert failed(presence_gates(*case(3.0, p_inside=0.3))) == ["L1.p_max", "L1.positive_ratio"]
    assert failed(presence_gates(*case(0.0))) == ["L1.p_ks"]


def test_presence_over_several_rois_takes_the_largest_probability():
    scan, (whole,), anchor, box = case(3.0)
    inner = Box(start=(2, 4, 4), stop=(8, 14, 14))
    parts = [
        ScaleProbability(inner, 1.0, whole.probability[inner.slices]),
        whole._replace(probability=np.full(box.shape, 0.1, np.float32)),
    ]
    assert presence_gates(scan, parts, anchor, box) == presence_gates(scan, [whole], anchor, box)


def test_presence_without_an_anchor_is_negative_and_does_not_break():
    scan, parts, anchor, box = case(3.0)
    results = presence_gates(scan, parts, np.zeros_like(anchor), box)
    assert failed(results) == ["L1.p_max", "L1.positive_ratio"]
    assert "skipped" in results[2].note
    assert results[2].value is None


@given(st.integers(0, 10_000), st.integers(200, 600), st.integers(200, 600), st.floats(0, 0.5))
def test_kolmogorov_smirnov_agrees_with_scipys_exact_p(seed, m, n, shift):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=m), rng.normal(shift, 1, size=n)
    assert ks_p_value(x, y) == pytest.approx(stats.ks_2samp(x, y).pvalue, abs=0.03)
    assert ks_p_value(x, y) == ks_p_value(rng.permutation(x), y) == ks_p_value(y, x)


def test_kolmogorov_smirnov_of_very_large_samples_is_thinned():
    rng = np.random.default_rng(0)
    x = rng.normal(size=300_000).astype(np.float32)
    assert ks_p_value(x, rng.normal(0.01, 1, 300_000)) > 0.05
    assert ks_p_value(x, rng.normal(0.2, 1, 300_000)) < 1e-6
    assert ks_p_value(x, x) == pytest.approx(1)


def test_an_area_is_not_held_against_a_plausible_volume():
    tiny = GOOD.model_copy(update={"n_voxels": 40, "volume_mm3": 40.0})
    large_expected = plan(volume_ml=(5.0, 500.0))
    failed = {g.name for g in candidate_gates(tiny, large_expected) if not g.passed}
    assert failed == {"ours.plausible_volume_min"}
    assert all(g.passed for g in candidate_gates(tiny, large_expected, has_volume=False))


@pytest.mark.parametrize(("mode", "contrast", "passes"), [
    ("paper", 3.0, False), ("conformal", 3.0, True), ("score", 3.0, True), ("conformal", 5.0, False),
])  # fmt: skip
def test_where_a_calibration_judges_faint_candidates_may_go_on(mode: str, contrast: float, passes: bool) -> None:
    """Modes `score` and `conformal` must gate alike, or a calibration would speak of other candidates than the run."""
    faint = GOOD.model_copy(update={"contrast": contrast, "inner_continuation": 0.6})
    results = candidate_gates(faint, plan(), gates_of_mode(mode, GateSettings()))
    (gate,) = [g for g in results if g.name == "ours.inner_continuation"]
    assert gate.passed == passes
    assert ("says nothing at a contrast of 3" in gate.note) == passes
