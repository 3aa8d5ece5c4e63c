"""Candidates: components, scales, cutting, limits; features of known shapes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from r2seg_agent.imaging.geometry import Box, Geometry
from r2seg_agent.imaging.volume import Volume
from r2seg_agent.segment import candidates as module
from r2seg_agent.segment.candidates import ScaleProbability, case_score, find_candidates
from r2seg_agent.segment.features import anchor_statistics, describe, prominence


def geometry(shape, spacing=(1.0, 1.0, 1.0)):
    return Geometry(shape=shape, spacing_mm=spacing)


def ball(shape, centre, radius, spacing=(1.0, 1.0, 1.0)):
    return sum(((g - c) * s) ** 2 for g, c, s in zip(np.indices(shape), centre, spacing, strict=True)) <= radius**2


def whole(p, scale=1.0):
    p = np.asarray(p, np.float32)
    return ScaleProbability(geometry(p.shape).full_box, scale, p)


def painted(regions, shape):
    out = np.zeros(shape, np.int32)
    for n, region in enumerate(regions, 1):
        out[region.box.slices][region.mask] = n
    return out


@given(st.integers(0, 2**32 - 1))
def test_compact_components_are_those_of_scipy(seed):
    """With compact far-apart blobs nothing is cut: the regions are scipy's 26-connected components."""
    rng = np.random.default_rng(seed)
    shape = (24, 32, 40)
    truth = np.zeros(shape, bool)
    for z in (6, 18):
        for y in (8, 24):
            for x in (8, 30):
                if rng.random() < 0.7:
                    truth |= ball(shape, (z, y, x) + rng.uniform(-1, 1, 3), rng.uniform(2.6, 4.5))
    p = np.where(truth, 0.9, 0.1)
    found = find_candidates([whole(p)], geometry(shape))
    expected, n = ndimage.label(truth, np.ones((3, 3, 3)))
    assert len(found.regions) == n
    labels = painted(found.regions, shape)
    assert np.array_equal(labels > 0, truth)
    for region_label in range(1, n + 1):
        assert len(np.unique(expected[labels == region_label])) == 1


def test_scales_are_joined_by_the_maximum_and_the_smallest_that_proposes_is_named():
    shape = (20, 30, 40)
    one, two = ball(shape, (10, 14, 12), 4), ball(shape, (10, 14, 30), 4)
    small_box, large_box = Box(start=(2, 4, 4), stop=(18, 24, 22)), geometry(shape).full_box
    parts = [
        ScaleProbability(small_box, 1.0, np.where(one, 0.8, 0).astype(np.float32)[small_box.slices]),
        ScaleProbability(large_box, 1.5, np.where(one | two, 0.6, 0).astype(np.float32)),
    ]
    for order in (parts, parts[::-1]):
        found = find_candidates(order, geometry(shape))
        assert [r.scale for r in found.regions] == [1.0, 1.5]
        assert [round(float(r.probability[r.mask].max()), 3) for r in found.regions] == [0.8, 0.6]
        assert np.array_equal(painted(found.regions, shape) > 0, one | two)


def test_one_roi_that_says_it_all_is_not_copied():
    shape = (20, 30, 40)
    p = np.where(ball(shape, (10, 14, 12), 4), 0.9, 0).astype(np.float32)
    inner = Box(start=(2, 4, 4), stop=(18, 24, 22))
    parts = [ScaleProbability(inner, 1.0, p[inner.slices]), whole(p, 2.0)]
    _, fused = module._fuse(parts)
    assert fused is parts[1].probability
    before = p.copy()
    find_candidates(parts, geometry(shape))
    assert np.array_equal(p, before)


def test_rois_that_do_not_cover_each_other():
    shape = (20, 30, 60)
    truth = ball(shape, (10, 15, 30), 6)
    boxes = Box(start=(0, 0, 0), stop=(20, 30, 33)), Box(start=(0, 0, 27), stop=(20, 30, 60))
    p = np.where(truth, 0.9, 0).astype(np.float32)
    found = find_candidates([ScaleProbability(b, 1.0, p[b.slices]) for b in boxes], geometry(shape))
    assert np.array_equal(painted(found.regions, shape) > 0, truth)
    assert len(found.regions) == 1


def test_a_nodule_on_a_vessel_is_a_candidate_of_its_own():
    shape, spacing = (40, 60, 60), (2.0, 1.0, 1.0)
    _, y, x = np.indices(shape)
    vessel = (y - 30) ** 2 + (x - 30) ** 2 <= 1.5**2
    nodule = ball(shape, (20, 36, 30), 8, spacing)
    found = find_candidates([whole(np.where(vessel | nodule, 0.9, 0))], geometry(shape, spacing))
    assert len(found.regions) == 1
    body = painted(found.regions, shape) == 1
    assert 2 * (body & nodule).sum() / (body.sum() + nodule.sum()) > 0.93
    assert found.thin_volume_mm3 > 300
    assert found.regions[0].attached_radius_mm == 0


