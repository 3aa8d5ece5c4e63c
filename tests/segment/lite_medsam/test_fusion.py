"""Slices to the network's frame and back; several boxes for one body."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from r2seg_agent.segment.lite_medsam.fusion import VARIANTS, fused, reach, variants
from r2seg_agent.segment.lite_medsam.preprocess import Frame


def test_a_wide_slice_is_resized_by_its_longest_side_and_padded_below() -> None:
    frame = Frame(height=100, width=200, size=64)
    out = frame.image(np.full((100, 200), 0.5, dtype=np.float32))
    assert out.shape == (1, 3, 64, 64)
    assert torch.allclose(out[:, :, :32], torch.tensor(0.5), atol=1e-6)
    assert (out[:, :, 32:] == 0).all()
    assert frame.xyxy((50, 100, 100, 200)) == [32.0, 16.0, 64.0, 32.0]


def test_a_tall_slice_is_padded_on_the_right() -> None:
    out = Frame(height=90, width=30, size=60).image(np.ones((90, 30), dtype=np.float32))
    assert torch.allclose(out[..., :20], torch.tensor(1.0), atol=1e-6)
    assert (out[..., 20:] == 0).all()


def test_shrinking_averages_instead_of_picking_pixels() -> None:
    stripes = np.zeros((64, 64), dtype=np.float32)
    stripes[:, ::4] = 1.0
    out = Frame(height=64, width=64, size=16).image(stripes)
    assert out[0, 0, 4:-4, 4:-4].numpy() == pytest.approx(0.25, abs=0.05)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (40, 100), (100, 40), (7, 5)])
def test_a_box_comes_back_where_it_was(height: int, width: int) -> None:
    """What the network marks inside the box's edges lies inside the box again, to a pixel of the coarser grid."""
    frame = Frame(height=height, width=width, size=64)
    y0, x0, y1, x1 = height // 4, width // 3, height // 2 + 1, width - 1
    a, b, c, d = frame.xyxy((y0, x0, y1, x1))
    centre = np.arange(64) + 0.5
    marked = ((centre > b) & (centre < d))[:, None] & ((centre > a) & (centre < c))[None, :]
    probability = frame.probability(torch.from_numpy(np.where(marked, 20.0, -20.0))[None])
    assert probability.shape == (1, height, width)
    rows, columns = np.nonzero(probability[0] > 0.5)
    tolerance = max(1.0, 1.0 / frame.ratio)
    found = [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]
    assert np.abs(np.subtract(found, [y0, x0, y1, x1])).max() <= tolerance


def test_variants_start_with_the_box_itself_and_stay_in_the_image() -> None:
    made = variants([10.0, 20.0, 40.0, 40.0], 64)
    assert made.shape == (VARIANTS, 4)
    assert made[0].tolist() == [10.0, 20.0, 40.0, 40.0]
    np.testing.assert_allclose(made[1], [7.0, 18.0, 43.0, 42.0])
    np.testing.assert_allclose(made[2], [4.0, 16.0, 40.0, 40.0])
    np.testing.assert_allclose(made[3], [10.0, 20.0, 46.0, 44.0])
    edge = variants([0.0, 0.0, 64.0, 64.0], 64)
    assert edge.min() == 0.0
    assert edge.max() == 63.0


def test_margins_have_a_floor_and_a_ceiling() -> None:
    small, large = variants([30.0, 30.0, 32.0, 32.0], 256), variants([10.0, 10.0, 210.0, 210.0], 256)
    np.testing.assert_allclose(small[1], [29.0, 29.0, 33.0, 33.0])
    np.testing.assert_allclose(large[1], [5.0, 5.0, 215.0, 215.0])


def test_answers_weigh_by_the_networks_own_belief_in_them() -> None:
    answers = np.stack([np.full((2, 2), 1.0), np.full((2, 2), 0.0)]).astype(np.float32)
    weighted = fused(answers, np.asarray([0.9, 0.3], dtype=np.float32))
    np.testing.assert_allclose(weighted, 0.75, atol=1e-6)
    np.testing.assert_allclose(fused(answers, np.asarray([-0.2, -0.1], dtype=np.float32)), 0.5, atol=1e-6)
    np.testing.assert_allclose(fused(answers, np.asarray([1.7, 1.0], dtype=np.float32)), 0.5, atol=1e-6)


def test_a_mask_may_leave_its_box_a_little_but_not_the_image() -> None:
    assert reach((10, 10, 30, 18), 64, 64) == (slice(5, 35), slice(8, 20))
    assert reach((0, 60, 2, 64), 64, 64) == (slice(0, 3), slice(59, 64))
