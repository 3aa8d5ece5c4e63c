"""A ranked region with the outline that the network drew in its slices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from r2seg_agent.imaging.geometry import Box, bounding_box
from r2seg_agent.imaging.volume import FloatArray, Mask
from r2seg_agent.segment.candidates import PROBABILITY_THRESHOLD, Region

LIKE_OUTLINE = 0.4
"""Least intersection over union of the two outlines; below it the box held something else."""


def outlined(region: Region, drawn: Sequence[tuple[int, FloatArray]], view: Box, taken: Mask) -> Region:
    """`region` with the masks `drawn` in its slices, less the voxels (of `view`) that a better one has."""
    here = region.box.intersection(view)
    probability = np.zeros(view.shape, dtype=np.float32)
    for z, plane in drawn:
        probability[z - view.start[0]] = plane
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
