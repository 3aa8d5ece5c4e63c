"""A body in 3D as the boxes and outlines of its slices."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from r2seg_agent.imaging.volume import Mask
from r2seg_agent.segment.candidates import Region
from r2seg_agent.segment.lite_medsam.fusion import Section

if TYPE_CHECKING:
    from r2seg_agent.segment.lite_medsam.preprocess import PlaneBox


def sections(region: Region) -> Iterator[tuple[int, Section]]:
    """The region in each slice that it meets: index of the slice, and the section, its box on the image grid."""
    z0, y0, x0 = region.box.start
    for z, plane in enumerate(region.mask):
        box = plane_box(plane)
        if box is not None:
            outline = plane[box[0] : box[2], box[1] : box[3]]
            yield z0 + z, Section((box[0] + y0, box[1] + x0, box[2] + y0, box[3] + x0), outline)


def plane_box(section: Mask) -> PlaneBox | None:
    """The smallest box around the true pixels of (y, x); None when there is none."""
    rows, columns = np.flatnonzero(section.any(axis=1)), np.flatnonzero(section.any(axis=0))
    if rows.size == 0:
        return None
    return (int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)
