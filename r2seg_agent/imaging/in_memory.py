"""`ScanInMemory`: a scan that a Python program holds already, as the `Volume` that its file would have given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeGuard, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from r2seg_agent.errors import InputError
from r2seg_agent.imaging import checks
from r2seg_agent.imaging.files import SourceFormat
from r2seg_agent.imaging.geometry import Geometry
from r2seg_agent.imaging.itk import itk_voxels
from r2seg_agent.imaging.nifti import nifti_voxels
from r2seg_agent.imaging.read import checked_volume
from r2seg_agent.imaging.volume import Modality, Volume

IN_MEMORY = "scan in memory"
"""What stands for a path where the scan has none: in messages and in a run's `inputs.json`."""


@runtime_checkable
class ItkImage(Protocol):
    """A `SimpleITK.Image`."""

    def GetSpacing(self) -> Sequence[float]:  # noqa: N802
        """(x, y, z) in mm."""
        ...

    def GetOrigin(self) -> Sequence[float]:  # noqa: N802
        """LPS (x, y, z) in mm."""
        ...

    def GetDirection(self) -> Sequence[float]:  # noqa: N802
        """Row-major; columns are the LPS directions of the index axes x, y, z."""
        ...


@runtime_checkable
class NiftiImage(Protocol):
    """An image of nibabel: voxels (x, y, z) with a RAS affine."""

    @property
    def affine(self) -> Any:
        """4 × 4: voxel index (x, y, z) → RAS mm."""
        ...

    @property
    def dataobj(self) -> Any:
        """The voxels (x, y, z), or what reads them."""
        ...


MemoryScan = ItkImage | NiftiImage | ArrayLike
"""A `SimpleITK.Image`, a nibabel image, or an array (z, y, x)."""


@dataclass(frozen=True, eq=False)
class ScanInMemory:
    """A scan without a file.

    An array is (z, y, x), or (y, x) for one slice, and needs `spacing_mm` in the same order. `origin_lps_mm` (x, y, z)
    is the centre of its first voxel, `direction` is row-major 3 × 3 as in `Geometry`; without them the origin is 0 and
    x runs to the patient's left, y to the back, z to the head. The other kinds state their own grid.
    """

    scan: MemoryScan
    spacing_mm: Sequence[float] | None = None
    origin_lps_mm: Sequence[float] | None = None
    direction: Sequence[float] | None = None

    def __str__(self) -> str:
        return IN_MEMORY

    def volume(self, modality: Modality | None, note: Callable[[str], None]) -> Volume:
        """A copy of the scan as a `Volume`, after the checks of a file; arguments as in `read_image`.

        Raises:
            InputError: no image, no spacing, or what `read_image` refuses.
        """
        array, geometry, family = self._loaded(note)
        return checked_volume(Path(IN_MEMORY), array, geometry, family, modality, note)

    def _loaded(self, note: Callable[[str], None]) -> tuple[NDArray[Any], Geometry, SourceFormat]:
        name = Path(IN_MEMORY)
        if is_image(self.scan):
            if (self.spacing_mm, self.origin_lps_mm, self.direction) != (None, None, None):
                raise InputError(
                    f"a {type(self.scan).__name__} states its own grid, and another was given with it",
                    "Leave out spacing_mm, origin_lps_mm and direction; they are for arrays.",
                )
            if isinstance(self.scan, ItkImage):
                return *itk_voxels(self.scan, name, note=note), "metaimage"
            return *nifti_voxels(self.scan, name, note=note), "nifti"
        return *self._array(name, note), "nifti"

    def _array(self, name: Path, note: Callable[[str], None]) -> tuple[NDArray[Any], Geometry]:
        given = np.asarray(self.scan)
        checks.check_grey_type(name, "image", given.dtype.kind, str(given.dtype))
        if given.ndim not in (2, 3):
            raise InputError(
                f"an array of {given.ndim} dimensions {given.shape} is no scan; (z, y, x), or (y, x) for a slice, is",
                "Take the volume or channel that you need out of it.",
            )
        spacing = tuple(float(s) for s in self.spacing_mm or ())
        if len(spacing) != given.ndim:
            order = "(z, y, x)" if given.ndim == 3 else "(y, x)"
            stated = f"{len(spacing)} numbers were given" if spacing else "none was given"
            raise InputError(
                f"an array has no voxel size of its own: it needs spacing_mm in the order {order}, and {stated}",
                f"For example spacing_mm={(3.0, 0.8, 0.8)[-given.ndim :]}; other images state their own.",
            )
        array = np.array(given, dtype=given.dtype.newbyteorder("="), order="C")
        flat = given.ndim == 2
        direction = None
        if self.direction is not None:
            direction = np.asarray(self.direction, dtype=np.float64)
            if direction.size != 9:
                raise InputError(f"direction is a matrix of 3 × 3 numbers, got {direction.size}")
            direction = direction.reshape(3, 3)
        origin = (0.0, 0.0, 0.0) if self.origin_lps_mm is None else tuple(self.origin_lps_mm)
        if len(origin) != 3:
            raise InputError(f"origin_lps_mm is three numbers (x, y, z), got {len(origin)}")
        geometry = checks.checked_geometry(
            name,
            "image",
            shape=(1, *array.shape)[-3:],
            spacing_zyx_mm=(1.0, *spacing)[-3:],
            origin_lps_mm=origin,
            direction=direction,
            known_spacing="yx" if flat else "zyx",
            note=note,
        )
        return array.reshape(geometry.shape), geometry


def is_image(scan: object) -> TypeGuard[ItkImage | NiftiImage]:
    """True for an image that states its own grid."""
    return isinstance(scan, ItkImage | NiftiImage)