def test_a_branch_knows_what_it_hangs_on():
    shape = (40, 40, 80)
    big, small = ball(shape, (20, 20, 24), 14), ball(shape, (20, 20, 43), 7)
    found = find_candidates([whole(np.where(big | small, 0.9, 0))], geometry(shape))
    assert len(found.regions) == 2
    thick, thin = found.regions
    assert thin.attached_radius_mm == pytest.approx(thick.radius_mm)
    assert thick.attached_radius_mm == pytest.approx(thin.radius_mm)
    scan = Volume(
        array=np.where(big | small, 100, 0).astype(np.int16), geometry=geometry(shape), modality="CT", unit="HU"
    )
    features = describe(thin, scan, np.ones(shape, bool))
    assert features.attachment == pytest.approx(14 / 7, rel=0.2)


def test_a_large_component_is_split_through_a_coarser_grid(monkeypatch):
    shape = (40, 40, 80)
    a, b = ball(shape, (20, 20, 22), 14), ball(shape, (20, 20, 46), 14)
    p = whole(np.where(a | b, 0.9, 0))
    fine = find_candidates([p], geometry(shape))
    monkeypatch.setattr(module, "MAX_SPLIT_VOXELS", 10_000)
    coarse = find_candidates([p], geometry(shape))
    assert len(fine.regions) == len(coarse.regions) == 2
    for one in coarse.regions:
        mine = painted([one], shape) == 1
        assert not (mine & ~(a | b)).any()
        best = max(2 * (mine & t).sum() / (mine.sum() + t.sum()) for t in (a, b))
        assert best > 0.93


def test_small_holes_are_filled_and_large_ones_are_not():
    shape = (12, 60, 60)
    disc = np.broadcast_to(ball((1, 60, 60), (0, 30, 30), 24), shape)
    small = np.broadcast_to(ball((1, 60, 60), (0, 30, 20), 4), shape)
    large = np.broadcast_to(ball((1, 60, 60), (0, 30, 40), 8), shape)
    found = find_candidates([whole(np.where(disc & ~small & ~large, 0.9, 0))], geometry(shape))
    labels = painted(found.regions, shape)
    assert (labels[small] > 0).mean() > 0.9
    assert not labels[large].any()


def test_what_is_dropped_is_counted():
    shape = (20, 60, 90)
    centres = [(10, y, x) for y in (10, 30, 50) for x in (10, 30, 50, 70)]
    p = np.zeros(shape)
    for n, centre in enumerate(centres):
        p[ball(shape, centre, 3 + 0.2 * n)] = 0.9
    p[2, 2, 2:5] = 0.9
    p[2, 20:40, 85:87] = 0.9
    found = find_candidates([whole(p)], geometry(shape), max_candidates=5)
    assert (len(found.regions), found.n_over_limit) == (5, 7)
    assert (found.n_small, found.n_thin) == (1, 1)
    scores = [case_score(r) for r in found.regions]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] == pytest.approx(0.9 * np.sqrt(ball(shape, (10, 50, 70), 5.2).sum()), rel=1e-5)


def test_two_dimensional_pictures_count_in_pixels():
    shape = (1, 50, 60)
    truth = ball(shape, (0, 25, 30), 6)
    flat = Geometry(shape=shape, spacing_mm=(1.0, 1.0, 1.0), known_spacing="none")
    found = find_candidates([whole(np.where(truth, 0.9, 0))], flat)
    assert np.array_equal(painted(found.regions, shape) > 0, truth)
    scan = Volume(array=np.where(truth, 200, 50).astype(np.uint8), geometry=flat, modality="photo", unit="arbitrary")
    features = describe(found.regions[0], scan, np.ones(shape, bool))
    assert features.volume_mm3 == truth.sum()
    assert features.sphericity > 0.85
    assert features.elongation == pytest.approx(1, abs=0.05)
    assert features.flatness == 1
    assert features.radius_mm == pytest.approx(6, abs=1)


def test_nothing_found():
    assert find_candidates([], geometry((3, 4, 5))).regions == ()
    assert find_candidates([whole(np.zeros((3, 4, 5)))], geometry((3, 4, 5))).regions == ()


