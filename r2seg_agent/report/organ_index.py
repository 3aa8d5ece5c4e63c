"""Size and extent of each organ of an `AnchorSet`, computed once however many findings ask."""

from __future__ import annotations

from functools import reduce
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.imaging.geometry import Box, Geometry, bounding_box
from r2seg_agent.imaging.volume import Mask
from r2seg_agent.reason.anchors.protocol import AnchorSet


class Extent(NamedTuple):
    """Smallest and largest LPS coordinates (x, y, z) in mm of the voxel centres of an organ, and its box."""

    low_lps_mm: NDArray[np.float64]
    high_lps_mm: NDArray[np.float64]
    box: Box


class OrganIndex:
    """Lazy facts about the organs of one `AnchorSet`; get it with `organ_index(anchors)`."""

    def __init__(self, anchors: AnchorSet) -> None:
        # Its parts and not the set itself: the index is kept under the set in a weak dictionary.
        self._labels = anchors.labels
        self._names = dict(anchors.names)
        self._geometry = anchors.geometry
        self._counts = anchors.voxels_by_label()
        self._extents: dict[str, Extent | None] = {}

    def n_voxels(self, organ: str) -> int:
        """Number of voxels of `organ`; 0 for an organ that is not in the set."""
        return int(self._counts[list(self._names.get(organ, ()))].sum())

    def extent(self, organ: str) -> Extent | None:
        """Where `organ` begins and ends along the patient's axes; None when it has no voxels."""
        if organ not in self._extents:
            self._extents[organ] = self._find_extent(organ)
        return self._extents[organ]

    def _find_extent(self, organ: str) -> Extent | None:
        """Slice by slice: a mask of the whole grid would cost a quarter of a float32 copy of the scan."""
        wanted = np.zeros(self._counts.size, dtype=bool)
        wanted[list(self._names.get(organ, ()))] = True
        corners: list[NDArray[np.float64]] = []
        boxes: list[Box] = []
        for z, plane in enumerate(self._labels):
            mask: Mask = wanted[plane]
            box = bounding_box(mask[None])
            if box is None:
                continue
            boxes.append(box.shifted((z, 0, 0)))
            corners.append(_row_ends_lps(mask, z, self._geometry))
        if not boxes:
            return None
        points = np.concatenate(corners)
        return Extent(points.min(axis=0), points.max(axis=0), reduce(Box.union, boxes))


_known: WeakKeyDictionary[AnchorSet, OrganIndex] = WeakKeyDictionary()


def organ_index(anchors: AnchorSet) -> OrganIndex:
    """The index of `anchors`, kept as long as `anchors` lives."""
    index = _known.get(anchors)
    if index is None:
        index = _known[anchors] = OrganIndex(anchors)
    return index


def _row_ends_lps(mask: Mask, z: int, geometry: Geometry) -> NDArray[np.float64]:
    """(2, 3) smallest and largest LPS coordinates of a slice (y, x) of a mask. A linear function takes its extremes
    over a row of voxels at the row's ends: those are enough."""
    y = np.flatnonzero(mask.any(axis=1))
    first = mask[y].argmax(axis=1)
    last = mask.shape[1] - 1 - mask[y, ::-1].argmax(axis=1)
    ends = np.stack([np.full(2 * y.size, z), np.tile(y, 2), np.concatenate([first, last])], axis=1)
    points = geometry.to_lps_mm(ends.astype(np.float64))
    return np.stack([points.min(axis=0), points.max(axis=0)])
