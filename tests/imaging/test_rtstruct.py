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
    with pytest.raises(InputError, match=r"covers no voxel of the image \(1 of 1 planes"):
        rtstruct_to_label_map(saved(tmp_path, GTV=[on_slice(40, circle(5))]), GRID)
    with pytest.raises(InputError, match="0 drawn structures"):
        rtstruct_to_label_map(saved(tmp_path, Empty=[]), GRID)
    (tmp_path / "x.dcm").write_text("hello")
    with pytest.raises(InputError, match="not an RT structure set: it looks like text"):
        rtstruct_to_label_map(tmp_path / "x.dcm", GRID)


BALL = Geometry(shape=(24, 48, 48), spacing_mm=(4, 3, 3), origin_lps_mm=(-70, -70, -46))
CENTRE_Z = 12
RADIUS_MM = 9.5


def ball_mask() -> np.ndarray:
    z, y, x = (np.arange(n) for n in BALL.shape)
    distance = ((z[:, None, None] - CENTRE_Z) * 4.0) ** 2 + ((y[None, :, None] - 24) * 3.0) ** 2
    return distance + ((x[None, None, :] - 24) * 3.0) ** 2 < RADIUS_MM**2


def ball_contours(step_mm: float, first_mm: float = 0.0) -> list[np.ndarray]:
    """The contours of the ball in planes `first_mm + n · step_mm` from its centre."""
    offsets = np.arange(-30, 31) * step_mm + first_mm
    turn = np.linspace(0, 2 * np.pi, 180, endpoint=False)
    drawn = []
    for offset in offsets[np.abs(offsets) < RADIUS_MM]:
        radius = np.sqrt(RADIUS_MM**2 - offset**2) / 3.0
        yx = np.column_stack([24 + radius * np.sin(turn), 24 + radius * np.cos(turn)])
        zyx = np.column_stack([np.full(len(turn), CENTRE_Z + offset / 4.0), yx])
        drawn.append(BALL.to_lps_mm(zyx))
    return drawn


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * np.count_nonzero(a.astype(bool) & b.astype(bool)) / (np.count_nonzero(a) + np.count_nonzero(b))


@pytest.mark.parametrize("step_mm", [4.0, 2.0, 1.0, 0.8, 0.5])
def test_contours_finer_than_the_slices_give_the_ball(tmp_path: Path, step_mm: float) -> None:
    """platipy #165: planes were rounded to slices and cancelled each other there."""
    notes: list[str] = []
    labels = rtstruct_to_label_map(saved(tmp_path, GTV=ball_contours(step_mm)), BALL, note=notes.append)
    assert dice(labels, ball_mask()) == 1.0
    assert notes == []


def test_contours_coarser_than_the_slices_leave_none_out(tmp_path: Path) -> None:
    notes: list[str] = []
    labels = rtstruct_to_label_map(saved(tmp_path, GTV=ball_contours(8.0)), BALL, note=notes.append)
    assert labels[10:15].any(axis=(1, 2)).all()
    assert not labels[:9].any()
    assert not labels[15:].any()
    assert dice(labels, ball_mask()) > 0.85
    assert "8 mm apart" in notes[0]
    assert "3 slices took the nearest contours" in notes[0]


@pytest.mark.parametrize("first_mm", [2.0, 1.9, 2.1, -2.0, 0.7])
def test_contours_between_the_slices_lose_no_slice(tmp_path: Path, first_mm: float) -> None:
    """Half a slice up or down: rounding to even numbers put two planes on one slice and none on the next."""
    contours = ball_contours(4.0, first_mm)
    labels = rtstruct_to_label_map(saved(tmp_path, GTV=contours), BALL)
    slices = np.flatnonzero(labels.any(axis=(1, 2)))
    assert np.diff(slices).tolist() == [1] * (len(contours) - 1)
    assert dice(labels, ball_mask()) > 0.75


@pytest.mark.parametrize("copy", ["same", "reversed", "rotated"])
def test_a_contour_that_is_stored_twice_counts_once(tmp_path: Path, copy: str) -> None:
    contours = ball_contours(4.0)
    again = {"same": contours[2], "reversed": contours[2][::-1], "rotated": np.roll(contours[2], 7, axis=0)}[copy]
    labels = rtstruct_to_label_map(saved(tmp_path, GTV=[*contours, again]), BALL)
    assert dice(labels, ball_mask()) == 1.0


def test_planes_of_a_slice_that_differ_by_rounding_are_one_plane_with_its_hole(tmp_path: Path) -> None:
    outer, inner = on_slice(2, circle(12)), on_slice(2, circle(5))
    inner[:, 2] += 0.02
    labels = rtstruct_to_label_map(saved(tmp_path, GTV=[outer, inner]), GRID)
    assert labels[2].sum() == pytest.approx(np.pi * (12**2 - 5**2), rel=0.02)
    assert labels[[0, 1, 3, 4]].sum() == 0


def test_a_missing_contour_is_said_and_its_slice_stays_empty(tmp_path: Path) -> None:
    contours = ball_contours(4.0)
    notes: list[str] = []
    labels = rtstruct_to_label_map(saved(tmp_path, GTV=contours[:1] + contours[2:]), BALL, note=notes.append)
    assert not labels[11].any()
    assert notes == [
        "The mask has no contour on 1 slice between its first and its last (axial slice 12): they are left empty."
    ]


def test_two_lesions_of_one_structure_are_not_joined(tmp_path: Path) -> None:
    low, high = on_slice(0, circle(4, (10, 10))), on_slice(3, circle(4, (30, 40)))
    notes: list[str] = []
    labels = rtstruct_to_label_map(saved(tmp_path, GTV=[low, high]), GRID, note=notes.append)
    assert labels.any(axis=(1, 2)).tolist() == [True, False, False, True, False]
    assert "axial slice 2, 3" in notes[0]


def test_planes_beyond_the_image_are_said(tmp_path: Path) -> None:
    notes: list[str] = []
    contours = [on_slice(z, circle(6)) for z in (3, 4, 5, 6)]
    labels = rtstruct_to_label_map(saved(tmp_path, GTV=contours), GRID, note=notes.append)
    assert labels.any(axis=(1, 2)).tolist() == [False, False, False, True, True]
    assert notes == ["2 of the 4 planes with contours of the mask lie above or below the image."]


def test_a_thin_structure_between_two_slices_is_not_lost(tmp_path: Path) -> None:
    labels = rtstruct_to_label_map(saved(tmp_path, GTV=[on_slice(1, circle(6)) + [0, 0, d] for d in (0.9, 1.2)]), GRID)
    assert np.count_nonzero(labels.any(axis=(1, 2))) == 1
