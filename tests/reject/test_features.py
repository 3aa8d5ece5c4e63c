"""φ and which voxels it sees: scaling, draws without replacement, streams by content."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r2seg_agent.errors import InputError
from r2seg_agent.imaging.geometry import Box, Geometry
from r2seg_agent.imaging.volume import Volume
from r2seg_agent.reject import features
from r2seg_agent.reject.features import Intensity, feature_named, region_key, sample_voxels, stream
from r2seg_agent.segment.candidates import Region


def volume(array: np.ndarray) -> Volume:
    return Volume(array, Geometry(shape=array.shape, spacing_mm=(1.0, 1.0, 1.0)), "CT", "HU")


def all_voxels(box: Box) -> np.ndarray:
    return np.argwhere(np.ones(box.shape, dtype=bool)) + np.array(box.start)


def test_intensity_maps_the_rois_percentiles_to_zero_and_one() -> None:
    array = np.arange(1000, dtype=np.int16).reshape(10, 10, 10)
    scan = volume(array)
    roi = Box(start=(2, 0, 0), stop=(8, 10, 10))
    got = Intensity().prepare(scan, roi)(all_voxels(scan.geometry.full_box))
    low, high = np.percentile(array[2:8], [0.5, 99.5])
    assert got.shape == (1000, 1)
    assert np.allclose(got[:, 0], np.clip((array.ravel() - low) / (high - low), 0, 1))


def test_intensity_of_a_constant_roi_is_zero() -> None:
    scan = volume(np.full((3, 4, 5), 42, dtype=np.int16))
    box = scan.geometry.full_box
    assert not feature_named("intensity").prepare(scan, box)(all_voxels(box)).any()


def test_percentiles_of_a_large_roi_come_from_a_subset_that_visits_all_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    grey = (rng.normal(size=(16, 32, 32)) + np.arange(32)).astype(np.float32)
    monkeypatch.setattr(features, "PERCENTILE_VOXELS", 4000)
    subset = features._regular_subset(grey)
    assert 2000 < subset.size <= 4200
    assert np.allclose(np.percentile(subset, [5, 50, 95]), np.percentile(grey, [5, 50, 95]), atol=0.6)


@given(st.integers(0, 10_000), st.integers(1, 40))
@settings(max_examples=50, deadline=None)
def test_draws_are_true_voxels_without_repeats(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random((4, 5, 6)) < 0.2
    drawn = sample_voxels(np.random.default_rng(seed), mask, (7, 0, 2), size)
    inside = drawn - np.array([7, 0, 2])
    assert mask[tuple(inside.T)].all()
    assert len({tuple(v) for v in drawn.tolist()}) == len(drawn) == min(size, mask.sum())


def test_draws_are_uniform() -> None:
    mask = np.zeros((3, 2, 4), dtype=bool)
    mask[0, 1, :] = mask[2, 0, 1:3] = True
    counts = np.zeros(mask.shape)
    rng = np.random.default_rng(1)
    for _ in range(3000):
        np.add.at(counts, tuple(sample_voxels(rng, mask, (0, 0, 0), 2).T), 1)
    assert np.abs(counts[mask] - 1000).max() < 4 * np.sqrt(1000)


def test_an_empty_mask_gives_no_voxels() -> None:
    assert sample_voxels(np.random.default_rng(0), np.zeros((2, 2, 2), dtype=bool), (0, 0, 0), 5).shape == (0, 3)


def test_streams_differ_by_seed_and_key_only() -> None:
    def draw(seed: int, *key: str | bytes) -> int:
        return int(stream(seed, *key).integers(2**62))

    assert draw(1, "candidate", b"x") == draw(1, "candidate", b"x")
    assert len({draw(1, "a", "bc"), draw(1, "ab", "c"), draw(1, "abc"), draw(2, "abc")}) == 4


def test_a_regions_key_is_its_content() -> None:
    mask = np.ones((2, 2, 2), dtype=bool)
    probability = np.ones((2, 2, 2), dtype=np.float32)
    here, there = Box(start=(0, 0, 0), stop=(2, 2, 2)), Box(start=(0, 0, 1), stop=(2, 2, 3))
    other = mask.copy()
    other[0, 0, 0] = False
    keys = {
        region_key(Region(box, m, probability, scale))
        for box, m, scale in [(here, mask, 1.0), (here, mask.copy(), 2.0), (there, mask, 1.0), (here, other, 1.0)]
    }
    assert len(keys) == 3


def test_unknown_feature_names_the_known_ones() -> None:
    with pytest.raises(InputError, match="intensity"):
        feature_named("texture")
