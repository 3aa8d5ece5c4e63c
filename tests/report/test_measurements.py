"""Measurements agree with geometry, also where the grid is oblique or the axial plane is not the first axis."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from r2seg_agent.imaging.geometry import Box, Geometry, bounding_box
from r2seg_agent.imaging.volume import Volume
from r2seg_agent.reason.plan import AnatomyPlan
from r2seg_agent.report.measurements import measure

PLAN = AnatomyPlan(target="t", target_name="t", site="lung", modality="CT", anchors=("lung_left",), prompt="p")
SAGITTAL = (0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, -1.0, 0.0)
"""Index x to posterior, y to inferior, z to the left: how a sagittal series is stored."""


def scan(shape, spacing=(2.0, 1.0, 1.0), **geometry) -> Volume:
    array = np.arange(math.prod(shape), dtype=np.int16).reshape(shape)
    return Volume(array, Geometry(shape=shape, spacing_mm=spacing, **geometry), "CT", "HU")


def test_volume_grey_values_and_centroid():
    volume = scan((4, 6, 8))
    mask = np.zeros((2, 3, 4), dtype=bool)
    mask[0, 1, 1:3] = True
    m = measure(mask, Box(start=(1, 2, 3), stop=(3, 5, 7)), volume, None, PLAN)
    values = volume.array[1, 3, 4:6]
    assert m.volume_ml == pytest.approx(2 * 2.0 / 1000)
    assert (m.mean_intensity, m.sd_intensity) == (pytest.approx(values.mean()), pytest.approx(values.std()))
    assert m.centroid_zyx == (1.0, 3.0, 4.5)
    assert m.centroid_lps_mm == (4.5, 3.0, 2.0)
    assert m.box == Box(start=(1, 3, 4), stop=(2, 4, 6))
    assert (m.diameter_slice, m.length_unit, m.area) == (1, "mm", None)


def test_a_sagittal_series_is_measured_in_its_axial_plane():
    volume = scan((10, 12, 14), spacing=(4.0, 1.0, 1.0), direction=SAGITTAL)
    mask = np.zeros((10, 12, 14), dtype=bool)
    mask[2:5, 3:9, 6] = True  # 12 mm left–right, 6 mm down, 1 mm deep
    m = measure(mask, volume.geometry.full_box, volume, None, PLAN)
    assert m.longest_diameter == pytest.approx(math.hypot(12, 1))
    assert m.diameter_slice == 3


@given(st.integers(0, 2**32 - 1), st.tuples(*[st.floats(-200, 200)] * 3))
def test_size_does_not_depend_on_where_and_how_the_grid_lies(seed, origin):
    rng = np.random.default_rng(seed)
    mask = np.zeros((5, 6, 7), dtype=bool)
    mask[tuple(rng.integers(0, (5, 6, 7)))] = True
    mask[tuple(rng.integers(0, (5, 6, 7)))] = True
    tilt = Rotation.from_euler("xyz", rng.uniform(-20, 20, 3), degrees=True).as_matrix()
    straight = scan((5, 6, 7))
    oblique = scan((5, 6, 7), origin_lps_mm=origin, direction=tuple(tilt.ravel().tolist()))
    first, second = (measure(mask, v.geometry.full_box, v, None, PLAN) for v in (straight, oblique))
    assert first.volume_ml == second.volume_ml
    assert first.longest_diameter == second.longest_diameter
    assert second.centroid_lps_mm == pytest.approx(
        tuple(tilt @ np.asarray(first.centroid_lps_mm) + np.asarray(origin)), abs=1e-6
    )


def test_a_picture_is_measured_in_pixels():
    volume = scan((1, 20, 30), spacing=(1.0, 1.0, 1.0), known_spacing="none")
    mask = np.zeros((1, 20, 30), dtype=bool)
    mask[0, 2:5, 20:24] = True
    box = bounding_box(mask)
    assert box is not None
    m = measure(mask[box.slices], box, volume, None, PLAN)
    assert (m.length_unit, m.longest_diameter, m.area) == ("px", 5.0, 12.0)
    assert m.place == "upper right of the picture, centre at x 22 px, y 3 px"


def test_no_voxels_cannot_be_measured():
    volume = scan((2, 2, 2))
    with pytest.raises(ValueError, match="empty"):
        measure(np.zeros((2, 2, 2), dtype=bool), volume.geometry.full_box, volume, None, PLAN)
    with pytest.raises(ValueError, match="does not cover"):
        measure(np.ones((1, 2, 2), dtype=bool), volume.geometry.full_box, volume, None, PLAN)
