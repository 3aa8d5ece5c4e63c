"""Where to draw boxes: bodies that differ from their organ's normal tissue. Never from a reference mask."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from r2seg_agent.imaging.geometry import Box
from r2seg_agent.imaging.volume import Mask, Volume
from r2seg_agent.segment.candidates import Region, ScaleProbability, find_candidates
from r2seg_agent.segment.contrast import ContrastSegmenter
from r2seg_agent.segment.lite_medsam.preprocess import PlaneBox
from r2seg_agent.segment.protocol import Prompt


def propose(volume: Volume, roi: Box, prompt: Prompt, most: int) -> tuple[Region, ...]:
    """At most `most` bodies inside the prompt's mask, the clearest first; their boxes are on the grid of `volume`.

    `contrast` looks at its several scales; what it marks is cut where it is thin, so that a lesion and the vessel it
    sits on get boxes of their own. A region of one slice is searched as a slice.
    """
    contrast = ContrastSegmenter()
    probability = contrast.segment(contrast.encode(volume, roi), [replace(prompt, box=None, points=())])[0]
    return find_candidates([ScaleProbability(roi, 1.0, probability)], volume.geometry, max_candidates=most).regions


def boxes_by_slice(region: Region) -> Iterator[tuple[int, PlaneBox]]:
    """The box around the region in each slice that it meets: index of the slice, and the box, on the image grid."""
    z0, y0, x0 = region.box.start
    for z, section in enumerate(region.mask):
        found = plane_box(section)
        if found is not None:
            yield z0 + z, (found[0] + y0, found[1] + x0, found[2] + y0, found[3] + x0)


def plane_box(section: Mask) -> PlaneBox | None:
    """The smallest box around the true pixels of (y, x); None when there is none."""
    rows, columns = np.flatnonzero(section.any(axis=1)), np.flatnonzero(section.any(axis=0))
    if rows.size == 0:
        return None
    return (int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)
