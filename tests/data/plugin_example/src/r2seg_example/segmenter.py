"""`--segmenter example-threshold:HU`: whatever is brighter than HU, slice by slice. A template, not a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from r2seg_agent.errors import InputError
from r2seg_agent.imaging.geometry import Box
from r2seg_agent.imaging.volume import FloatArray, Modality, Volume
from r2seg_agent.segment.protocol import Encoded, Prompt, SegmenterInfo


def make_segmenter(option: str) -> ThresholdSegmenter:
    """The entry point. `option` is what the user wrote behind the colon, "" for nothing."""
    try:
        return ThresholdSegmenter(float(option or 100))
    except ValueError as error:
        raise InputError(f"`example-threshold:{option}` is no number in HU") from error


@dataclass(frozen=True)
class EncodedSlice:
    """What the segmenter wants to remember of a region; r2seg only looks at `roi`."""

    roi: Box
    grey: FloatArray


class ThresholdSegmenter:
    """A 2D segmenter: r2seg lifts it to volumes, one slice at a time."""

    def __init__(self, threshold_hu: float) -> None:
        self.threshold_hu = threshold_hu

    @property
    def info(self) -> SegmenterInfo:
        """Every number that changes the answer belongs into `settings`."""
        return SegmenterInfo(
            name="example-threshold",
            version="0.3",
            ndim=2,
            prompt_kinds=("mask",),
            output_kind="score",
            licence="Apache-2.0",
            stand_in=True,
            modalities=("CT",),
            settings={"threshold_hu": self.threshold_hu},
        )

    def check(self, modality: Modality) -> None:
        """Raise InputError or MissingDependencyError here, before long work."""
        if modality != "CT":
            raise InputError(f"`example-threshold` is made for CT, the image is {modality}")

    def encode(self, volume: Volume, roi: Box) -> EncodedSlice:
        """What does not depend on the prompt."""
        return EncodedSlice(roi=roi, grey=volume.float32(roi))

    def segment(self, encoded: Encoded, prompts: Sequence[Prompt]) -> FloatArray:
        """(n_prompts, z, y, x) float32 in [0, 1] on the ROI grid."""
        assert isinstance(encoded, EncodedSlice)
        score = 1.0 / (1.0 + np.exp(np.clip((self.threshold_hu - encoded.grey) / 5.0, -50.0, 50.0)))
        answers = [score if prompt.mask is None else score * prompt.mask for prompt in prompts]
        return np.stack(answers).astype(np.float32)
