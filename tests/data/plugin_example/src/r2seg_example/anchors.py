"""`--anchors example-box`: the liver is a box in the patient's right upper quarter. A template, not anatomy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from r2seg_agent.errors import InputError
from r2seg_agent.imaging.volume import Modality, Volume
from r2seg_agent.progress import Progress, silent
from r2seg_agent.reason.anchors.protocol import AnchorSet, AnchorSourceInfo


def make_source(option: str) -> BoxSource:
    """The entry point. `option` is what the user wrote behind the colon, "" for nothing."""
    return BoxSource()


class BoxSource:
    """Knows one organ, by its canonical name (r2seg_agent/reason/organs.json)."""

    @property
    def info(self) -> AnchorSourceInfo:
        """Every choice that changes the result belongs into `settings`."""
        return AnchorSourceInfo(
            name="example-box", version="0.3", kind="heuristic", stand_in=True, licence="Apache-2.0", modalities=("CT",)
        )

    def info_for(self, modality: Modality, organs: Sequence[str]) -> AnchorSourceInfo:
        """The same for all organs: nothing is loaded for one that is not for another."""
        return self.info

    def organs(self, modality: Modality) -> frozenset[str]:
        """What it can find."""
        return frozenset({"liver"}) if modality == "CT" else frozenset()

    def check(self, modality: Modality, organs: Sequence[str]) -> None:
        """Raise before long work for what it cannot find."""
        strangers = set(organs) - self.organs(modality)
        if strangers:
            raise InputError(f"`example-box` finds the liver in CT only, not {', '.join(sorted(strangers))}")

    def locate(self, volume: Volume, organs: Sequence[str], progress: Progress = silent) -> AnchorSet:
        """One label map on the grid of the scan."""
        labels = np.zeros(volume.geometry.shape, dtype=np.uint8)
        z, y, x = (n // 2 for n in labels.shape)
        labels[z // 2 : z + z // 2, y // 2 : y + y // 2, x // 4 : x] = 1
        return AnchorSet(labels=labels, names={"liver": (1,)}, geometry=volume.geometry, info=self.info)
