"""Voxels, slices and lesions against scikit-learn, MONAI, SciPy and plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.evaluation_cases import FAST, VOXEL_ML, blobs, case_of, pair
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from sklearn.metrics import confusion_matrix, f1_score

from r2seg_agent.evals.lesions import (
    greedy_matches,
    label_lesions,
    match_lesions,
    size_class,
    size_classes,
)
from r2seg_agent.evals.overlap import shared_voxels, voxel_counts
from r2seg_agent.evals.slices import slice_counts

SEEDS = st.integers(0, 10_000)


@given(SEEDS)
@settings(max_examples=25, deadline=None)
def test_voxel_counts_are_those_of_a_confusion_matrix(seed: int) -> None:
    lesions, findings = pair(np.random.default_rng(seed))
    counts = voxel_counts(shared_voxels(lesions, findings), lesions.size)
    tn, fp, fn, tp = confusion_matrix(lesions.ravel() > 0, findings.ravel() > 0, labels=[False, True]).ravel()
    assert (counts.tp, counts.fp, counts.fn, counts.tn) == (tp, fp, fn, tn)
    dice = 2 * counts.tp / (2 * counts.tp + counts.fp + counts.fn)
    assert dice == pytest.approx(f1_score(lesions.ravel() > 0, findings.ravel() > 0))


@given(SEEDS)
@settings(max_examples=25, deadline=None)
def test_slices_follow_the_rules_of_the_published_code(seed: int) -> None:
    """Per slice as that code does it, and Dice as MONAI does it with empty slices as 1."""
    from monai.metrics.meandice import compute_dice

    rng = np.random.default_rng(seed)
    lesions, findings = pair(rng)
    lesions[: rng.integers(0, 8)] = 0
    findings[rng.integers(0, 8) :] = 0
    counts = slice_counts(lesions, findings)
    dice, accuracy, class_accuracy = [], [], []
    for true, found in zip(lesions > 0, findings > 0, strict=True):
        tp, tn = (true & found).sum(), (~true & ~found).sum()
        accuracy.append((tp + tn) / true.size)
        of_lesion = tp / true.sum() if true.any() else 0
        class_accuracy.append((of_lesion + (tn / (~true).sum() if (~true).any() else 0)) / 2)
    one_hot = [torch.from_numpy((mask > 0).astype(np.float32)[:, None]) for mask in (findings, lesions)]
    dice = compute_dice(one_hot[0], one_hot[1], ignore_empty=False).numpy().ravel()
    bearing = (lesions > 0).any(axis=(1, 2))
    marked = (findings > 0).any(axis=(1, 2))
    assert counts.bearing == bearing.sum()
    assert counts.free == (~bearing).sum()
    assert counts.bearing_marked == (bearing & marked).sum()
    assert counts.free_marked == (~bearing & marked).sum()
    assert counts.bearing_dice + counts.free - counts.free_marked == pytest.approx(dice.sum(), abs=1e-5)
    assert counts.bearing_accuracy + counts.free_accuracy == pytest.approx(sum(accuracy))
    assert counts.bearing_class_accuracy == pytest.approx(np.array(class_accuracy)[bearing].sum())
    assert counts.free_class_accuracy == pytest.approx(np.array(class_accuracy)[~bearing].sum())
    assert counts.free_class_accuracy <= counts.free / 2


@given(SEEDS, st.booleans())
@settings(max_examples=20, deadline=None)
def test_lesions_are_26_connected_components_of_each_value(seed: int, two_values: bool) -> None:
    rng = np.random.default_rng(seed)
    truth = (rng.random((5, 9, 9)) < 0.15).astype(np.uint8)
    if two_values:
        truth *= rng.integers(1, 3, truth.shape).astype(np.uint8)
    labels = label_lesions(truth)
    expected = sum(ndimage.label(truth == value, np.ones((3, 3, 3)))[1] for value in (1, 2))
    assert len(np.unique(labels[labels > 0])) == expected
    assert ((labels > 0) == (truth > 0)).all()
    for value in np.unique(labels[labels > 0]):
        assert len(np.unique(truth[labels == value])) == 1


def test_values_and_instances_choose_what_a_lesion_is() -> None:
    truth = np.zeros((3, 8, 8), np.uint8)
    truth[1, 1:3, 1:3] = 1
    truth[1, 5:7, 5:7] = 1
    truth[1, 1:3, 5:7] = 7
    assert label_lesions(truth).max() == 3
    assert label_lesions(truth, values=[7]).max() == 1
    assert (label_lesions(truth, values=[7]) > 0).sum() == 4
    assert label_lesions(truth, instances=True).max() == 2


def _brute_iou(lesions: np.ndarray, findings: np.ndarray) -> dict[tuple[int, int], float]:
    return {
        (int(a), int(b)): float(((lesions == a) & (findings == b)).sum() / ((lesions == a) | (findings == b)).sum())
        for a in np.unique(lesions)
        if a
        for b in np.unique(findings)
        if b
    }


@given(SEEDS, st.sampled_from([0.05, 0.1, 0.3, 0.6]))
@settings(max_examples=30, deadline=None)
def test_greedy_matching_is_one_to_one_above_the_threshold_and_leaves_no_pair_over(seed: int, least: float) -> None:
    lesions, findings = pair(np.random.default_rng(seed))
    shared = shared_voxels(lesions, findings)
    iou = _brute_iou(lesions, findings)
    for (a, b), value in iou.items():
        assert shared.iou(a, b) == pytest.approx(value)
    matched = greedy_matches(shared, least)
    assert len(set(matched.values())) == len(matched)
    assert all(iou[item] >= least for item in matched.items())
    free = [(a, b) for (a, b), v in iou.items() if v >= least and a not in matched and b not in matched.values()]
    assert free == []
    if least > 0.5:
        assert set(matched.items()) == {item for item, value in iou.items() if value >= least}


def test_greedy_takes_the_best_pair_first() -> None:
    lesions, findings = np.zeros((1, 1, 20), int), np.zeros((1, 1, 20), int)
    lesions[0, 0, 0:6], lesions[0, 0, 6:16] = 1, 2
    findings[0, 0, 4:16] = 1
    assert greedy_matches(shared_voxels(lesions, findings), 0.1) == {2: 1}
    rows, found = match_lesions(shared_voxels(lesions, findings), 0.5, least_iou=0.1, bounds_ml=(1.0,))
    assert [row.finding for row in rows] == [None, 1]
    assert [row.overlapped for row in rows] == [True, True]
    assert rows[1].iou == pytest.approx(10 / 12)
    assert rows[0].dice == pytest.approx(2 * 2 / 18)
    assert (rows[1].volume_ml, rows[1].found_ml, rows[1].size) == (5.0, 6.0, "≥ 1 ml")
    assert (found[0].lesion, found[0].touches) == (2, True)


@given(SEEDS)
@settings(max_examples=15, deadline=None)
def test_lesions_and_findings_are_symmetric(seed: int) -> None:
    lesions, findings = pair(np.random.default_rng(seed))
    there, back = case_of(lesions, findings), case_of(findings, lesions)
    assert sum(m.finding is not None for m in there.lesions) == sum(m.finding is not None for m in back.lesions)
    assert there.voxels is not None
    assert back.voxels is not None
    assert (there.voxels.tp, there.voxels.fp, there.voxels.fn) == (back.voxels.tp, back.voxels.fn, back.voxels.fp)
    assert sum(f.touches for f in there.findings) == sum(m.overlapped for m in back.lesions)
    assert there.true_ml == pytest.approx((lesions > 0).sum() * VOXEL_ML)


def test_size_classes_hold_their_lower_bound() -> None:
    bounds = FAST.size_bounds_ml
    assert size_classes(bounds) == ("< 0.1 ml", "0.1–1 ml", "1–10 ml", "≥ 10 ml")
    assert [size_class(v, bounds) for v in (0.0999, 0.1, 1.0, 9.99, 10.0)] == [
        "< 0.1 ml",
        "0.1–1 ml",
        "1–10 ml",
        "1–10 ml",
        "≥ 10 ml",
    ]
    assert size_class(3.0, ()) == size_classes(())[0]


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="differ"):
        shared_voxels(blobs(np.random.default_rng(0)), np.zeros((2, 2, 2), int))
