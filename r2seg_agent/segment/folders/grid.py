"""Arrays turned to the orientation that a network was trained in, and back."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.imaging.geometry import Box, Float3, Geometry, Index3
from r2seg_agent.imaging.volume import Volume
from r2seg_agent.segment.folders.side_file import AXIS_OF, Orientation


@dataclass(frozen=True)
class Turn:
    """`axes[k]` is the array axis of the scan that becomes axis k (z, y, x); `flipped` of these run backwards."""

    axes: Index3
    flipped: tuple[bool, bool, bool]

    def apply(self, array: NDArray[Any]) -> NDArray[Any]:
        """A view of (…, z, y, x) in the network's orientation."""
        lead = array.ndim - 3
        turned = array.transpose([*range(lead), *(lead + axis for axis in self.axes)])
        return turned[(..., *(slice(None, None, -1 if flip else None) for flip in self.flipped))]

    def undo(self, array: NDArray[Any]) -> NDArray[Any]:
        """A view of (…, z, y, x) in the scan's own orientation again."""
        lead = array.ndim - 3
        back = array[(..., *(slice(None, None, -1 if flip else None) for flip in self.flipped))]
        return back.transpose([*range(lead), *(lead + self.axes.index(axis) for axis in range(3))])

    def place(self, voxel: Index3, shape: Index3) -> Index3:
        """A voxel of a scan of this `shape` in the network's order."""
        a, b, c = (
            shape[axis] - 1 - voxel[axis] if flipped else voxel[axis]
            for axis, flipped in zip(self.axes, self.flipped, strict=True)
        )
        return a, b, c

    def box(self, box: Box, shape: Index3) -> Box:
        """A box of a scan of this `shape` in the network's order."""
        first = self.place(box.start, shape)
        last = self.place((box.stop[0] - 1, box.stop[1] - 1, box.stop[2] - 1), shape)
        a, b, c = (min(pair) for pair in zip(first, last, strict=True))
        d, e, f = (max(pair) + 1 for pair in zip(first, last, strict=True))
        return Box(start=(a, b, c), stop=(d, e, f))

    def triple(self, values: Float3) -> Float3:
        """Numbers per axis of the scan (a spacing, say) in the network's order."""
        a, b, c = (values[axis] for axis in self.axes)
        return (a, b, c)

    def triple_back(self, values: Float3) -> Float3:
        """Numbers per axis of the network in the scan's order."""
        a, b, c = (values[self.axes.index(axis)] for axis in range(3))
        return (a, b, c)


def turn_to(orientation: Orientation, geometry: Geometry) -> Turn:
    """How arrays on `geometry` become `orientation`: each axis goes to the patient axis that it runs along most."""
    if orientation == "as_stored":
        return Turn(axes=(0, 1, 2), flipped=(False, False, False))
    # rows: the network's axes z, y, x; columns: the scan's axes z, y, x; values: how far one runs along the other
    along_patient = geometry.direction_matrix[::-1, ::-1]
    wanted = [AXIS_OF[letter] for letter in reversed(orientation)]
    along = np.stack([sign * along_patient[axis] for axis, sign in wanted])
    best = max(permutations(range(3)), key=lambda order: sum(abs(along[k, order[k]]) for k in range(3)))
    a, b, c = (bool(along[k, best[k]] < 0) for k in range(3))
    return Turn(axes=(best[0], best[1], best[2]), flipped=(a, b, c))


def with_context(roi: Box, context_mm: Float3, geometry: Geometry) -> Box:
    """The ROI grown by what the network sees around a voxel, in mm along the scan's axes (z, y, x), within the scan."""
    z, y, x = (int(np.ceil(mm / step)) for mm, step in zip(context_mm, geometry.spacing_mm, strict=True))
    return roi.dilated((z, y, x), geometry.shape)


class TurnedScans:
    """Scans in the orientation that a model is shown them in, such as "RAS"; the last one is kept."""

    def __init__(self, orientation: str) -> None:
        self._orientation = orientation
        self._shown: tuple[Volume, Turn, NDArray[Any]] | None = None

    def of(self, volume: Volume) -> tuple[Turn, NDArray[Any]]:
        """The turn from the image grid, and the turned voxels."""
        if self._shown is None or self._shown[0] is not volume:
            turn = turn_to(self._orientation, volume.geometry)
            self._shown = (volume, turn, np.ascontiguousarray(turn.apply(volume.array)))
        return self._shown[1:]
