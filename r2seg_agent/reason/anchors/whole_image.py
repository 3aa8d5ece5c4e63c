"""`WholeImage`: the anchor source of a run that locates nothing (preset `baseline`): the model sees the whole image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import numpy as np

from r2seg_agent.imaging.volume import Modality, Volume
from r2seg_agent.progress import Progress, silent
from r2seg_agent.reason.anatomy import organs
from r2seg_agent.reason.anchors.protocol import AnchorSet, AnchorSourceInfo


class WholeImage:
    """Refuses no organ and finds none: a plan still says what is looked for, but not where."""

    @property
    def info(self) -> AnchorSourceInfo:
        """Of kind `none`."""
        return AnchorSourceInfo(
            name="whole image (no organ located)",
            version="1",
            kind="none",
            stand_in=False,
            licence="–",
            modalities=get_args(Modality),
        )

    def info_for(self, modality: Modality, organs: Sequence[str]) -> AnchorSourceInfo:
        """The same whatever the organs."""
        return self.info

    def organs(self, modality: Modality) -> frozenset[str]:
        """All of the organ table, so that no plan is refused for an organ that nobody will look for."""
        return frozenset(organs())

    def check(self, modality: Modality, organs: Sequence[str]) -> None:
        """Nothing can be missing."""

    def locate(self, volume: Volume, organs: Sequence[str], progress: Progress = silent) -> AnchorSet:
        """No organ, anywhere."""
        return AnchorSet(np.zeros(volume.geometry.shape, np.uint8), {}, volume.geometry, self.info)
