"""Dice, sensitivity and precision, over all voxels and per reference lesion."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2seg_agent.imaging.geometry import Geometry
from r2seg_agent.report.truth import evaluate

GEOMETRY = Geometry(shape=(6, 8, 8), spacing_mm=(2.0, 1.0, 1.0))


def empty() -> np.ndarray:
    return np.zeros(GEOMETRY.shape, dtype=np.uint8)


def test_the_same_mask_is_perfect_and_every_component_is_a_lesion():
    truth = empty()
    truth[1:3, 1:3, 1:3] = 255
    truth[4, 5, 5:7] = 255
    found = empty()
    found[1:3, 1:3, 1:3] = 4
    found[4, 5, 5:7] = 9
    result = evaluate(found, truth, GEOMETRY)
    assert (result.dice, result.sensitivity, result.precision) == (1, 1, 1)
    assert [(lesion.label, lesion.finding, lesion.dice) for lesion in result.lesions] == [(1, 4, 1), (2, 9, 1)]
    assert result.lesions[0].volume_ml == pytest.approx(8 * 2 / 1000)
    assert result.false_findings == ()


def test_touching_corners_are_one_lesion_in_a_binary_mask_and_two_with_labels():
    truth = empty()
    truth[1, 1, 1] = 1
    truth[2, 2, 2] = 1
    assert len(evaluate(empty(), truth, GEOMETRY).lesions) == 1
    truth[2, 2, 2] = 7
    assert [lesion.label for lesion in evaluate(empty(), truth, GEOMETRY).lesions] == [1, 7]


def test_a_missed_lesion_and_a_false_finding():
    truth, found = empty(), empty()
    truth[1, 1, 1:5] = 1
    found[4, 6, 6] = 3
    result = evaluate(found, truth, GEOMETRY)
    (lesion,) = result.lesions
    assert (lesion.finding, lesion.dice, lesion.sensitivity, lesion.precision) == (None, 0, 0, None)
    assert (result.dice, result.sensitivity, result.precision) == (0, 0, 0)
    assert result.false_findings == (3,)


def test_the_finding_that_overlaps_most_counts_and_of_equal_ones_the_lower_number():
    truth, found = empty(), empty()
    truth[1, 1, 0:6] = 1
    found[1, 1, 0:2] = 2
    found[1, 1, 2:6] = 1
    assert evaluate(found, truth, GEOMETRY).lesions[0].finding == 1
    found[1, 1, 4:6] = 0
    assert evaluate(found, truth, GEOMETRY).lesions[0].finding == 1


def test_what_is_undefined_is_none():
    nothing = evaluate(empty(), empty(), GEOMETRY)
    assert (nothing.dice, nothing.sensitivity, nothing.precision, nothing.lesions) == (None, None, None, ())
    found = empty()
    found[0, 0, 0] = 1
    false = evaluate(found, empty(), GEOMETRY)
    assert (false.dice, false.sensitivity, false.precision, false.false_findings) == (0, None, 0, (1,))
    missed = evaluate(empty(), found, GEOMETRY)
    assert (missed.dice, missed.sensitivity, missed.precision) == (0, 0, None)


@given(st.integers(0, 2**32 - 1))
def test_dice_is_the_harmonic_mean_of_sensitivity_and_precision(seed):
    rng = np.random.default_rng(seed)
    found, truth = (rng.integers(0, 3, GEOMETRY.shape).astype(np.uint8) for _ in range(2))
    result = evaluate(found, truth, GEOMETRY)
    assert result.dice is not None
    assert result.sensitivity
    assert result.precision
    assert result.dice == pytest.approx(2 / (1 / result.sensitivity + 1 / result.precision))
    for lesion in result.lesions:
        assert lesion.finding is not None
        one = evaluate(np.where(found == lesion.finding, 1, 0), np.where(truth == lesion.label, 1, 0), GEOMETRY)
        assert lesion.dice == pytest.approx(one.dice)


def test_different_grids_are_refused():
    with pytest.raises(ValueError, match="differ"):
        evaluate(empty()[:5], empty(), GEOMETRY)
