"""Slices to the network's frame and back; several boxes for one body."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from r2seg_agent.segment.lite_medsam.cache import EmbeddingCache
from r2seg_agent.segment.lite_medsam.fusion import Section, fused, outline_share, prompts, reach, variants
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
    np.testing.assert_allclose(made, [[10.0, 20.0, 40.0, 40.0], [7.0, 18.0, 43.0, 42.0]])
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


def test_inside_the_outline_less_agreement_is_needed_than_outside() -> None:
    outline = np.asarray([[1.0, 0.0]], dtype=np.float32)
    belief = np.ones(1, dtype=np.float32)

    def answer(p: float) -> np.ndarray:
        return fused(np.full((1, 1, 2), p, dtype=np.float32), belief, outline, share=1 / 3)[0]

    np.testing.assert_allclose(answer(0.25), [0.5, 1 / 6], atol=1e-6)
    np.testing.assert_allclose(answer(0.75), [5 / 6, 0.5], atol=1e-6)


def test_the_outline_of_a_large_body_weighs_more() -> None:
    assert outline_share([0.0, 0.0, 64.0, 64.0]) == pytest.approx(1 / 3)
    assert outline_share([10.0, 10.0, 200.0, 250.0]) == pytest.approx(1 / 3)
    assert outline_share([8.0, 4.0, 16.0, 36.0]) == pytest.approx(1 / 12)


def test_an_outline_is_asked_too_where_there_is_one() -> None:
    frame = Frame(height=40, width=40, size=64)
    (alone,) = prompts(Section((10, 10, 20, 30)), frame)
    assert alone.masks is None
    outline = np.ones((10, 20), dtype=bool)
    plain, guided = prompts(Section((10, 10, 20, 30), outline), frame)
    assert torch.equal(plain.boxes, guided.boxes)
    assert guided.masks is not None
    assert guided.masks.shape == (2, 1, 64, 64)
    inside = guided.masks[0, 0] > 0
    rows, columns = np.nonzero(inside.numpy())
    assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == (16, 32, 16, 48)
    assert guided.masks.min() == -6.0
    assert guided.masks.max() == 6.0


@pytest.mark.parametrize(("height", "width"), [(64, 64), (40, 100), (300, 200), (7, 5)])
def test_the_cells_around_a_place_are_all_that_its_answer_depends_on(height: int, width: int) -> None:
    frame, grid = Frame(height=height, width=width, size=64), 16
    rng = torch.Generator().manual_seed(1)
    logits = torch.randn((1, 64, 64), generator=rng)
    near = (slice(height // 3, height // 2 + 1), slice(width // 2, width))
    rows, columns = frame.cells(near, grid)
    other = torch.full_like(logits, 50.0)
    part = (slice(None), slice(4 * rows.start, 4 * rows.stop), slice(4 * columns.start, 4 * columns.stop))
    other[part] = logits[part]
    whole = (slice(None), *near)
    np.testing.assert_array_equal(frame.probability(logits)[whole], frame.probability(other)[whole])


def test_the_cache_answers_by_content_and_forgets_what_was_not_used_for_longest() -> None:
    calls: list[float] = []

    def encode(image: torch.Tensor) -> torch.Tensor:
        calls.append(float(image[0, 0, 0, 0]))
        return torch.full((1, 4, 2, 2), calls[-1])

    def seen(value: float) -> float:
        return float(cache.get(torch.full((1, 3, 8, 8), value), encode)[0, 0, 0, 0])

    cache = EmbeddingCache(budget_bytes=2 * 64)
    assert [seen(1.0), seen(2.0), seen(1.0), seen(3.0), seen(1.0), seen(2.0)] == [1.0, 2.0, 1.0, 3.0, 1.0, 2.0]
    assert calls == [1.0, 2.0, 3.0, 2.0]
    assert cache.used_bytes == 128
    none = EmbeddingCache(budget_bytes=10)
    none.get(torch.zeros((1, 3, 8, 8)), encode)
    none.get(torch.zeros((1, 3, 8, 8)), encode)
    assert calls[-2:] == [0.0, 0.0]
    assert none.used_bytes == 0


def test_a_mask_may_leave_its_box_a_little_but_not_the_image() -> None:
    assert reach((10, 10, 30, 18), 64, 64) == (slice(5, 35), slice(8, 20))
    assert reach((0, 60, 2, 64), 64, 64) == (slice(0, 3), slice(59, 64))
