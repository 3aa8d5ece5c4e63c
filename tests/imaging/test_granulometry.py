"""Cutting a mask where it is thin."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2seg_agent.imaging.granulometry import contact_areas_mm2, split_by_thickness


def ball(shape, centre, radius, spacing=(1.0, 1.0, 1.0)):
    grid = np.indices(shape)
    return sum(((g - c) * s) ** 2 for g, c, s in zip(grid, centre, spacing, strict=True)) <= radius**2


def tube(shape, y, x, radius):
    _, gy, gx = np.indices(shape)
    return (gy - y) ** 2 + (gx - x) ** 2 <= radius**2


def test_one_ball_stays_one():
    mask = ball((40, 40, 40), (20, 20, 20), 12)
    split = split_by_thickness(mask, (1, 1, 1), 2.0)
    assert len(split.blobs) == 1
    assert np.array_equal(split.labels > 0, mask)
    assert split.blobs[0].radius_mm == pytest.approx(12, abs=1)


def test_two_balls_with_a_neck_are_two():
    a, b = ball((40, 40, 70), (20, 20, 18), 12), ball((40, 40, 70), (20, 20, 40), 12)
    split = split_by_thickness(a | b, (1, 1, 1), 2.0)
    assert len(split.blobs) == 2
    first, second = split.labels[20, 20, 18], split.labels[20, 20, 40]
    assert {first, second} == {1, 2}
    assert (split.labels[a & ~b] == first).mean() > 0.97


def test_deeply_overlapping_balls_are_one():
    mask = ball((40, 40, 70), (20, 20, 30), 12) | ball((40, 40, 70), (20, 20, 36), 12)
    assert len(split_by_thickness(mask, (1, 1, 1), 2.0).blobs) == 1


def test_a_nodule_is_cut_from_its_vessel():
    shape = (60, 40, 40)
    nodule = ball(shape, (30, 20, 20), 9)
    split = split_by_thickness(nodule | tube(shape, 20, 20, 2), (1, 1, 1), 3.0)
    assert len(split.blobs) == 1
    found = split.labels == 1
    assert 2 * (found & nodule).sum() / (found.sum() + nodule.sum()) > 0.95


def test_thickest_first_and_thin_is_nothing():
    shape = (40, 40, 80)
    mask = ball(shape, (20, 20, 15), 6) | ball(shape, (20, 20, 50), 12) | ball(shape, (20, 35, 72), 2)
    split = split_by_thickness(mask, (1, 1, 1), 4.0)
    assert [round(b.radius_mm) for b in split.blobs] == [12, 6]
    assert split.labels[20, 20, 50] == 1
    assert split.labels[20, 35, 72] == 0


@pytest.mark.parametrize("empty", [np.zeros((5, 6, 7), bool), ball((9, 9, 9), (4, 4, 4), 1)])
def test_nothing_thick_enough(empty):
    split = split_by_thickness(empty, (1, 1, 1), 3.0)
    assert split.blobs == ()
    assert not split.labels.any()


@given(st.integers(0, 2**32 - 1))
def test_labels_lie_in_the_mask_and_flips_only_flip(seed):
    rng = np.random.default_rng(seed)
    mask = np.zeros((20, 24, 28), bool)
    for _ in range(4):
        mask |= ball(mask.shape, rng.uniform(0, 1, 3) * mask.shape, rng.uniform(3, 8))
    split = split_by_thickness(mask, (1.5, 1.0, 1.0), 2.0)
    assert not (split.labels[~mask]).any()
    assert set(np.unique(split.labels)) - {0} <= set(range(1, len(split.blobs) + 1))
    for axis in range(3):
        flipped = split_by_thickness(np.flip(mask, axis), (1.5, 1.0, 1.0), 2.0)
        assert len(flipped.blobs) == len(split.blobs)
        assert ((np.flip(flipped.labels, axis) > 0) == (split.labels > 0)).all()


def test_spacing_counts_in_mm():
    mask = ball((20, 40, 40), (10, 20, 20), 9, spacing=(2.0, 1.0, 1.0))
    split = split_by_thickness(mask, (2.0, 1.0, 1.0), 2.0)
    assert split.blobs[0].radius_mm == pytest.approx(9, abs=1.2)


def test_contact_areas_of_two_boxes():
    codes = np.zeros((4, 6, 5), np.int32)
    codes[1:3, 1:3, 1:4] = 1
    codes[1:3, 3:5, 1:4] = 2
    areas = contact_areas_mm2(codes, 3, (2.0, 3.0, 0.5))
    assert areas[1, 2] == areas[2, 1] == pytest.approx(2 * 3 * (2.0 * 0.5))
    assert areas[0, 1] == pytest.approx(2 * 6 * (3.0 * 0.5) + 6 * (2.0 * 0.5) + 2 * 4 * (2.0 * 3.0))
    assert not areas.diagonal().any()
