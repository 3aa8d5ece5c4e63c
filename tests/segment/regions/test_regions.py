"""Regions of component trees: what is proposed, how it is described, ranked and brought back to the image."""

from __future__ import annotations

import numpy as np
import pytest

from r2seg_agent.imaging.geometry import Box, Geometry, bounding_box
from r2seg_agent.imaging.volume import Mask, Volume
from r2seg_agent.segment.regions.describe import FEATURES, describe
from r2seg_agent.segment.regions.grid import MAX_SIDE_2D, MAX_VOXELS_3D, WorkingGrid, working_grid
from r2seg_agent.segment.regions.select import MOST_REGIONS, ranked_regions
from r2seg_agent.segment.regions.tree import LARGEST_SHARE, propose
from tests.helpers.noisy_organs import PRIOR, noisy_organ


def grid_of(volume: Volume, mask: Mask) -> WorkingGrid:
    grid = working_grid(volume, mask)
    assert grid is not None
    return grid


def iou(a: Mask, b: Mask) -> float:
    return float(np.count_nonzero(a & b) / np.count_nonzero(a | b))


@pytest.mark.parametrize(("sign", "solid"), [(1, False), (-1, False), (1, True), (-1, True)])
def test_a_bright_and_a_dark_lesion_ranks_first_in_two_and_in_three_dimensions(sign: int, solid: bool) -> None:
    image = noisy_organ(3, sign=sign, solid=solid)
    best = ranked_regions(image.volume, image.organ, PRIOR)[0].region
    drawn = np.zeros(image.truth.shape, dtype=bool)
    drawn[best.box.slices] = best.mask
    assert iou(drawn, image.truth) >= 0.5


def test_a_lesion_that_is_half_of_the_organ_is_proposed() -> None:
    grey, organ = np.zeros((1, 64, 64), np.float32), np.zeros((1, 64, 64), bool)
    organ[:, 8:56, 8:56] = True
    truth = organ & (np.indices((1, 64, 64))[2] < 32)
    grey[truth] = 1.0
    grey += np.random.default_rng(0).normal(0, 0.05, grey.shape).astype(np.float32)
    grid = grid_of(Volume(grey, Geometry(shape=grey.shape, spacing_mm=(1, 1, 1)), "MR", "arbitrary"), organ)
    placed = grid.of_image(Box(start=(0, 8, 8), stop=(1, 56, 32)), truth[:, 8:56, 8:32])
    assert placed is not None
    wanted = np.zeros(grid.grey.shape, dtype=bool)
    wanted[placed[0]] = placed[1]
    found = []
    for proposal in propose(grid):
        mask = np.zeros(grid.grey.shape, dtype=bool)
        mask[proposal.box] = proposal.mask
        found.append(iou(mask, wanted))
    assert max(found) >= 0.8


def test_a_body_that_hangs_on_the_wall_by_a_bridge_is_proposed_alone() -> None:
    organ = np.zeros((1, 80, 80), bool)
    organ[:, 4:76, 4:76] = True
    y, x = np.indices((80, 80))
    ball = ((y - 40) ** 2 + (x - 40) ** 2 <= 100)[None]
    wall = organ & (np.indices(organ.shape)[2] < 14)
    bridge = organ & (abs(np.indices(organ.shape)[1] - 40) <= 2) & (np.indices(organ.shape)[2] < 40)
    grey = (ball | wall | bridge).astype(np.float32)
    grey += np.random.default_rng(0).normal(0, 0.05, grey.shape).astype(np.float32)
    grid = grid_of(Volume(grey, Geometry(shape=grey.shape, spacing_mm=(1, 1, 1)), "MR", "arbitrary"), organ)
    best = 0.0
    for proposal in propose(grid):
        placed = grid.on_image(proposal.box, proposal.mask)
        if placed is not None:
            drawn = np.zeros(organ.shape, bool)
            drawn[placed[0].slices] = placed[1]
            best = max(best, iou(drawn, ball))
    assert best >= 0.75


def test_proposals_lie_inside_their_boxes_and_none_is_the_organ_itself() -> None:
    image = noisy_organ(4)
    grid = grid_of(image.volume, image.organ)
    searched = grid.organ.size
    for proposal in propose(grid):
        assert proposal.mask.shape == tuple(s.stop - s.start for s in proposal.box)
        assert proposal.mask.any()
        assert np.count_nonzero(proposal.mask) <= LARGEST_SHARE[grid.ndim] * searched


@pytest.mark.parametrize("solid", [False, True])
def test_every_region_has_every_feature_as_a_finite_number(solid: bool) -> None:
    image = noisy_organ(5, solid=solid)
    grid = grid_of(image.volume, image.organ)
    described = describe(grid, propose(grid), PRIOR)
    assert described.values.shape == (len(described.masks), len(FEATURES))
    assert np.isfinite(described.values).all()
    assert len(described.masks) > 5


@pytest.mark.parametrize("solid", [False, True])
def test_kept_regions_share_no_voxel_and_come_best_first(solid: bool) -> None:
    image = noisy_organ(6, solid=solid)
    found = ranked_regions(image.volume, image.organ, PRIOR)
    assert 1 < len(found) <= MOST_REGIONS
    assert [item.score for item in found] == sorted((item.score for item in found), reverse=True)
    counted = np.zeros(image.truth.shape, dtype=int)
    for item in found:
        assert item.region.mask.any()
        counted[item.region.box.slices] += item.region.mask
    assert counted.max() == 1


def test_the_same_scan_gives_the_same_regions() -> None:
    image = noisy_organ(7)
    first, second = (ranked_regions(image.volume, image.organ, PRIOR) for _ in range(2))
    assert [(a.score, a.region.box) for a in first] == [(b.score, b.region.box) for b in second]
    assert all(np.array_equal(a.region.mask, b.region.mask) for a, b in zip(first, second, strict=True))


def test_grey_values_on_another_scale_rank_the_same_regions() -> None:
    image = noisy_organ(8)
    other = Volume(image.volume.array * 7.0 - 300.0, image.volume.geometry, "MR", "arbitrary")
    first, second = (ranked_regions(v, image.organ, PRIOR)[0] for v in (image.volume, other))
    assert first.region.box == second.region.box
    assert first.score == pytest.approx(second.score, abs=0.05)


@pytest.mark.parametrize(("factor", "solid"), [(1, False), (9, False), (1, True), (5, True)])
def test_a_mask_goes_to_the_working_grid_and_back(factor: int, solid: bool) -> None:
    image = noisy_organ(9, factor=factor, solid=solid)
    grid = grid_of(image.volume, image.organ)
    if grid.ndim == 2:
        assert max(grid.grey.shape) <= MAX_SIDE_2D
    else:
        assert grid.grey.size <= MAX_VOXELS_3D
    box = bounding_box(image.truth)
    assert box is not None
    there = grid.of_image(box, image.truth[box.slices])
    assert there is not None
    back = grid.on_image(*there)
    assert back is not None
    drawn = np.zeros(image.truth.shape, dtype=bool)
    drawn[back[0].slices] = back[1]
    assert iou(drawn, image.truth) >= (1.0 if set(grid.factors) == {1} else 0.85)


def test_an_image_without_a_mask_has_no_region() -> None:
    image = noisy_organ(1)
    assert ranked_regions(image.volume, np.zeros_like(image.organ), PRIOR) == ()
