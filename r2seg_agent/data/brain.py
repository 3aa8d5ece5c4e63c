"""A brain mask by threshold and morphology, for MR scans that come without organ masks (demo only)."""

from __future__ import annotations

import cc3d
import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu

from r2seg_agent.imaging.volume import Mask, Volume

PEEL_MM = 12.0
"""Scalp and skull are about this thick: what lies deeper inside the head is taken for brain."""
OPEN_MM = 4.0


def brain_by_threshold(volume: Volume) -> Mask:
    """Boolean (z, y, x): the head by Otsu's threshold, filled slice by slice, peeled by `PEEL_MM`, largest part."""
    array = volume.array
    threshold = float(threshold_otsu(array[array > array.min()]))  # type: ignore[no-untyped-call]  # scikit-image has no types
    head: Mask = np.asarray(array > threshold * 0.5)
    in_plane = min(volume.geometry.spacing_mm[1:])
    cross = ndimage.generate_binary_structure(2, 1)
    for z in range(head.shape[0]):
        opened = ndimage.binary_opening(head[z], cross, iterations=max(1, round(OPEN_MM / in_plane)))
        head[z] = ndimage.binary_fill_holes(opened)
    padded = np.pad(head, ((0, 0), (1, 1), (1, 1)))
    depth = np.stack([ndimage.distance_transform_edt(one, sampling=volume.geometry.spacing_mm[1:]) for one in padded])
    inside = depth[:, 1:-1, 1:-1] > PEEL_MM
    largest: Mask = np.asarray(cc3d.largest_k(inside, k=1, connectivity=6) > 0)
    return largest
