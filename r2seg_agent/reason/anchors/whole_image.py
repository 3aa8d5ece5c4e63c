"""Anchors without an organ mask: `WholeImage`, for which all of the picture is the organ (`--anchors whole`), and
`NoAnchors`, which locates nothing (preset `baseline`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, get_args

import numpy as np

from r2seg_agent.imaging.volume import Mask, Modality, Volume
from r2seg_agent.progress import Progress, silent
from r2seg_agent.reason.anatomy import organs
from r2seg_agent.reason.anchors.protocol import AnchorSet, AnchorSourceInfo


class NoAnchors:
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


DARK_SHARE: Final = 0.04
"""Grey values within this share of the range above the darkest (10 of 255: JPEG noise on black) may be background; …"""
MIN_BACKGROUND_SHARE: Final = 0.002
"""… where pieces of at least this share of a slice reach its edge: the black around an endoscope's view, the air around
a patient, the corners of an ultrasound fan."""
RANGE_PERCENTILES: Final = (0.5, 99.5)
SAMPLE_VOXELS: Final = 4_000_000
"""The range of a larger image comes from a regular subset of about this many."""


class WholeImage:
    """`AnchorSource` for a picture of one organ without a mask of it: whatever organ is asked for is all of the image.

    Only the dark background that touches the edge of a slice is left out (`foreground`). Nothing is located: a report
    cannot say that an organ is not in view, and normal tissue is whatever else the image shows. Meant for pictures
    that are filled by one organ: endoscopy, dermoscopy, ultrasound, mammography.
    """

    @property
    def info(self) -> AnchorSourceInfo:
        """Of kind `heuristic`, a stand-in."""
        return AnchorSourceInfo(
            name="whole image",
            version="1",
            kind="heuristic",
            stand_in=True,
            licence="Apache-2.0",
            modalities=get_args(Modality),
            settings={
                "dark_share": DARK_SHARE,
                "min_background_share": MIN_BACKGROUND_SHARE,
                "low_percentile": RANGE_PERCENTILES[0],
                "high_percentile": RANGE_PERCENTILES[1],
            },
        )

    def info_for(self, modality: Modality, organs: Sequence[str]) -> AnchorSourceInfo:
        """The same whatever the organs."""
        return self.info

    def organs(self, modality: Modality) -> frozenset[str]:
        """All of the organ table but the left and right ones: the image does not say which side it shows."""
        return frozenset(name for name, organ in organs().items() if organ.side is None)

    def check(self, modality: Modality, organs: Sequence[str]) -> None:
        """Nothing can be missing."""

    def locate(self, volume: Volume, organs: Sequence[str], progress: Progress = silent) -> AnchorSet:
        """Each of `organs` is the foreground of the image."""
        labels = foreground(volume).astype(np.uint8)
        return AnchorSet(labels, dict.fromkeys(organs, (1,)), volume.geometry, self.info)


def foreground(volume: Volume) -> Mask:
    """(z, y, x): all of the image but its dark background, slice by slice.

    Background are the pieces of a slice whose grey values lie within `DARK_SHARE` of the image's range (between its 0.5
    and 99.5 percentiles) of the darkest, that reach the edge of the slice, and that hold `MIN_BACKGROUND_SHARE` of it.
    A slice that would be background altogether stays whole.
    """
    from scipy import ndimage

    step = max(1, round((volume.array.size / SAMPLE_VOXELS) ** 0.5))
    low, high = (float(v) for v in np.percentile(volume.array[:, ::step, ::step], RANGE_PERCENTILES))
    limit = low + DARK_SHARE * (high - low)
    found = np.ones(volume.array.shape, dtype=bool)
    for z, plane in enumerate(volume.array):
        pieces, n = ndimage.label(plane <= limit)
        if n == 0:
            continue
        edge = np.unique(np.concatenate([pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]]))
        sizes = np.bincount(pieces.ravel(), minlength=n + 1)
        large = [int(k) for k in edge if k and sizes[k] >= MIN_BACKGROUND_SHARE * plane.size]
        kept = ~np.isin(pieces, large)
        if kept.any():
            found[z] = kept
    return found
