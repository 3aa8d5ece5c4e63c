"""Where to ask: bodies unlike their organ's normal tissue, the most prominent first. Never from a reference mask."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from r2seg_agent.imaging.geometry import Box, bounding_box
from r2seg_agent.imaging.volume import Volume
from r2seg_agent.segment.candidates import Region, ScaleProbability, find_candidates
from r2seg_agent.segment.contrast import ContrastSegmenter
from r2seg_agent.segment.features import anchor_statistics, describe, prominence
from r2seg_agent.segment.protocol import Prompt

MAX_DESCRIBED = 100
"""Bodies whose prominence is measured: the ones with the largest score mean p · √size."""
SURROUNDINGS_VOXELS = 8
"""How far beyond the organ's box the surroundings of a body are looked at."""


def propose(volume: Volume, roi: Box, prompt: Prompt, most: int) -> tuple[Region, ...]:
    """At most `most` bodies inside the prompt's mask, the most prominent first; their boxes are on `volume`'s grid.

    `contrast` looks at its several scales; what it marks is cut where it is thin, so that a lesion and the vessel it
    sits on get boxes of their own. Prominence (`segment.features.prominence`) puts what is strong, large and
    self-contained before the pieces of vessel trees. A body whose mean lies outside the plan's grey window is left out:
    the network would see black or white, and gas in the bowel is the most prominent body beside a liver. A region of
    one slice is searched as a slice.
    """
    if roi.shape[0] == 1 and volume.geometry.shape[0] > 1:
        z = roi.start[0]
        plane = Box(start=(z, 0, 0), stop=(z + 1, *volume.geometry.shape[1:]))
        found = propose(volume.crop(plane), roi.within(plane), prompt, most)
        return tuple(replace(hit, box=hit.box.shifted(plane.start)) for hit in found)
    contrast = ContrastSegmenter()
    probability = contrast.segment(contrast.encode(volume, roi), [replace(prompt, box=None, points=())])[0]
    parts = [ScaleProbability(roi, 1.0, probability)]
    bodies = find_candidates(parts, volume.geometry, max_candidates=MAX_DESCRIBED).regions
    mask = np.ones(roi.shape, dtype=bool) if prompt.mask is None else prompt.mask
    organ = bounding_box(mask)
    if not bodies or organ is None:
        return ()
    # The same surroundings whatever the ROI: the organ's box and a little more.
    around = organ.shifted(roi.start).dilated((SURROUNDINGS_VOXELS,) * 3, volume.geometry.shape)
    near, anchor = volume.crop(around), np.zeros(around.shape, dtype=bool)
    common = around.intersection(roi)
    assert common is not None  # the organ's box lies in both
    anchor[common.within(around).slices] = mask[common.within(roi).slices]
    statistics = anchor_statistics(near, anchor)
    described = [
        (body, describe(replace(body, box=body.box.within(around)), near, anchor, statistics)) for body in bodies
    ]
    low, high = prompt.window or (-math.inf, math.inf)
    seen = [(item, features) for item, features in described if low <= features.mean_intensity <= high]
    seen.sort(key=lambda pair: (-prominence(pair[1]), pair[0].box.start, pair[0].box.stop))
    return tuple(item for item, _ in seen[:most])
