"""Intensity windows per body site and percentile normalisation, the grey values a segmenter sees (method.md §2)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.errors import InputError
from r2seg_agent.imaging.volume import FloatArray, Mask

LOWER_PERCENTILE = 0.5
UPPER_PERCENTILE = 99.5

WINDOWS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "abdomen": (-150.0, 250.0),
        "liver": (-25.0, 230.0),
        "liver_narrow": (-30.0, 170.0),
        "pancreas": (-100.0, 200.0),
        "colon": (-68.0, 187.0),
        "pelvis": (-55.0, 200.0),
        "lung": (-1000.0, 1000.0),
        "lung_narrow": (-1350.0, 150.0),
    }
)
"""(low, high) in HU by site, from the evaluation code of the paper's group and BiomedParse's own. For liver and lung
the two codes differ; the plain name is BiomedParse's window, `_narrow` the other."""


def apply_window(array: NDArray[Any], window: tuple[float, float]) -> FloatArray:
    """(v - low) / (high - low), clipped to [0, 1]; any shape.

    Raises:
        InputError: the window's high end is not above its low end.
    """
    low, high = window
    if not (np.isfinite(low) and np.isfinite(high) and high > low):
        raise InputError(f"The window [{low:g}, {high:g}] is empty; its upper end must lie above its lower end.")
    out = array.astype(np.float32)
    out -= np.float32(low)
    out /= np.float32(high - low)
    return np.clip(out, 0.0, 1.0, out=out)


def percentile_window(
    array: NDArray[Any], lower: float = LOWER_PERCENTILE, upper: float = UPPER_PERCENTILE, mask: Mask | None = None
) -> tuple[float, float]:
    """The grey values at two percentiles of the voxels in `mask`, or of the voxels > 0 without one.

    Where no voxel is > 0 all voxels count; where both percentiles agree the upper end is one step above.

    Raises:
        InputError: percentiles out of order, or an empty mask.
    """
    if not 0 <= lower < upper <= 100:
        raise InputError(f"Percentiles {lower:g} and {upper:g} are not in order within 0 … 100.")
    if mask is not None:
        values = array[mask]
        if values.size == 0:
            raise InputError("The mask for percentile normalisation is empty.", "Give a mask with at least one voxel.")
    else:
        values = array[array > 0]
        if values.size == 0:
            values = array.ravel()
    low, high = (float(v) for v in np.percentile(values, (lower, upper)))
    return (low, high) if high > low else (low, low + max(1.0, abs(low)) * 1e-3)
