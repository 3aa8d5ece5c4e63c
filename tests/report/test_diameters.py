"""The diameters are exact for the voxels and within one voxel diagonal of the shape that the voxels sample."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.spatial.distance import pdist

from r2seg_agent.report.diameters import in_plane_diameters


def brute_force_longest(pixels: np.ndarray, spacing: tuple[float, float]) -> float:
    centres = np.argwhere(pixels)
    corners = np.concatenate([centres + np.asarray((a, b)) for a in (-0.5, 0.5) for b in (-0.5, 0.5)]) * spacing
    return float(pdist(np.unique(corners, axis=0)).max())


def brute_force_chord(d, spacing: tuple[float, float], pixels: np.ndarray) -> float:
    """Widest chord of the hull at a right angle to the longest diameter, by clipping the hull at many positions."""
    from scipy.spatial import ConvexHull

    centres = np.argwhere(pixels)
    points = np.concatenate([centres + np.asarray((a, b)) for a in (-0.5, 0.5) for b in (-0.5, 0.5)]) * spacing
    hull = points[ConvexHull(points).vertices]
    start, stop = (np.asarray(p) * spacing for p in d.longest_ends)
    along = (stop - start) / np.linalg.norm(stop - start)
    t, h = hull @ along, hull @ np.asarray([-along[1], along[0]])
    best = 0.0
    for at in np.linspace(t.min(), t.max(), 2001):
        heights = []
        for i in range(len(t)):
            t0, t1, h0, h1 = t[i - 1], t[i], h[i - 1], h[i]
            if min(t0, t1) <= at <= max(t0, t1) and t0 != t1:
                heights.append(h0 + (at - t0) / (t1 - t0) * (h1 - h0))
        if heights:
            best = max(best, max(heights) - min(heights))
    return best


@given(st.integers(0, 2**32 - 1), st.floats(0.3, 3), st.floats(0.3, 3))
def test_longest_is_the_largest_corner_distance_and_the_perpendicular_the_widest_chord(seed, dy, dx):
    pixels = np.random.default_rng(seed).random((7, 9)) < 0.3
    assume(pixels.any())
    d = in_plane_diameters(pixels[None], (1.0, dy, dx), 0)
    assert d.longest == pytest.approx(brute_force_longest(pixels, (dy, dx)))
    chord = brute_force_chord(d, (dy, dx), pixels)
    assert chord - 1e-9 <= d.perpendicular <= chord + 0.05 * (dy + dx)


@given(st.floats(4, 14), st.floats(0.3, 1.0), st.floats(0, math.pi), st.floats(0.4, 1.5), st.floats(0.4, 1.5))
def test_an_ellipse_is_measured_within_one_voxel_diagonal(a, ratio, angle, dy, dx):
    b = a * ratio
    diagonal = math.hypot(dy, dx)
    assume(b * b / a >= diagonal / 2)  # no detail finer than a disc of half the diagonal
    y, x = np.meshgrid(np.arange(-20, 20, dy), np.arange(-20, 20, dx), indexing="ij")
    u, v = x * math.cos(angle) + y * math.sin(angle), -x * math.sin(angle) + y * math.cos(angle)
    d = in_plane_diameters(((u / a) ** 2 + (v / b) ** 2 <= 1)[None], (3.0, dy, dx), 0)
    assert abs(d.longest - 2 * a) <= diagonal


@given(st.floats(5, 14), st.floats(0.4, 0.8), st.floats(0, math.pi))
def test_the_perpendicular_of_a_long_ellipse_is_its_short_axis(a, ratio, angle):
    b, step = a * ratio, 0.25
    y, x = np.meshgrid(np.arange(-15, 15, step), np.arange(-15, 15, step), indexing="ij")
    u, v = x * math.cos(angle) + y * math.sin(angle), -x * math.sin(angle) + y * math.cos(angle)
    d = in_plane_diameters(((u / a) ** 2 + (v / b) ** 2 <= 1)[None], (3.0, step, step), 0)
    assert d.perpendicular == pytest.approx(2 * b, abs=0.1 * b + 2 * step)


@given(st.integers(1, 12), st.integers(1, 12), st.floats(0.3, 3), st.floats(0.3, 3))
def test_a_rectangle_is_exact(rows, columns, dy, dx):
    mask = np.zeros((1, 14, 14), dtype=bool)
    mask[0, 1 : 1 + rows, 1 : 1 + columns] = True
    height, width = rows * dy, columns * dx
    d = in_plane_diameters(mask, (1.0, dy, dx), 0)
    assert d.longest == pytest.approx(math.hypot(height, width))
    # The chord across the diagonal w × h that starts in a corner has length min(h/w, w/h) of the diagonal.
    assert d.perpendicular == pytest.approx(math.hypot(height, width) * min(height / width, width / height))


def test_one_voxel_has_its_own_diagonals():
    d = in_plane_diameters(np.ones((1, 1, 1), dtype=bool), (5.0, 3.0, 4.0), 0)
    assert (d.longest, d.perpendicular) == (pytest.approx(5.0), pytest.approx(3.75))


def test_the_slice_with_the_longest_diameter_is_named_along_the_given_axis():
    mask = np.zeros((6, 6, 6), dtype=bool)
    mask[1:4, 2, 1:3] = True
    mask[1:5, 4, 1:3] = True
    d = in_plane_diameters(mask, (2.0, 1.0, 1.0), 1)
    assert d.slice_index == 4
    assert d.longest == pytest.approx(math.hypot(8, 2))


def test_of_equal_slices_the_lowest_counts():
    mask = np.zeros((4, 3, 3), dtype=bool)
    mask[1:3, 1, 1] = True
    assert in_plane_diameters(mask, (1.0, 1.0, 1.0), 0).slice_index == 1


@given(st.integers(0, 2**32 - 1))
def test_the_two_diameters_stand_at_a_right_angle(seed):
    pixels = np.random.default_rng(seed).random((6, 6)) < 0.4
    assume(pixels.any())
    d = in_plane_diameters(pixels[None], (1.0, 0.7, 1.3), 0)
    first = (np.asarray(d.longest_ends[1]) - d.longest_ends[0]) * (0.7, 1.3)
    second = (np.asarray(d.perpendicular_ends[1]) - d.perpendicular_ends[0]) * (0.7, 1.3)
    assert first @ second == pytest.approx(0, abs=1e-9)
    assert np.linalg.norm(first) == pytest.approx(d.longest)
    assert np.linalg.norm(second) == pytest.approx(d.perpendicular)


def test_an_empty_mask_has_no_diameter():
    with pytest.raises(ValueError, match="empty"):
        in_plane_diameters(np.zeros((2, 2, 2), dtype=bool), (1.0, 1.0, 1.0), 0)
