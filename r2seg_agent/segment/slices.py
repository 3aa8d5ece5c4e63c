"""`SliceBySlice`: lifts a 2D segmenter to volumes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from r2seg_agent.errors import InputError
from r2seg_agent.imaging.geometry import Box
from r2seg_agent.imaging.volume import FloatArray, Volume
from r2seg_agent.progress import Progress, silent
from r2seg_agent.segment.protocol import (
    Encoded,
    Prompt,
    Segmenter,
    SegmenterInfo,
)
from r2seg_agent.segment.wrapper import SegmenterWrapper


@runtime_checkable
class ManySlices(Protocol):
    """What a 2D segmenter may have besides: slices in batches, which a GPU needs to be busy."""

    @property
    def slices_at_once(self) -> int:
        """How many slices it takes together; may shrink from one call to the next."""
        ...

    def segment_many(self, asked: Sequence[tuple[Encoded, Sequence[Prompt]]]) -> list[FloatArray]:
        """`segment` of each slice with its prompts."""
        ...


@dataclass(frozen=True, eq=False)
class EncodedSlices:
    """One encoding per slice of the ROI, bottom index first."""

    roi: Box
    slices: tuple[Encoded, ...]


class SliceBySlice(SegmenterWrapper):
    """A 2D `Segmenter` as a 3D one: every axial slice of the ROI is encoded and asked alone, in order.

    A segmenter that takes several slices at once (`ManySlices`) is given as many as it wants; the answers are the same.

    A prompt's box and points go to the slices they touch; a slice that a given box misses, that holds none of the given
    points, or in which the prompt's mask is empty is not asked and gets probability 0. Encoding waits until a slice is
    asked for the first time, so slices that no prompt touches cost nothing.
    """

    def __init__(self, segmenter: Segmenter, progress: Progress = silent) -> None:
        if segmenter.info.ndim != 2:
            raise InputError(f"`{segmenter.info.name}` already works on volumes; only 2D segmenters are lifted.")
        self.segmenter = segmenter
        self.progress = progress

    @property
    def info(self) -> SegmenterInfo:
        """The 2D segmenter's own, with `ndim` 3 and the lifting among its settings."""
        info = self.segmenter.info
        return info.model_copy(update={"ndim": 3, "settings": {**info.settings, "lifted": "slice by slice"}})

    def encode(self, volume: Volume, roi: Box) -> EncodedSlices:
        """The slices of `roi`, each a box of one slice, to be encoded when they are needed."""
        (z0, y0, x0), (z1, y1, x1) = roi.start, roi.stop
        boxes = [Box(start=(z, y0, x0), stop=(z + 1, y1, x1)) for z in range(z0, z1)]
        return EncodedSlices(roi=roi, slices=tuple(_Lazy(self.segmenter, volume, box) for box in boxes))

    def segment(self, encoded: Encoded, prompts: Sequence[Prompt]) -> FloatArray:
        """(n_prompts, z, y, x) float32 on the ROI grid."""
        if not isinstance(encoded, EncodedSlices):
            raise TypeError(f"expected what SliceBySlice.encode returned, got {type(encoded).__name__}")
        out = np.zeros((len(prompts), *encoded.roi.shape), dtype=np.float32)
        asked: list[_Asked] = []
        for z in range(len(encoded.slices)):
            cuts = [(n, cut) for n, prompt in enumerate(prompts) if (cut := prompt_on_slice(prompt, z)) is not None]
            if cuts:
                asked.append(_Asked(z, [n for n, _ in cuts], [cut for _, cut in cuts]))
        done = 0
        while done < len(asked):
            together = asked[done : done + self._at_once()]
            self.progress("segment", done, len(asked), f"slice {encoded.roi.start[0] + together[0].z}")
            for item, answers in zip(together, self._answers(encoded, together), strict=True):
                out[item.prompts, item.z] = answers[:, 0]
            done += len(together)
        self.progress("segment", len(asked), len(asked))
        return out

    def _at_once(self) -> int:
        return self.segmenter.slices_at_once if isinstance(self.segmenter, ManySlices) else 1

    def _answers(self, encoded: EncodedSlices, asked: Sequence[_Asked]) -> list[FloatArray]:
        """Per slice (n_prompts, 1, y, x)."""
        ready = [(one.get() if isinstance(one := encoded.slices[a.z], _Lazy) else one, a.cuts) for a in asked]
        if isinstance(self.segmenter, ManySlices):
            return self.segmenter.segment_many(ready)
        return [self.segmenter.segment(item, cuts) for item, cuts in ready]


class _Asked(NamedTuple):
    """A slice that is asked, and the prompts, by number and as they are on it."""

    z: int
    prompts: list[int]
    cuts: list[Prompt]


def prompt_on_slice(prompt: Prompt, z: int) -> Prompt | None:
    """The part of `prompt` that concerns slice `z` of its ROI; None when it says nothing about that slice."""
    box, points, mask = prompt.box, prompt.points, prompt.mask
    if mask is not None:
        mask = mask[z : z + 1]
        if not mask.any():
            return None
    if box is not None:
        if not box.start[0] <= z < box.stop[0]:
            return None
        box = Box(start=(0, *box.start[1:]), stop=(1, *box.stop[1:]))
    if points:
        points = tuple(((0, index[1], index[2]), positive) for index, positive in points if index[0] == z)
        if box is None and not points:
            return None
    return replace(prompt, box=box, points=points, mask=mask)


class _Lazy:
    """Encodes its slice at the first use and keeps the result for further prompts."""

    def __init__(self, segmenter: Segmenter, volume: Volume, roi: Box) -> None:
        self._segmenter, self._volume, self._roi = segmenter, volume, roi
        self._encoded: Encoded | None = None

    @property
    def roi(self) -> Box:
        return self._roi

    def get(self) -> Encoded:
        if self._encoded is None:
            self._encoded = self._segmenter.encode(self._volume, self._roi)
        return self._encoded
