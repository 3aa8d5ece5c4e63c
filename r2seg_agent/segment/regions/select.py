"""From a search area to its best regions: propose, describe, rank, and keep those that do not lie on each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.imaging.geometry import Box
from r2seg_agent.imaging.volume import Mask, Volume
from r2seg_agent.progress import Progress, silent
from r2seg_agent.segment.candidates import Region
from r2seg_agent.segment.regions.describe import Described, Prior, describe, overlap
from r2seg_agent.segment.regions.grid import WorkingGrid, working_grid
from r2seg_agent.segment.regions.score import shipped
from r2seg_agent.segment.regions.tree import propose

MOST_REGIONS = 12
"""Regions of a search that are kept, best first."""
SAME_SHARE = 0.4
"""A region that shares this much of the smaller of the two with a better one is no region of its own."""
LOOKED_AT = 400
"""Best regions among which these are chosen."""


@dataclass(frozen=True, eq=False)
class RankedRegion:
    """A region on the image grid with its score; the larger, the more like a lesion."""

    region: Region
    score: float


def ranked_regions(
    volume: Volume, mask: Mask, prior: Prior, *, progress: Progress = silent
) -> tuple[RankedRegion, ...]:
    """The best regions inside `mask` (z, y, x, on the image grid) by the score that comes with r2seg, best first; no
    two share a voxel. Nothing in an image without a mask.
    """
    grid = working_grid(volume, mask)
    if grid is None:
        return ()
    progress("candidates", 0, 3, "component trees")
    proposals = propose(grid)
    progress("candidates", 1, 3, f"describe {len(proposals)} regions")
    described = describe(grid, proposals, prior)
    progress("candidates", 2, 3, "rank")
    return on_image(grid, described, shipped()[0](described.values))


def on_image(grid: WorkingGrid, described: Described, scores: NDArray[np.float64]) -> tuple[RankedRegion, ...]:
    """The chosen regions on the image grid; a voxel of two belongs to the better one."""
    taken: list[tuple[Box, Mask]] = []
    found = []
    for k in chosen(described, scores):
        placed = grid.on_image(described.boxes[k], described.masks[k])
        if placed is None:
            continue
        box, mask = placed
        for other, theirs in taken:
            common = box.intersection(other)
            if common is not None:
                mask[common.within(box).slices] &= ~theirs[common.within(other).slices]
        if not mask.any():
            continue
        taken.append((box, mask))
        region = Region(box=box, mask=mask, probability=mask.astype(np.float32), scale=1.0)
        found.append(RankedRegion(region, float(scores[k])))
    return tuple(found)


def chosen(described: Described, scores: NDArray[np.float64]) -> tuple[int, ...]:
    """Which regions are kept, best first; equal scores in the order of the regions."""
    sizes = [int(np.count_nonzero(mask)) for mask in described.masks]
    kept: list[int] = []
    for k in np.argsort(-scores, kind="stable")[:LOOKED_AT].tolist():
        shares = (
            overlap(described.boxes[k], described.masks[k], described.boxes[j], described.masks[j])
            / min(sizes[k], sizes[j])
            for j in kept
        )
        if all(share < SAME_SHARE for share in shares):
            kept.append(k)
        if len(kept) == MOST_REGIONS:
            break
    return tuple(kept)
