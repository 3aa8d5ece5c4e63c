"""RT structure sets: contours filled like matplotlib's point-in-polygon test, holes, names and errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import dicom_files
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.path import Path as Polygon

from r2seg_agent.errors import InputError
from r2seg_agent.imaging.geometry import Geometry
from r2seg_agent.imaging.masks import read_label_map
from r2seg_agent.imaging.rtstruct import fill_polygon, rtstruct_to_label_map

GRID = Geometry(
    shape=(5, 40, 50),
    spacing_mm=(3, 0.8, 0.6),
    origin_lps_mm=(-15, 20, 7),
    direction=(0.8, -0.6, 0, 0.6, 0.8, 0, 0, 0, 1),
)


def on_slice(z: int, yx: np.ndarray) -> np.ndarray:
    return GRID.to_lps_mm(np.column_stack([np.full(len(yx), z, dtype=np.float64), yx]))


def circle(radius: float, centre: tuple[float, float] = (20.3, 24.7)) -> np.ndarray:
    turn = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    return np.column_stack([centre[0] + radius * np.sin(turn), centre[1] + radius * np.cos(turn)])


def saved(tmp_path: Path, **contours: list[np.ndarray]) -> Path:
    dicom_files.rtstruct(contours).save_as(tmp_path / "rs.dcm")
    return tmp_path / "rs.dcm"


@given(st.lists(st.tuples(st.floats(-4, 24), st.floats(-4, 29)), min_size=3, max_size=9))
def test_filling_is_the_even_odd_rule(points: list[tuple[float, float]]) -> None:
    """Oracle: the crossing number of a ray, pixel by pixel."""
    polygon = np.asarray(points)
    filled = fill_polygon(polygon, (20, 25))
    for y in range(20):
        for x in range(25):
            inside = False
            for (y0, x0), (y1, x1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
                if (y0 <= y) != (y1 <= y) and x >= x0 + (y - y0) * (x1 - x0) / (y1 - y0):
                    inside = not inside
            assert filled[y, x] == inside


def test_a_convex_contour_agrees_with_matplotlib() -> None:
    yy, xx = np.mgrid[:40, :50]
    oracle = Polygon(circle(11.37)).contains_points(np.column_stack([yy.ravel(), xx.ravel()])).reshape(40, 50)
    np.testing.assert_array_equal(fill_polygon(circle(11.37), (40, 50)), oracle)


def test_a_structure_on_an_oblique_grid_with_a_hole(tmp_path: Path) -> None:
    path = saved(tmp_path, GTV=[on_slice(2, circle(12)), on_slice(2, circle(5)), on_slice(3, circle(12))])
    labels = rtstruct_to_label_map(path, GRID, "gtv")
    assert labels.dtype == np.uint8
    assert labels[2].sum() == pytest.approx(np.pi * (12**2 - 5**2), rel=0.02)
    assert labels[3].sum() == pytest.approx(np.pi * 12**2, rel=0.02)
    assert labels[[0, 1, 4]].sum() == 0
    np.testing.assert_array_equal(read_label_map(path, GRID), labels)
    np.testing.assert_array_equal(read_label_map(f"{path}::GTV", GRID), labels)


def test_unknown_names_are_refused_with_those_in_the_file(tmp_path: Path) -> None:
    path = saved(tmp_path, GTV=[on_slice(2, circle(5))], Heart=[on_slice(1, circle(9))], Empty=[])
    with pytest.raises(InputError, match=r"no drawn structure `Lung`. It has: `GTV`, `Heart`"):
        rtstruct_to_label_map(path, GRID, "Lung")
    with pytest.raises(InputError, match="2 drawn structures") as caught:
        read_label_map(path, GRID)
    assert "rs.dcm::GTV" in caught.value.hint


def test_contours_of_another_series_are_refused(tmp_path: Path) -> None:
    tilted = on_slice(2, circle(5))
    tilted[:, 2] += np.linspace(0, 6, len(tilted))
    with pytest.raises(InputError, match="not drawn in the slices"):
        rtstruct_to_label_map(saved(tmp_path, GTV=[tilted]), GRID)
    with pytest.raises(InputError, match=r"covers no voxel of the image \(1 of 1"):
        rtstruct_to_label_map(saved(tmp_path, GTV=[on_slice(40, circle(5))]), GRID)
    with pytest.raises(InputError, match="0 drawn structures"):
        rtstruct_to_label_map(saved(tmp_path, Empty=[]), GRID)
    (tmp_path / "x.dcm").write_text("hello")
    with pytest.raises(InputError, match="not an RT structure set: it looks like text"):
        rtstruct_to_label_map(tmp_path / "x.dcm", GRID)
