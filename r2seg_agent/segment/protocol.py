"""`Segmenter`: one narrow protocol for every frozen model (and for our stand-in, `contrast`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.frozen import Frozen
from r2seg_agent.imaging.geometry import Box, Index3
from r2seg_agent.imaging.volume import FloatArray, Mask, Modality, Volume
from r2seg_agent.progress import Progress
from r2seg_agent.reason.plan import AnatomyPlan, Contrast, Side, Window
from r2seg_agent.segment.candidates import Region

PromptKind = Literal["text", "box", "points", "mask"]


class SegmenterInfo(Frozen):
    """What segmented; goes into every report. `stand_in` segmenters are named as such wherever they show.

    `flip_equivariant`: flipping the input only flips the output, so test-time flips add nothing and are skipped.
    `roi_independent`: a voxel's probability is the same in every ROI that holds the whole prompt mask, so that
    overlapping ROIs need one pass over the largest of them.
    `edge_mm`: how far from the visible edge its masks may end, so that like tissue nearer than that is no sign of a
    body that goes on.
    `settings` holds every choice that changes the result: it is hashed into cache and calibration keys.
    """

    name: str
    version: str
    ndim: Literal[2, 3]
    prompt_kinds: tuple[PromptKind, ...]
    output_kind: Literal["probability", "score"]
    licence: str
    stand_in: bool
    modalities: tuple[Modality, ...]
    weights_sha256: str | None = None
    feature_names: tuple[str, ...] = ()
    flip_equivariant: bool = False
    roi_independent: bool = False
    edge_mm: float = 0.0
    settings: Mapping[str, str | float | int | bool] = {}


@dataclass(frozen=True, eq=False)
class Prompt:
    """What to segment. `box`, `points` ((z, y, x), positive?) and `mask` are on the grid of the ROI.

    `mask` is the anchor organ inside the ROI: where normal tissue of the searched organ lies.
    `diameters_mm` is the typical lesion size range as equivalent-sphere diameters, for models that have scales.
    `concept` is the id of the target in the concept table and `laterality` its side, for models with named classes.
    `hounsfield` False: the grey values of a CT are those of a display, so that no HU window of the model's own fits.
    """

    text: str
    target: str
    site: str
    modality: Modality
    window: Window | None = None
    contrast: Contrast = "either"
    diameters_mm: tuple[float, float] = (4.0, 80.0)
    box: Box | None = None
    points: tuple[tuple[Index3, bool], ...] = ()
    mask: Mask | None = field(default=None)
    concept: str = ""
    laterality: Side | None = None
    hounsfield: bool = True


class Encoded(Protocol):
    """What `encode` computed for one ROI, opaque to all but its segmenter; may be kept for further prompts."""

    @property
    def roi(self) -> Box:
        """The region it was computed for, on the image grid."""
        ...


@runtime_checkable
class Segmenter(Protocol):
    """A frozen model. Encode a region once, then ask it any number of prompts."""

    @property
    def info(self) -> SegmenterInfo:
        """What this segmenter is; cheap, loads no weights."""
        ...

    def check(self, modality: Modality) -> None:
        """Raise before long work: `MissingDependencyError` (weights, optional package), `InputError` (modality)."""
        ...

    def encode(self, volume: Volume, roi: Box) -> Encoded:
        """Everything that does not depend on the prompt, for the voxels of `volume` inside `roi`."""
        ...

    def segment(self, encoded: Encoded, prompts: Sequence[Prompt]) -> FloatArray:
        """Probabilities float32 in [0, 1], shape (n_prompts, z, y, x), on the ROI grid."""
        ...


@runtime_checkable
class KnowsTargets(Protocol):
    """What a segmenter offers besides `Segmenter` when it knows certain targets only (`checks.check_plan` asks it)."""

    def check_plan(self, plan: AnatomyPlan) -> tuple[str, ...]:
        """Remarks for the reader on what is searched in the target's place; `InputError` that lists the targets it
        knows when the plan's is none of them. Loads no weights."""
        ...


@runtime_checkable
class ChecksScan(Protocol):
    """What a segmenter offers besides `Segmenter` when not every scan of its modalities suits it (`checks`)."""

    def check_scan(self, volume: Volume) -> None:
        """Raise `InputError` for a scan that it cannot look at (grey values, spacing, shape); loads no weights."""
        ...


@runtime_checkable
class NeedsChannels(Protocol):
    """What a segmenter offers besides `Segmenter` when it takes several images of a case (`checks.check_channels`)."""

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the images it takes, in its own order; one name: the scan itself is enough."""
        ...


@runtime_checkable
class SeesColours(Protocol):
    """What a segmenter offers besides `Segmenter` when it looks at the colours of a picture and not at its grey."""

    @property
    def sees_colours(self) -> bool:
        """True where `Volume.channels` of a colour picture are used."""
        ...


@runtime_checkable
class ShowsProgress(Protocol):
    """A segmenter that tells of its slices while it works; whoever runs it sets where to."""

    progress: Progress


@runtime_checkable
class OutlinesRegions(Protocol):
    """A segmenter that can be told where to look: it draws the outline of regions that were proposed without it."""

    def outline(
        self, volume: Volume, window: Window | None, regions: Sequence[Region], progress: Progress
    ) -> tuple[Region, ...]:
        """`regions` in their order, on the image grid, each with the segmenter's own outline where it draws one."""
        ...


@runtime_checkable
class HasFeatures(Protocol):
    """What a segmenter offers besides `Segmenter` when its maps of the image can serve the rejection test as φ.

    `SegmenterInfo.feature_names` names the maps; an empty tuple means none, whatever the class has.
    """

    def features_at(
        self, volume: Volume, around: Box, window: Window | None, voxels: NDArray[np.int64]
    ) -> NDArray[np.floating[Any]]:
        """(k, c) maps of the image at `voxels` (k, 3), indices (z, y, x) on the image grid; no prompt goes in.

        Gathered voxel by voxel: whole maps of a volume would not fit into memory. `around` (image grid) and `window`
        say which view of the image is encoded; the same view gives the same numbers, whatever the voxels.
        """
        ...
