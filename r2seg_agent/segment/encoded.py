"""What the segmenters have in common before their model is asked: the region that is looked at, and the modality."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from r2seg_agent.errors import InputError
from r2seg_agent.imaging.geometry import Box
from r2seg_agent.imaging.volume import Modality, Volume


@dataclass(frozen=True, eq=False)
class EncodedView:
    """`roi` of `volume`, nothing computed yet; each segmenter has a class of its own, so that no other takes it."""

    roi: Box
    volume: Volume

    @classmethod
    def of(cls, volume: Volume, roi: Box) -> Self:
        """A view, no copy; `InputError` when `roi` is not on the grid of `volume`."""
        if not volume.geometry.full_box.contains(roi):
            raise InputError(
                f"the ROI {roi.start}–{roi.stop} is not inside the image of shape {volume.geometry.shape}."
            )
        return cls(roi=roi, volume=volume)


def check_modality(name: str, modalities: Sequence[Modality], modality: Modality) -> None:
    """Raise `InputError` for a modality that the model `name` was not made for."""
    if modality not in modalities:
        raise InputError(
            f"the model `{name}` is made for {', '.join(modalities)}, the image is {modality}",
            "Choose another segmenter, or state the image's true modality with `--modality`.",
        )


def check_solid(name: str, volume: Volume) -> None:
    """Raise `InputError` for a single slice."""
    if volume.geometry.is_2d:
        raise InputError(f"the model `{name}` needs a volume; this image has one slice", "Use `lite-medsam`.")
