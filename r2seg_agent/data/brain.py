"""A brain mask by thresholds and morphology, for T1 scans that come without organ masks: demo only, and crude."""

from __future__ import annotations

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_multiotsu

from r2seg_agent.imaging.volume import Mask, Volume

SMOOTH_MM = 1.0
AIR_SHARE = 0.05
"""Voxels below this share of the 99th percentile are air and leave the thresholds alone."""
CORE_MM = 5.0
"""Brain is thicker than this in a slice; bridges to the scalp through the skull base are thinner."""
REGROW_MM = 6.0
CLOSE_MM = 12.0
"""Closes over tumours and vessels at the brain's edge, which are brighter than brain in T1 with contrast agent."""


def brain_by_threshold(volume: Volume) -> Mask:
    """Boolean (z, y, x). The middle of three Otsu classes (bone and air, brain, fat), its thick core slice by slice,
    the largest 6-connected part, grown back, closed and filled in each slice.

    No skull stripping that one should rely on: with a strong bias field slices are missed.
    """
    spacing = volume.geometry.spacing_mm[1:]
    smooth = ndimage.gaussian_filter(volume.array.astype(np.float32), [0, *(SMOOTH_MM / s for s in spacing)])
    tissue = smooth[smooth > AIR_SHARE * np.percentile(smooth, 99)]
    dark, bright = threshold_multiotsu(tissue, classes=3)  # type: ignore[no-untyped-call]  # scikit-image has no types
    middle = (smooth > dark) & (smooth < bright)
    core = np.stack([_depth_mm(item, spacing) > CORE_MM for item in middle])
    largest = cc3d.largest_k(core, k=1, connectivity=6) > 0
    mask: Mask = np.stack([_closed(item, spacing) for item in largest])
    return mask


def _closed(core: NDArray[np.bool_], spacing: tuple[float, float]) -> NDArray[np.bool_]:
    if not core.any():
        return core
    margin = [int(np.ceil((CLOSE_MM + REGROW_MM) / s)) + 1 for s in spacing]
    padded = np.pad(core, [(m, m) for m in margin])
    grown = _depth_mm(~padded, spacing) <= REGROW_MM + CLOSE_MM
    closed = ndimage.binary_fill_holes(_depth_mm(grown, spacing) > CLOSE_MM)
    inside: NDArray[np.bool_] = closed[margin[0] : -margin[0], margin[1] : -margin[1]]
    return inside


def _depth_mm(mask: NDArray[np.bool_], spacing: tuple[float, float]) -> NDArray[np.float64]:
    """Distance of each true pixel to the nearest false one; outside the picture counts as false."""
    depth: NDArray[np.float64] = ndimage.distance_transform_edt(np.pad(mask, 1), sampling=spacing)
    return depth[1:-1, 1:-1]