def one_region(mask, p=0.8):
    found = find_candidates([whole(np.where(mask, p, 0))], geometry(mask.shape), min_radius_mm=0.5)
    assert len(found.regions) == 1
    return found.regions[0]


def test_features_of_a_ball_in_an_organ():
    shape = (40, 40, 40)
    rng = np.random.default_rng(0)
    grey = rng.normal(100, 10, shape)
    lesion = ball(shape, (20, 20, 20), 8)
    anchor = np.zeros(shape, bool)
    anchor[:, :, 2:] = True
    grey[lesion] = rng.normal(60, 10, lesion.sum())
    scan = Volume(array=grey.astype(np.float32), geometry=geometry(shape), modality="MR", unit="arbitrary")
    statistics = anchor_statistics(scan, anchor)
    assert statistics.median == pytest.approx(np.median(grey[anchor]), abs=1e-3)
    assert statistics.mad == pytest.approx(1.4826 * np.median(np.abs(grey[anchor] - np.median(grey[anchor]))), rel=1e-4)
    f = describe(one_region(lesion), scan, anchor, statistics)
    assert f == describe(one_region(lesion), scan, anchor)
    assert f.n_voxels == lesion.sum()
    assert f.mean_probability == pytest.approx(0.8)
    assert f.contrast == pytest.approx(-4, abs=0.4)
    assert f.mean_intensity == pytest.approx(60, abs=1)
    assert (f.anchor_overlap, f.exterior_contact, f.outer_continuation) == (1, 0, 0)
    assert f.inner_continuation < 0.03
    assert f.sphericity > 0.85
    assert f.elongation == pytest.approx(1, abs=0.05)
    assert f.flatness == pytest.approx(1, abs=0.05)


def test_shape_of_rods_and_plates():
    scan = Volume(array=np.zeros((40, 40, 40), np.int16), geometry=geometry((40, 40, 40)), modality="CT", unit="HU")
    anchor = np.ones((40, 40, 40), bool)
    rod, plate = np.zeros((2, 40, 40, 40), bool)
    rod[10:34, 20:24, 20:24] = True
    plate[18:22, 8:32, 8:32] = True
    r, p = describe(one_region(rod), scan, anchor), describe(one_region(plate), scan, anchor)
    assert r.elongation == pytest.approx(6, rel=0.01)
    assert r.flatness == pytest.approx(1, rel=0.01)
    assert p.flatness == pytest.approx(6, rel=0.01)
    assert p.elongation == pytest.approx(1, rel=0.01)
    assert r.sphericity < 0.6


def test_contacts_of_a_cube_half_out_of_the_organ():
    shape = (30, 30, 30)
    cube = np.zeros(shape, bool)
    cube[10:20, 10:20, 10:20] = True
    anchor = np.zeros(shape, bool)
    anchor[:, :, :15] = True
    grey = np.where(anchor, 0.0, 50.0)
    grey[cube] = 100
    grey[20:, 10:20, 10:20] = 90
    scan = Volume(array=grey.astype(np.float32), geometry=geometry(shape), modality="MR", unit="arbitrary")
    f = describe(one_region(cube), scan, anchor)
    assert f.anchor_overlap == pytest.approx(0.5)
    assert f.exterior_contact == pytest.approx(0.5)
    assert f.inner_continuation == pytest.approx(1 / 12)
    assert f.outer_continuation == pytest.approx(1 / 12)


def test_an_empty_anchor_and_a_flat_image_give_finite_features():
    shape = (12, 12, 12)
    scan = Volume(array=np.zeros(shape, np.int16), geometry=geometry(shape), modality="CT", unit="HU")
    f = describe(one_region(ball(shape, (6, 6, 6), 3)), scan, np.zeros(shape, bool))
    assert (f.anchor_overlap, f.contrast, f.anchor_mad) == (0, 0, 0)


def test_prominence_orders_by_contrast_size_and_standing_alone():
    shape = (30, 30, 60)
    scan = Volume(
        array=np.where(ball(shape, (15, 15, 15), 9) | ball(shape, (15, 15, 45), 6), 90, 0).astype(np.int16),
        geometry=geometry(shape),
        modality="CT",
        unit="HU",
    )
    anchor = np.ones(shape, bool)
    large = describe(one_region(ball(shape, (15, 15, 15), 9)), scan, anchor)
    small = describe(one_region(ball(shape, (15, 15, 45), 6)), scan, anchor)
    part = describe(one_region(ball(shape, (15, 15, 15), 6)), scan, anchor)
    assert prominence(large) > prominence(small) > prominence(part)
    assert part.inner_continuation == 1
    assert prominence(large.model_copy(update={"contrast": -large.contrast})) == prominence(large)
