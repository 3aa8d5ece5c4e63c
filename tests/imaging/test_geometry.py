"""Grids and boxes: index ↔ LPS millimetres, crops, and the algebra of half-open boxes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.spatial.transform import Rotation

from r2seg_agent.imaging.geometry import Box, Geometry, bounding_box
from r2seg_agent.imaging.masks import grid_difference
from r2seg_agent.imaging.volume import Volume

SHAPE = (6, 7, 8)


def geometry(**changes: object) -> Geometry:
    d = Rotation.from_euler("xyz", (10, 20, 30), degrees=True).as_matrix().ravel().tolist()
    fields = {"shape": SHAPE, "spacing_mm": (2.5, 0.7, 0.6), "origin_lps_mm": (5, -6, 7), "direction": tuple(d)}
    return Geometry(**{**fields, **changes})  # type: ignore[arg-type]


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    start = draw(st.tuples(*[st.integers(0, n - 1) for n in SHAPE]))
    stop = draw(st.tuples(*[st.integers(a + 1, n) for a, n in zip(start, SHAPE, strict=True)]))
    return Box(start=start, stop=stop)


@given(st.tuples(*[st.floats(-50, 50)] * 3))
def test_index_to_world_and_back(zyx: tuple[float, float, float]) -> None:
    np.testing.assert_allclose(geometry().to_zyx(geometry().to_lps_mm(zyx)), zyx, atol=1e-9)


def test_world_positions_follow_the_definition() -> None:
    g = geometry()
    expected = np.array([5, -6, 7]) + g.direction_matrix @ (np.array([3, 2, 1]) * [0.6, 0.7, 2.5])
    np.testing.assert_allclose(g.to_lps_mm((1, 2, 3)), expected)
    assert g.voxel_volume_mm3 == pytest.approx(2.5 * 0.7 * 0.6)
    assert g.n_voxels == 6 * 7 * 8
    assert not g.is_2d


@given(boxes())
def test_a_crop_keeps_every_voxel_in_its_place(box: Box) -> None:
    g = geometry()
    inner = g.crop(box)
    assert inner.shape == box.shape
    np.testing.assert_allclose(inner.to_lps_mm((0, 0, 0)), g.to_lps_mm(np.array(box.start, dtype=float)), atol=1e-9)
    array = np.arange(g.n_voxels, dtype=np.int32).reshape(SHAPE)
    volume = Volume(array, g, "CT", "HU", name="n", source_format="nrrd")
    cropped = volume.crop(box)
    np.testing.assert_array_equal(cropped.array, array[box.slices])
    assert (cropped.name, cropped.source_format, cropped.modality) == ("n", "nrrd", "CT")
    np.testing.assert_array_equal(volume.float32(box), cropped.float32())
    assert volume.float32().flags.writeable


@given(boxes(), boxes())
def test_box_algebra_agrees_with_masks(a: Box, b: Box) -> None:
    masks = []
    for box in (a, b):
        mask = np.zeros(SHAPE, bool)
        mask[box.slices] = True
        masks.append(mask)
        assert bounding_box(mask) == box
    both, either = masks[0] & masks[1], masks[0] | masks[1]
    assert a.intersection(b) == bounding_box(both)
    assert a.union(b) == bounding_box(either)
    assert a.contains(b) == bool((either == masks[0]).all())
    if a.contains(b):
        assert b.within(a).shifted(a.start) == b
        np.testing.assert_array_equal(masks[1][a.slices][b.within(a).slices], masks[1][b.slices])
    else:
        with pytest.raises(ValueError, match="not inside"):
            b.within(a)


@given(boxes(), st.tuples(*[st.integers(0, 9)] * 3))
def test_dilation_stays_inside_and_grows_by_the_given_voxels(box: Box, by: tuple[int, int, int]) -> None:
    grown = box.dilated(by, SHAPE)
    assert grown.contains(box)
    assert Box(start=(0, 0, 0), stop=SHAPE).contains(grown)
    for axis in range(3):
        assert grown.start[axis] == max(0, box.start[axis] - by[axis])
        assert grown.stop[axis] == min(SHAPE[axis], box.stop[axis] + by[axis])


def test_no_voxel_no_box() -> None:
    assert bounding_box(np.zeros(SHAPE, bool)) is None
    assert Geometry(shape=(1, 2, 3), spacing_mm=(1, 1, 1)).full_box == Box(start=(0, 0, 0), stop=(1, 2, 3))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"shape": (0, 2, 2)}, "at least one voxel"),
        ({"spacing_mm": (1, 0, 1)}, "positive"),
        ({"spacing_mm": (1, float("nan"), 1)}, "finite"),
        ({"origin_lps_mm": (float("inf"), 0, 0)}, "finite"),
        ({"direction": (1, 0.5, 0, 0, 1, 0, 0, 0, 1)}, "orthonormal"),
    ],
)
def test_impossible_grids_are_refused(changes: dict[str, object], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        geometry(**changes)


def test_the_same_grid_is_judged_at_the_corners() -> None:
    g = geometry()
    assert not grid_difference(geometry(spacing_mm=(2.5, 0.7, 0.6 + 1e-5)), g)
    assert grid_difference(geometry(spacing_mm=(2.5, 0.7, 0.601)), g)
    assert grid_difference(geometry(shape=(6, 7, 9)), g)
    assert grid_difference(geometry(origin_lps_mm=(5, -6, 7.1)), g)


def test_geometry_goes_through_json_exactly() -> None:
    assert Geometry.model_validate_json(geometry().model_dump_json()) == geometry()


def test_empty_boxes_and_mismatched_volumes_are_refused() -> None:
    with pytest.raises(ValidationError, match="empty or negative"):
        Box(start=(1, 1, 1), stop=(1, 2, 2))
    with pytest.raises(ValidationError, match="empty or negative"):
        Box(start=(-1, 0, 0), stop=(1, 2, 2))
    with pytest.raises(ValueError, match="differ"):
        Volume(np.zeros((1, 2, 3)), geometry(), "CT", "HU")
