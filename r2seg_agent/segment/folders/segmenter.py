"""`ClassSegmenter`: a network with fixed, named classes as a `Segmenter`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from r2seg_agent.imaging.geometry import Box
from r2seg_agent.imaging.volume import FloatArray, Modality, Volume
from r2seg_agent.reason import concepts
from r2seg_agent.reason.plan import AnatomyPlan
from r2seg_agent.segment.encoded import check_modality
from r2seg_agent.segment.folders.classes import ClassTable, Fit
from r2seg_agent.segment.protocol import ChecksScan, Encoded, Prompt, SegmenterInfo


class ClassNetwork(Protocol):
    """What a kind of model folder provides. Made without loading weights; the first `probabilities` loads them."""

    @property
    def info(self) -> SegmenterInfo:
        """What it is; reads small files and hashes the weights (once per file version), loads nothing."""
        ...

    @property
    def table(self) -> ClassTable:
        """Its classes and their targets."""
        ...

    @property
    def channels(self) -> tuple[str, ...]:
        """The images that it takes, in its order."""
        ...

    def check(self) -> None:
        """Raise `MissingDependencyError` for files or packages that are not there."""
        ...

    def probabilities(self, volume: Volume, roi: Box, classes: Sequence[str] | None = None) -> Mapping[str, FloatArray]:
        """Probability (z, y, x) on the ROI grid of each of `classes`; None: of each class that stands for a target
        (`ClassTable.wanted`).
        """
        ...


@dataclass(frozen=True, eq=False)
class EncodedClasses:
    """What the network said about one ROI, by class: a fixed-class network has answered before it is asked."""

    roi: Box
    probabilities: Mapping[str, FloatArray]


class ClassSegmenter:
    """Encoding runs the network; a prompt only picks the classes that answer for its target.

    The ROI, not the prompt's mask, bounds what is looked at, so lesions that bulge out of their organ stay whole. A
    target that no class stands for is an `InputError` before anything runs (`check_plan`), never an empty answer.
    """

    def __init__(self, network: ClassNetwork) -> None:
        self.network = network

    @property
    def info(self) -> SegmenterInfo:
        """The network's own."""
        return self.network.info

    @property
    def channels(self) -> tuple[str, ...]:
        """The images that the network takes, in its order."""
        return self.network.channels

    def check(self, modality: Modality) -> None:
        """Raise `InputError` for a modality that it was not made for, and what the network's own check raises."""
        check_modality(self.network.info.name, self.network.info.modalities, modality)
        self.network.check()

    def check_plan(self, plan: AnatomyPlan) -> tuple[str, ...]:
        """Remarks on the classes that answer for the plan's target; `InputError` that lists them when none does."""
        return self.network.table.check_plan(plan)

    def check_scan(self, volume: Volume) -> None:
        """What the network's own `check_scan` raises, where it has one."""
        if isinstance(self.network, ChecksScan):
            self.network.check_scan(volume)

    def fit(self, plan: AnatomyPlan) -> Fit | None:
        """How the classes that answer for the plan's target stand to it; None where none answers."""
        return self.network.table.fit(plan)

    def encode(self, volume: Volume, roi: Box) -> EncodedClasses:
        """Run the network where the ROI lies; keeps the probabilities of the classes that stand for targets."""
        return EncodedClasses(roi=roi, probabilities=self.network.probabilities(volume, roi))

    def segment(self, encoded: Encoded, prompts: Sequence[Prompt]) -> FloatArray:
        """(n_prompts, z, y, x) float32 in [0, 1]; boxes, points and masks of the prompts change nothing."""
        if not isinstance(encoded, EncodedClasses):
            raise TypeError(f"expected what ClassSegmenter.encode returned, got {type(encoded).__name__}")
        out = np.zeros((len(prompts), *encoded.roi.shape), dtype=np.float32)
        for n, prompt in enumerate(prompts):
            concept = prompt.concept or _concept_named(prompt.target)
            out[n] = self.network.table.combined(encoded.probabilities, concept, prompt.laterality)
        return out


def _concept_named(target: str) -> str:
    """The concept of a prompt that was made by hand and only names it; the words themselves where none fits."""
    from r2seg_agent.reason.normal_words import words

    ids = concepts.phrases().get(words(target), ())
    return ids[0] if len(ids) == 1 else target
