"""`SegmenterWrapper`: what a segmenter around another one takes from it unchanged."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.imaging.geometry import Box
from r2seg_agent.imaging.volume import Modality, Volume
from r2seg_agent.reason.plan import AnatomyPlan, Window
from r2seg_agent.segment.protocol import ChecksScan, HasFeatures, KnowsTargets, NeedsChannels, SeesColours, Segmenter


class SegmenterWrapper:
    """Checks, channels and maps are those of `segmenter`, the one inside."""

    segmenter: Segmenter

    def check(self, modality: Modality) -> None:
        """As the inner segmenter's."""
        self.segmenter.check(modality)

    def check_plan(self, plan: AnatomyPlan) -> tuple[str, ...]:
        """As the inner segmenter's, where it knows certain targets only."""
        return self.segmenter.check_plan(plan) if isinstance(self.segmenter, KnowsTargets) else ()

    def check_scan(self, volume: Volume) -> None:
        """As the inner segmenter's, where not every scan suits it."""
        if isinstance(self.segmenter, ChecksScan):
            self.segmenter.check_scan(volume)

    @property
    def channels(self) -> tuple[str, ...]:
        """The inner segmenter's; () where it takes the scan alone."""
        return self.segmenter.channels if isinstance(self.segmenter, NeedsChannels) else ()

    @property
    def sees_colours(self) -> bool:
        """As the inner segmenter."""
        return isinstance(self.segmenter, SeesColours) and self.segmenter.sees_colours

    def features_at(
        self, volume: Volume, around: Box, window: Window | None, voxels: NDArray[np.int64]
    ) -> NDArray[np.floating[Any]]:
        """The inner segmenter's maps of the axial slices (`HasFeatures`; `info.feature_names` says whether any)."""
        if not isinstance(self.segmenter, HasFeatures):
            raise TypeError(f"`{self.segmenter.info.name}` has no maps to offer")
        return self.segmenter.features_at(volume, around, window, voxels)
