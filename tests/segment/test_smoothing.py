"""Pooling, interpolation and filters in mm."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2seg_agent.segment.smoothing import gaussian, local_maximum, pool, pooled_cells, unpooled_slabs


def pooled(array, cells):
    return pool(lambda part: array[part], array.shape, cells)


def unpooled(cells, shape):
    out = np.empty(shape, np.float32)
    for part, values in unpooled_slabs(cells, shape):
        out[part] = values
    return out


def test_whole_blocks_are_block_means():
    array = np.random.default_rng(0).normal(size=(40, 6, 8)).astype(np.float32)
    blocks = array.reshape(20, 2, 3, 2, 2, 4).mean(axis=(1, 3, 5))
    assert pooled(array, (20, 3, 2)) == pytest.approx(blocks, abs=1e-5)


@given(st.tuples(*[st.integers(1, 23)] * 3), st.data())
def test_pooling_keeps_the_mean_and_commutes_with_flips(shape, data):
    cells = tuple(data.draw(st.integers(1, n)) for n in shape)
    array = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    small = pooled(array, cells)
    assert small.shape == cells
    assert small.mean() == pytest.approx(array.mean(), abs=1e-4)
    for axis in range(3):
        assert np.flip(pooled(np.flip(array, axis), cells), axis) == pytest.approx(small, abs=1e-4)


@given(st.tuples(*[st.integers(1, 23)] * 3), st.data())
def test_interpolation_keeps_constants_and_ranges(shape, data):
    cells = tuple(data.draw(st.integers(1, n)) for n in shape)
    assert unpooled(np.full(cells, 3.0, np.float32), shape) == pytest.approx(3.0)
    values = np.random.default_rng(2).uniform(size=cells).astype(np.float32)
    fine = unpooled(values, shape)
    assert fine.shape == shape
    assert fine.min() >= values.min() - 1e-6
    assert fine.max() <= values.max() + 1e-6


def test_interpolation_of_a_ramp_is_the_ramp_inside():
    z = np.arange(40, dtype=np.float32)[:, None, None] * np.ones((1, 2, 2), np.float32)
    assert unpooled(pooled(z, (10, 2, 2)), z.shape)[4:-4] == pytest.approx(z[4:-4], abs=1e-4)


def test_the_gaussian_has_its_width_in_mm_on_every_axis():
    array = np.zeros((61, 61, 61), np.float32)
    array[30, 30, 30] = 1
    spacing = (2.0, 1.0, 0.5)
    smooth = gaussian(array, spacing, 4.0).astype(np.float64)
    for axis, step in enumerate(spacing):
        profile = smooth.sum(axis=tuple(a for a in range(3) if a != axis))
        positions = (np.arange(61) - 30) * step
        sd = np.sqrt((profile * positions**2).sum() / profile.sum())
        assert sd == pytest.approx(4.0, rel=0.05)


def test_axes_of_one_voxel_are_left_alone():
    array = np.random.default_rng(0).normal(size=(1, 9, 9)).astype(np.float32)
    assert gaussian(array, (1.0, 1.0, 1.0), 0.1) == pytest.approx(array)
    assert gaussian(np.ones((1, 30, 30), np.float32), (1.0, 1.0, 1.0), 2.0)[0, 15, 15] == pytest.approx(1, abs=1e-5)


def test_local_maximum_reaches_so_many_mm():
    array = np.zeros((1, 1, 41), np.float32)
    array[0, 0, 20] = 1
    assert local_maximum(array, (5.0, 5.0, 0.5), 3.0).sum() == 13


def test_cells_are_never_finer_than_voxels():
    assert pooled_cells((10, 100, 100), (5.0, 0.5, 0.5), 2.0) == (10, 25, 25)
    assert pooled_cells((1, 3, 3), (1.0, 1.0, 1.0), 50.0) == (1, 1, 1)
