"""Noise measured from differences: right for known noise, blind to drift, lesions and the organ's edge."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage

from r2seg_agent.imaging.geometry import Float3, Geometry
from r2seg_agent.imaging.volume import FloatArray, Mask, Volume
from r2seg_agent.reject.noise import measure_noise

SHAPE = (24, 64, 64)
SPACING: Float3 = (2.0, 0.8, 1.0)
FWHM_PER_SD = math.sqrt(8 * math.log(2))


def smooth_noise(seed: int, fwhm_mm: Float3, sd: float = 15.0) -> FloatArray:
    white = np.random.default_rng(seed).standard_normal(SHAPE, dtype=np.float32)
    sigmas = [f / FWHM_PER_SD / s for f, s in zip(fwhm_mm, SPACING, strict=True)]
    field: FloatArray = ndimage.gaussian_filter(white, sigmas)
    scaled: FloatArray = (field * (sd / field.std())).astype(np.float32)
    return scaled


def volume_of(array: FloatArray) -> Volume:
    return Volume(
        array=np.rint(array).astype(np.int16),
        geometry=Geometry(shape=SHAPE, spacing_mm=SPACING),
        modality="CT",
        unit="HU",
    )


def ball(radius_vox: float) -> Mask:
    grid = np.indices(SHAPE)
    squared = sum(((grid[a] - SHAPE[a] / 2) / (SHAPE[a] / 2 * radius_vox)) ** 2 for a in range(3))
    return np.asarray(squared <= 1.0)


EVERYWHERE: Mask = np.ones(SHAPE, dtype=bool)


@pytest.mark.parametrize("fwhm_mm", [(4.0, 1.6, 2.0), (3.5, 2.4, 2.4), (5.0, 3.0, 2.0)])
def test_known_noise_is_measured(fwhm_mm: Float3) -> None:
    found = [measure_noise(volume_of(60 + smooth_noise(seed, fwhm_mm)), EVERYWHERE) for seed in range(4)]
    assert np.mean([n.sd for n in found]) == pytest.approx(15.0, rel=0.03)
    assert np.mean([n.fwhm_mm for n in found], axis=0) == pytest.approx(fwhm_mm, rel=0.06)


def test_white_noise_has_hardly_any_width() -> None:
    found = measure_noise(volume_of(60 + smooth_noise(1, (0.0, 0.0, 0.0))), EVERYWHERE)
    assert all(f < 0.6 * s for f, s in zip(found.fwhm_mm, SPACING, strict=True))


def test_drift_lesions_and_the_organs_edge_change_little() -> None:
    organ = ball(0.9)
    plain = 60 + smooth_noise(3, (4.0, 2.0, 2.0))
    clean = measure_noise(volume_of(plain), organ)
    spoilt = plain + np.linspace(0, 30, SHAPE[2], dtype=np.float32)  # drift of 2 sd over the organ
    spoilt[ball(0.2)] += 120.0
    spoilt[~organ] = -1000.0
    dirty = measure_noise(volume_of(spoilt), organ)
    assert dirty.sd == pytest.approx(clean.sd, rel=0.2)
    assert dirty.fwhm_mm == pytest.approx(clean.fwhm_mm, rel=0.2)


def test_nothing_to_measure() -> None:
    nothing = (0.0, (0.0, 0.0, 0.0))
    flat = volume_of(np.full(SHAPE, 60.0, dtype=np.float32))
    assert measure_noise(flat, EVERYWHERE) == nothing
    assert measure_noise(flat, np.zeros(SHAPE, dtype=bool)) == nothing


def test_a_picture_has_no_noise_across_slices() -> None:
    array = np.random.default_rng(0).normal(100, 10, (1, 80, 80)).astype(np.float32)
    geometry = Geometry(shape=(1, 80, 80), spacing_mm=(1.0, 1.0, 1.0))
    picture = Volume(array=array, geometry=geometry, modality="photo", unit="arbitrary")
    found = measure_noise(picture, np.ones((1, 80, 80), dtype=bool))
    assert found.sd == pytest.approx(10.0, rel=0.05)
    assert found.fwhm_mm[0] == 0.0


def test_a_large_organ_is_read_in_every_kth_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    volume = volume_of(60 + smooth_noise(5, (4.0, 2.0, 2.0)))
    whole = measure_noise(volume, EVERYWHERE)
    monkeypatch.setattr("r2seg_agent.reject.noise.MAX_PAIRS", 20_000)
    part = measure_noise(volume, EVERYWHERE)
    assert part != whole
    assert part.sd == pytest.approx(whole.sd, rel=0.05)
    assert part.fwhm_mm == pytest.approx(whole.fwhm_mm, rel=0.1)
