"""φ and which voxels it sees: scaling, draws without replacement, streams by content."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from r2seg_agent.errors import InputError
from r2seg_agent.imaging.geometry import Box, Geometry
from r2seg_agent.imaging.volume import Volume
from r2seg_agent.reject import features, multiscale
from r2seg_agent.reject.decide import judge
from r2seg_agent.reject.evidence import gather_evidence
from r2seg_agent.reject.features import (
    Intensity,
    check_feature,
    feature_named,
    feature_settings,
    region_key,
    sample_voxels,
    stream,
)
from r2seg_agent.reject.projection import PROJECTED, projection
from r2seg_agent.reject.settings import RejectSettings
from r2seg_agent.segment.candidates import CandidateFeatures, Region
from r2seg_agent.segment.contrast import ContrastSegmenter
from r2seg_agent.segment.protocol import SegmenterInfo


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


def smooth_scan(seed: int, shape: tuple[int, int, int] = (14, 36, 36)) -> Volume:
    rng = np.random.default_rng(seed)
    array = 200.0 + 40.0 * ndimage.gaussian_filter(rng.standard_normal(shape), 0.7)
    geometry = Geometry(shape=shape, spacing_mm=(3.0, 1.0, 1.0))
    return Volume(array.astype(np.float32), geometry, "CT", "HU")


def test_multiscale_gives_grey_values_and_gradients_at_every_scale() -> None:
    scan = smooth_scan(0)
    roi = Box(start=(1, 2, 3), stop=(13, 34, 33))
    voxels = all_voxels(roi)
    got = feature_named("multiscale").prepare(scan, roi)(voxels)
    assert got.shape == (len(voxels), len(multiscale.NAMES)) == (len(voxels), 7)
    assert got.min() == 0.0
    assert got.max() == 1.0
    np.testing.assert_allclose(got[:, :1], Intensity().prepare(scan, roi)(voxels), atol=1e-6)
    # A ramp has the same slope everywhere; its gradient has no spread and says nothing.
    ramp = volume(np.broadcast_to(np.arange(40.0, dtype=np.float32), (10, 20, 40)).copy())
    inside = Box(start=(0, 0, 15), stop=(10, 20, 25))
    raw = multiscale._maps(ramp, ramp.geometry.full_box, all_voxels(inside), 1.0)
    np.testing.assert_allclose(raw[0].asked, all_voxels(inside)[:, 2], atol=1e-3)
    np.testing.assert_allclose(raw[1].asked, 1.0, atol=1e-3)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_multiscale_does_not_know_grey_units_slabs_or_sides(axis: int, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = smooth_scan(1)
    roi = scan.geometry.full_box
    voxels = all_voxels(roi)[::7]
    plain = multiscale.multiscale(scan, roi, voxels)
    units = Volume(3.0 * scan.array - 100.0, scan.geometry, "MR", "arbitrary")
    np.testing.assert_allclose(multiscale.multiscale(units, roi, voxels), plain, atol=1e-4)
    mirrored = voxels.copy()
    mirrored[:, axis] = scan.geometry.shape[axis] - 1 - voxels[:, axis]
    turned = Volume(np.flip(scan.array, axis).copy(), scan.geometry, "CT", "HU")
    np.testing.assert_allclose(multiscale.multiscale(turned, roi, mirrored), plain, atol=1e-4)
    monkeypatch.setattr(multiscale, "SLAB_VOXELS", 2 * 36 * 36)
    np.testing.assert_allclose(multiscale.multiscale(scan, roi, voxels), plain, atol=1e-5)


def test_multiscale_of_a_picture_and_of_a_constant() -> None:
    flat = volume(np.full((1, 20, 30), 7, dtype=np.int16))
    voxels = all_voxels(flat.geometry.full_box)
    assert not multiscale.multiscale(flat, flat.geometry.full_box, voxels).any()
    picture = smooth_scan(2, (1, 30, 30))
    corner = all_voxels(Box(start=(0, 0, 0), stop=(1, 5, 5)))
    assert np.isfinite(multiscale.multiscale(picture, picture.geometry.full_box, corner)).all()


def test_the_projection_is_fixed_and_keeps_distances() -> None:
    one = projection(256)
    np.testing.assert_array_equal(one, projection(256))
    assert one.shape == (256, PROJECTED)
    assert 16 <= PROJECTED <= 32
    # Written down so that no change of a library can move it unseen.
    assert one[0, :3] == pytest.approx([-0.048692278932237903, -0.2125041073761863, -0.11741229243459916], abs=1e-12)
    points = np.random.default_rng(3).standard_normal((40, 256))
    before = np.linalg.norm(points[:, None] - points[None], axis=-1)[np.triu_indices(40, 1)]
    after = np.linalg.norm((points @ one)[:, None] - (points @ one)[None], axis=-1)[np.triu_indices(40, 1)]
    assert np.mean(after / before) == pytest.approx(1.0, abs=0.05)
    assert np.corrcoef(np.log(after), np.log(before))[0, 1] > 0
    np.testing.assert_array_equal(projection(5), np.eye(5))


class Maps:
    """A segmenter whose maps are known functions of the image."""

    def __init__(self, names: tuple[str, ...] = ("test",)) -> None:
        self.names = names

    @property
    def info(self) -> SegmenterInfo:
        return ContrastSegmenter().info.model_copy(update={"feature_names": self.names})

    def check(self, modality: object) -> None: ...

    def encode(self, volume: Volume, roi: Box) -> object:
        raise AssertionError("the test asks for no mask")

    def segment(self, encoded: object, prompts: object) -> object:
        raise AssertionError("the test asks for no mask")

    def features_at(self, volume: Volume, around: Box, window: object, voxels: np.ndarray) -> np.ndarray:
        self.seen = (around, window)
        grey = volume.array[tuple(voxels.T)].astype(np.float64)
        return np.stack([np.sin(grey * (k + 1) / 50.0) for k in range(40)], axis=1)


def test_the_segmenters_maps_are_projected_and_the_view_is_the_organs() -> None:
    scan = smooth_scan(4)
    model, around = Maps(), Box(start=(2, 3, 4), stop=(10, 30, 30))
    phi = feature_named("segmenter", model, window=(0.0, 400.0), around=around)
    voxels = all_voxels(around)[::11]
    got = phi.prepare(scan, scan.geometry.full_box)(voxels)
    assert got.shape == (len(voxels), PROJECTED)
    assert model.seen == (around, (0.0, 400.0))
    raw = model.features_at(scan, around, None, voxels)
    np.testing.assert_allclose(got, raw @ projection(40))


def test_a_segmenter_without_maps_is_told_apart_before_long_work() -> None:
    for segmenter in (None, ContrastSegmenter(), Maps(names=())):
        with pytest.raises(InputError, match="maps"):
            feature_named("segmenter", segmenter)
    with pytest.raises(InputError, match="`contrast`"):
        check_feature("segmenter", ContrastSegmenter())
    check_feature("segmenter", Maps())
    check_feature("multiscale", ContrastSegmenter())


def test_only_the_other_features_add_to_a_calibrations_identity() -> None:
    assert feature_settings("intensity") == {}
    assert "grey_4mm" in str(feature_settings("multiscale")["feature_maps"])
    assert feature_settings("segmenter") == {"feature_dimensions": PROJECTED, "feature_projection_seed": 251112691}


@pytest.mark.parametrize("name", ["intensity", "multiscale", "segmenter"])
def test_on_exchangeable_voxels_every_feature_keeps_the_level(name: str) -> None:
    """A candidate scattered at random over the organ: its voxels are exchangeable with the organ's, whatever φ sees
    around each. 0.05 ± 3 standard errors of 300 tests, each with draws of its own; the same seed gives the same p."""
    scan = smooth_scan(100)
    box = scan.geometry.full_box

    def p_value(seed: int) -> float:
        mask = np.zeros(box.shape, dtype=bool)
        mask.flat[np.random.default_rng(seed).choice(mask.size, 50, replace=False)] = True
        evidence = gather_evidence(
            scan,
            box,
            np.ones(box.shape, bool),
            [Region(box, mask, mask.astype(np.float32), 1.0)],
            [CandidateFeatures.model_construct()],
            settings=RejectSettings(feature=name, permutations=99, sample_size=50),
            seed=seed,
            segmenter=Maps(),
        )
        (verdict,) = judge(evidence)
        assert verdict.p is not None
        return verdict.p

    p_values = [p_value(seed) for seed in range(300)]
    assert p_value(0) == p_values[0]
    level = float(np.mean(np.asarray(p_values) <= 0.05))
    assert abs(level - 0.05) < 3 * np.sqrt(0.05 * 0.95 / 300)


def test_texture_alone_is_seen_by_multiscale_and_not_by_grey_values() -> None:
    """A body with the grey values of its organ in another order: smoother. Only φ with neighbours can tell."""
    rng = np.random.default_rng(8)
    array = rng.normal(100.0, 10.0, (16, 40, 40))
    body = Box(start=(4, 12, 12), stop=(12, 28, 28))
    smooth = ndimage.gaussian_filter(rng.standard_normal(body.shape), 2.0)
    ranks = smooth.ravel().argsort().argsort()
    array[body.slices] = np.sort(array[body.slices].ravel())[ranks].reshape(body.shape)
    scan = Volume(array.astype(np.float32), Geometry(shape=array.shape, spacing_mm=(1.0, 1.0, 1.0)), "CT", "HU")
    mask = np.ones(body.shape, dtype=bool)
    region = Region(body, mask, mask.astype(np.float32), 1.0)
    p = {}
    for name in ("intensity", "multiscale"):
        evidence = gather_evidence(
            scan,
            scan.geometry.full_box,
            np.ones(scan.geometry.shape, bool),
            [region],
            [CandidateFeatures.model_construct()],
            settings=RejectSettings(feature=name, permutations=199),
            seed=0,
        )
        p[name] = judge(evidence)[0].p
    assert p["multiscale"] == pytest.approx(1 / 200)
    assert p["intensity"] is not None
    assert p["intensity"] > 0.05
