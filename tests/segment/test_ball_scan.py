"""The scan statistic: as defined, blind to scale and sign, and much the same in noise of any correlation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage

from r2seg_agent.imaging.geometry import Box, Float3, Geometry
from r2seg_agent.imaging.volume import FloatArray, Mask, Volume
from r2seg_agent.segment.ball_scan import MIN_SHARE, RADII_MM, BallScan

SHAPE = (10, 24, 26)
SPACING: Float3 = (2.5, 1.0, 1.2)


def field(seed: int, sigma: float = 1.0, shape: tuple[int, int, int] = SHAPE) -> FloatArray:
    out: FloatArray = ndimage.gaussian_filter(
        np.random.default_rng(seed).standard_normal(shape, dtype=np.float32), sigma
    )
    unit: FloatArray = (out / out.std()).astype(np.float32)
    return unit


def volume_of(array: FloatArray, spacing: Float3 = SPACING) -> Volume:
    geometry = Geometry(shape=(array.shape[0], array.shape[1], array.shape[2]), spacing_mm=spacing)
    return Volume(array=array, geometry=geometry, modality="MR", unit="arbitrary")


def organ() -> Mask:
    z, y, x = np.indices(SHAPE)
    return np.asarray(((z - 5) / 5) ** 2 + ((y - 12) / 11) ** 2 + ((x - 13) / 12) ** 2 <= 1)


def ball(shape: tuple[int, int, int], centre: tuple[int, int, int], radius_mm: float, spacing: Float3) -> Mask:
    off = (np.indices(shape).T - centre) * np.asarray(spacing)
    squared = np.square(off).sum(-1).T
    return np.asarray(squared <= radius_mm**2)


def around(centre: tuple[int, int, int], half: int = 1) -> tuple[Box, Mask]:
    start = (centre[0] - half, centre[1] - half, centre[2] - half)
    stop = (centre[0] + half + 1, centre[1] + half + 1, centre[2] + half + 1)
    return Box(start=start, stop=stop), np.ones((2 * half + 1,) * 3, dtype=bool)


def direct(array: FloatArray, inside: Mask, candidate: tuple[Box, Mask], sign: float) -> float:
    """By its definition, one place after the other, for one radius after the other."""
    places = np.argwhere(inside)
    at = places * np.asarray(SPACING)
    contrast = (array - np.median(array[inside]))[inside]
    wanted = np.zeros(SHAPE, dtype=bool)
    wanted[candidate[0].slices] = candidate[1]
    best = -math.inf
    for radius in RADII_MM:
        offsets = np.stack(np.meshgrid(*[np.arange(-11, 12)] * 3, indexing="ij"), -1).reshape(-1, 3)
        ball_voxels = int((((offsets * np.asarray(SPACING)) ** 2).sum(1) <= radius**2).sum())
        near = ((at[:, None] - at[None]) ** 2).sum(-1) <= radius**2
        share = near.sum(1) / ball_voxels
        z = (near @ contrast) / ball_voxels / np.sqrt(share)
        enough = share >= MIN_SHARE
        z = z - np.median(z[enough])
        z = sign * z / (1.4826 * np.median(np.abs(z[enough])))
        z[~enough] = 0
        chance = math.sqrt(2 * math.log(len(places) * math.prod(SPACING) / (4 / 3 * math.pi * radius**3)))
        best = max(best, float(z[wanted[inside]].max()) - chance)
    return best


@pytest.mark.parametrize(("centre", "sign"), [((5, 12, 13), 1.0), ((4, 8, 9), -1.0)])
def test_as_defined(centre: tuple[int, int, int], sign: float) -> None:
    array = field(1)
    array[ball(SHAPE, centre, 4.0, SPACING)] += 2.0 * sign
    found, _ = BallScan(volume_of(array), organ()).statistic(*around(centre), brighter=sign > 0)
    assert found == pytest.approx(direct(array, organ(), around(centre), sign), abs=2e-3)


def test_scale_offset_and_sign_do_not_matter() -> None:
    array = field(2)
    array[4:7, 9:16, 10:17] += 3.0
    bright = BallScan(volume_of(array), organ()).statistic(*around((5, 12, 13)), brighter=True)
    dark = BallScan(volume_of(np.float32(300) - np.float32(40) * array), organ())
    assert dark.statistic(*around((5, 12, 13)), brighter=False) == pytest.approx(bright, abs=1e-2)


def test_it_finds_the_size_of_a_lesion() -> None:
    shape = (24, 60, 60)
    spacing: Float3 = (1.0, 1.0, 1.0)
    everywhere = np.ones(shape, dtype=bool)
    reached = []
    for radius in (3.0, 5.0, 8.5):
        array = field(3, 0.5, shape)
        array[ball(shape, (12, 30, 30), radius, spacing)] += 1.5
        _, found = BallScan(volume_of(array, spacing), everywhere).statistic(*around((12, 30, 30)), brighter=True)
        reached.append(found)
    assert reached == [3.0, 5.0, 8.5]


@pytest.mark.parametrize("sigma", [0.7, 1.2, 1.8])
def test_chance_reaches_about_the_same_in_noise_of_any_correlation(sigma: float) -> None:
    """The largest statistic of a lesion-free organ, everywhere at once: its mean over volumes stays near 0.5."""
    shape = (20, 48, 48)
    everywhere = np.ones(shape, dtype=bool)
    box = Box(start=(0, 0, 0), stop=shape)
    largest = [
        BallScan(volume_of(field(100 + seed, sigma, shape), (2.5, 1.0, 1.0)), everywhere).statistic(
            box, everywhere, brighter=True
        )[0]
        for seed in range(12)
    ]
    assert 0.0 < np.mean(largest) < 1.2


def test_nothing_to_measure() -> None:
    volume = volume_of(field(4))
    empty = np.zeros(SHAPE, dtype=bool)
    assert BallScan(volume, empty).statistic(*around((5, 12, 13)), brighter=True) == (0.0, 0.0)
    few = empty.copy()
    few[5, 10:14, 10:14] = True
    assert BallScan(volume, few).statistic(*around((5, 12, 12)), brighter=True) == (0.0, 0.0)
    left = organ() & (np.indices(SHAPE)[2] < 13)
    assert BallScan(volume, left).statistic(*around((5, 12, 23)), brighter=True) == (0.0, 0.0)
    flat = volume_of(np.full(SHAPE, 5.0, dtype=np.float32))
    assert BallScan(flat, organ()).statistic(*around((5, 12, 13)), brighter=True) == (0.0, 0.0)


def test_a_picture_is_scanned_with_discs() -> None:
    array = np.random.default_rng(5).normal(0, 1, (1, 60, 60)).astype(np.float32)
    array[0, 26:35, 26:35] += 2.0
    volume = volume_of(array, (1.0, 1.0, 1.0))
    scan = BallScan(volume, np.ones((1, 60, 60), dtype=bool))
    box = Box(start=(0, 28, 28), stop=(1, 33, 33))
    found, radius = scan.statistic(box, np.ones((1, 5, 5), dtype=bool), brighter=True)
    assert found > 5
    assert radius in (4.0, 5.0)


def test_a_large_organ_is_scanned_on_coarser_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    array = field(6)
    array[4:7, 8:17, 9:18] += 4.0
    fine = BallScan(volume_of(array), organ()).statistic(*around((5, 12, 13)), brighter=True)
    monkeypatch.setattr("r2seg_agent.segment.ball_scan.MAX_CELLS", 3_000)
    coarse = BallScan(volume_of(array), organ()).statistic(*around((5, 12, 13)), brighter=True)
    assert coarse != fine
    assert coarse[0] == pytest.approx(fine[0], rel=0.25)
