"""`Volume`: a scan in memory, with its geometry, modality and unit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.imaging.geometry import Box, Geometry

Modality = Literal["CT", "MR", "PT", "US", "XR", "photo", "unknown"]
Unit = Literal["HU", "arbitrary"]

Mask = NDArray[np.bool_]
"""A boolean array (z, y, x)."""
FloatArray = NDArray[np.float32]
"""A float32 array; axis order (z, y, x) unless said otherwise."""


@dataclass(frozen=True, eq=False)
class Volume:
    """A grey scan: `array` is (z, y, x), read-only, in the file's own number type (int16 stays int16, so that
    a large CT takes half of what float32 would); a 2D image has one slice.

    `name` is a pseudonym (never a patient's or a file's name); `source_format` is the family of the file
    ("nifti", "nrrd", "metaimage", "dicom", "picture"), so that masks can be written alike.
    `channels` are further images of the same case by name ("T1c", "FLAIR"), each on this grid; organs are located and
    lesions measured in `array`, models that take several images get these too.
    """

    array: NDArray[Any]
    geometry: Geometry
    modality: Modality
    unit: Unit
    name: str = "image"
    source_format: Literal["nifti", "nrrd", "metaimage", "dicom", "picture"] = "nifti"
    channels: Mapping[str, NDArray[Any]] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        if self.array.shape != self.geometry.shape:
            raise ValueError(f"array {self.array.shape} and geometry {self.geometry.shape} differ (z, y, x)")
        self.array.setflags(write=False)
        for name, channel in self.channels.items():
            if channel.shape != self.geometry.shape:
                raise ValueError(
                    f"channel `{name}` {channel.shape} and geometry {self.geometry.shape} differ (z, y, x)"
                )
            channel.setflags(write=False)

    def crop(self, box: Box) -> Volume:
        """A view of the voxels inside `box`, with the geometry moved along."""
        return Volume(
            array=self.array[box.slices],
            geometry=self.geometry.crop(box),
            modality=self.modality,
            unit=self.unit,
            name=self.name,
            source_format=self.source_format,
            channels=MappingProxyType({name: channel[box.slices] for name, channel in self.channels.items()}),
        )

    def float32(self, box: Box | None = None) -> FloatArray:
        """A float32 copy of the voxels (inside `box`), axis order (z, y, x)."""
        return np.array(self.array[box.slices] if box else self.array, dtype=np.float32, copy=True)
