"""`AnchorSource`: anything that can say where organs are, and `AnchorSet`: where they are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.frozen import Frozen
from r2seg_agent.imaging.geometry import Box, Geometry
from r2seg_agent.imaging.volume import Mask, Modality, Volume
from r2seg_agent.progress import Progress, silent


class AnchorSourceInfo(Frozen):
    """What made the anchors; goes into every report. `stand_in` sources are named as such wherever they show.

    `settings` holds every choice that changes the result: it is hashed into the cache key.
    """

    name: str
    version: str
    kind: Literal["model", "masks", "heuristic", "none"]
    stand_in: bool
    licence: str
    modalities: tuple[Modality, ...]
    weights_sha256: str | None = None
    settings: Mapping[str, str | float | int | bool] = {}


@dataclass(frozen=True, eq=False)
class AnchorSet:
    """Organ masks as one label map: `labels` (z, y, x) on the image grid, 0 = none.

    `names` maps an organ to the label values whose union is its mask, so that organs may contain each other
    ("body" holds "lung_left"). An organ that was searched and not found has no voxels but keeps its name. `notes` are
    remarks on reading the masks that are no errors and name no file.
    """

    labels: NDArray[np.uint8] | NDArray[np.uint16]
    names: Mapping[str, tuple[int, ...]]
    geometry: Geometry
    info: AnchorSourceInfo
    notes: tuple[str, ...] = ()

    def mask(self, organs: str | Iterable[str], box: Box | None = None) -> Mask:
        """Boolean union of the named organs (inside `box`); names that are not in the set count as empty."""
        wanted = [organs] if isinstance(organs, str) else list(organs)
        values = sorted({v for organ in wanted for v in self.names.get(organ, ())})
        labels = self.labels[box.slices] if box else self.labels
        lookup = np.zeros(int(np.iinfo(self.labels.dtype).max) + 1, dtype=bool)
        lookup[values] = True
        found: Mask = lookup[labels]
        return found

    def voxels_by_label(self) -> NDArray[np.int64]:
        """Voxel count of every label value. Slice by slice: `bincount` widens what it is given to 64 bits."""
        size = int(np.iinfo(self.labels.dtype).max) + 1
        counts = np.zeros(size, dtype=np.int64)
        for plane in self.labels:
            counts += np.bincount(plane.ravel(), minlength=size)
        return counts

    def volumes_ml(self) -> dict[str, float]:
        """Volume in ml of each organ in the set (0.0: searched, not in view), by name."""
        counts = self.voxels_by_label()
        ml = self.geometry.voxel_volume_mm3 / 1000.0
        return {name: float(counts[list(values)].sum()) * ml for name, values in self.names.items()}

    def in_view(self) -> tuple[str, ...]:
        """Names of the organs that have voxels, sorted."""
        return tuple(sorted(name for name, ml in self.volumes_ml().items() if ml > 0))


@runtime_checkable
class Settles(Protocol):
    """A source that becomes one of several, by the first organs that it is asked for."""

    settled: str
    """The `--anchors` that it has become; "" before."""

    def settle_on(self, spec: str) -> None:
        """Become the source `spec`, which it settled on in another process."""
        ...


@runtime_checkable
class AnchorSource(Protocol):
    """Where organs are. Canonical organ names (`reason/anatomy.py`) in and out."""

    @property
    def info(self) -> AnchorSourceInfo:
        """What this source is; cheap, loads nothing."""
        ...

    def info_for(self, modality: Modality, organs: Sequence[str]) -> AnchorSourceInfo:
        """`info` narrowed to what would run for these organs (weights, tasks): part of the cache key."""
        ...

    def organs(self, modality: Modality) -> frozenset[str]:
        """Canonical names of the organs that this source can find in `modality`."""
        ...

    def check(self, modality: Modality, organs: Sequence[str]) -> None:
        """Raise before long work when `organs` cannot be found: `MissingDependencyError` for missing weights
        (which, how large, how to get them, where to put them), `InputError` for an unsupported modality.
        """
        ...

    def locate(self, volume: Volume, organs: Sequence[str], progress: Progress = silent) -> AnchorSet:
        """Masks of the wanted `organs` (and of whatever else comes for free, so that a report can say what *is*
        in view) on the grid of `volume`.
        """
        ...
