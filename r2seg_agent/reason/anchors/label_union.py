"""Many masks, which may overlap, as one label map with names."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.errors import InputError
from r2seg_agent.imaging.geometry import Index3, bounding_box
from r2seg_agent.imaging.volume import Mask

MAX_LABEL = int(np.iinfo(np.uint16).max)


class LabelUnion:
    """Masks are added one by one; where a new mask overlaps others, each overlap becomes a label of its own.

    `names` then maps each organ to the labels whose union is exactly its mask. One uint16 map in memory, whatever
    the number of masks.
    """

    def __init__(self, shape: Index3) -> None:
        self._labels: NDArray[np.uint16] = np.zeros(shape, dtype=np.uint16)
        self._names: dict[str, list[int]] = {}
        self._highest = 0

    def add(self, name: str, mask: Mask) -> None:
        """Add `mask` (z, y, x) to the organ `name`; an empty mask only makes the name known."""
        own = self._names.setdefault(name, [])
        box = bounding_box(mask)
        if box is None:
            return
        inside, labels = mask[box.slices], self._labels[box.slices]
        met = np.unique(labels[inside])
        lookup = np.zeros(self._highest + 1, dtype=np.uint16)
        for value in met.tolist():
            if value in own:
                lookup[value] = value
                continue
            if self._highest >= MAX_LABEL:
                raise InputError(
                    f"The masks overlap in more than {MAX_LABEL} different ways.", "Give fewer masks: only the organs."
                )
            self._highest += 1
            lookup[value] = self._highest
            for owners in self._names.values():
                if value in owners:
                    owners.append(self._highest)
            own.append(self._highest)
        labels[inside] = lookup[labels[inside]]

    def finish(self) -> tuple[NDArray[np.uint8] | NDArray[np.uint16], dict[str, tuple[int, ...]]]:
        """(labels, names), values that lost their last voxel left out; uint8 where that is enough."""
        used = set(np.unique(self._labels).tolist())
        names = {name: tuple(v for v in values if v in used) for name, values in self._names.items()}
        if self._highest <= np.iinfo(np.uint8).max:
            return self._labels.astype(np.uint8), names
        return self._labels, names
