"""A ranked region with the outline that a promptable network drew."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from r2seg_agent.imaging.geometry import Box, bounding_box
from r2seg_agent.imaging.volume import FloatArray, Mask
from r2seg_agent.segment.candidates import PROBABILITY_THRESHOLD, Region

LIKE_OUTLINE = 0.4
"""Least intersection over union of the two outlines; below it the box held something else."""


def outlined(region: Region, probability: FloatArray, view: Box, taken: Mask) -> Region:
    """`region` with what the network drew of it: `probability` (z, y, x) on `view`, less the voxels `taken` by a better
    one, to which its own are added. A drawing unlike the region (`LIKE_OUTLINE`) leaves it as it was.
    """
    here = region.box.intersection(view)
    mask = (probability >= PROBABILITY_THRESHOLD) & ~taken
    rough = np.zeros(view.shape, dtype=bool)
    if here is not None:
        rough[here.within(view).slices] = region.mask[here.within(region.box).slices]
    tight = bounding_box(mask)
    alike = np.count_nonzero(mask & rough) >= LIKE_OUTLINE * np.count_nonzero(mask | rough)
    if tight is None or not alike:
        own = rough & ~taken
        if here is None or not own.any():  # all of it belongs to a better one, or lies outside what was drawn
            return region
        taken |= own
        cut = own[here.within(view).slices]
        return replace(region, box=here, mask=cut, probability=cut.astype(np.float32))
    taken |= mask
    return replace(
        region,
        box=tight.shifted(view.start),
        mask=mask[tight.slices].copy(),
        probability=probability[tight.slices].copy(),
    )
