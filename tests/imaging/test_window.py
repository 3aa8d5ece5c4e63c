"""Windows and percentile normalisation as method.md §2 states them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2seg_agent.errors import InputError
from r2seg_agent.imaging.window import WINDOWS, apply_window, percentile_window


def test_sites_have_the_windows_of_the_method() -> None:
    assert dict(WINDOWS) == {
        "abdomen": (-150, 250),
        "liver": (-25, 230),
        "liver_narrow": (-30, 170),
        "pancreas": (-100, 200),
        "colon": (-68, 187),
        "pelvis": (-55, 200),
        "lung": (-1000, 1000),
        "lung_narrow": (-1350, 150),
    }


@given(st.lists(st.integers(-2000, 3000), min_size=1, max_size=30), st.sampled_from(sorted(WINDOWS)))
def test_a_window_maps_its_ends_to_0_and_1_and_clips(values: list[int], site: str) -> None:
    array = np.array(values, dtype=np.int16)
    low, high = WINDOWS[site]
    out = apply_window(array, (low, high))
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, np.clip((array.astype(float) - low) / (high - low), 0, 1), atol=1e-6)
    assert (array == np.array(values)).all(), "the input stays as it was"


@pytest.mark.parametrize("window", [(1, 1), (2, 1), (0, np.nan), (-np.inf, 0)])
def test_an_empty_window_is_refused(window: tuple[float, float]) -> None:
    with pytest.raises(InputError, match="window"):
        apply_window(np.zeros(3), window)


def test_percentiles_count_only_positive_voxels_or_the_mask() -> None:
    array = np.concatenate([np.zeros(5000), np.arange(1, 1001)]).reshape(1, 60, 100)
    low, high = percentile_window(array)
    assert (low, high) == pytest.approx(tuple(np.percentile(np.arange(1, 1001), (0.5, 99.5))))
    mask = (array > 0) & (array <= 100)
    assert percentile_window(array, 0, 100, mask) == (1, 100)
    out = apply_window(array, percentile_window(array, 0, 100, mask))
    assert (out.min(), out.max()) == (0, 1)
    assert out[array == 50] == pytest.approx(49 / 99)


def test_degenerate_images_are_normalised_without_division_by_zero() -> None:
    even = np.full((1, 4, 4), 7)
    assert np.isfinite(apply_window(even, percentile_window(even))).all()
    negative = -np.arange(1.0, 17).reshape(1, 4, 4)
    assert percentile_window(negative, 0, 100) == (-16, -1)


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(InputError, match="not in order"):
        percentile_window(np.ones(4), 90, 10)
    with pytest.raises(InputError, match=r"mask .* is empty"):
        percentile_window(np.ones(4), mask=np.zeros(4, bool))
