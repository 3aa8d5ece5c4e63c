"""`lite-medsam` as a `Segmenter`: one slice at a time, or a volume with the bodies proposed in 3D."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.errors import InputError
from r2seg_agent.imaging.colour import colours_of
from r2seg_agent.imaging.geometry import Box, Geometry, bounding_box
from r2seg_agent.imaging.volume import FloatArray, Modality, Volume
from r2seg_agent.imaging.window import apply_window, percentile_window
from r2seg_agent.progress import Progress, silent
from r2seg_agent.reason.plan import Window
from r2seg_agent.segment.candidates import Region
from r2seg_agent.segment.contrast import ContrastSegmenter
from r2seg_agent.segment.encoded import EncodedView
from r2seg_agent.segment.lite_medsam import NAME
from r2seg_agent.segment.proposals import propose
from r2seg_agent.segment.protocol import Encoded, Prompt, SegmenterInfo
from r2seg_agent.segment.regions.outline import outlined
from r2seg_agent.segment.weights import require, weights_info

if TYPE_CHECKING:
    from r2seg_agent.segment.lite_medsam.ask import SliceView
    from r2seg_agent.segment.lite_medsam.cache import EmbeddingCache
    from r2seg_agent.segment.lite_medsam.fusion import Section
    from r2seg_agent.segment.lite_medsam.model import LiteMedSam

MODALITIES: Final[tuple[Modality, ...]] = ("CT", "MR", "PT", "US", "XR", "photo", "unknown")
EDGE_MM = 2.0
"""Its masks come from logits on 64 pixels over the longest side and may end about this far inside the visible edge."""
MAX_BODIES = 12
"""Most bodies that are asked for in a volume, the most prominent first; …"""
MAX_SECTIONS = 120
"""… and most sections of these in its slices: an answer for each costs time, and Reject looks at all of them."""
MAX_BODIES_PER_SLICE = 6
"""The same for a slice that is asked alone."""
MAX_OUTLINED = 5
"""Most ranked regions that get the network's outline, best first; …"""
MAX_OUTLINE_SECTIONS = 8
"""… and most sections of these in all."""
VIEW_MARGIN = 0.1
"""A volume's slices are cut to the box around the prompt's mask, grown by this share of its sides, …"""
MIN_VIEW_MM = 160.0
"""… and to no less than this: the network was trained on whole slices, and a box needs surroundings."""
PERCENTILE_PIXELS = 2_000_000
"""Percentiles of more pixels come from a regular subset of about this many."""


@dataclass(frozen=True, eq=False)
class EncodedRegion(EncodedView):
    """A region to be asked about. Encoding needs the prompt's window: it happens at the first prompt, and is kept."""

    views: dict[Window, SliceView] = field(default_factory=dict)


class LiteMedSamSegmenter:
    """The slice model: what lies in a box.

    A prompt's `box` is asked for as it is. Without one, boxes are drawn around what differs from the normal tissue of
    the prompt's `mask` in this slice (`proposals.py`); the masks of several prompts become one probability
    (`fusion.py`). A slice is encoded once for all prompts of one window, and remembered within a memory budget. Grey
    values go from `Prompt.window` (else the 0.5 and 99.5 percentiles of pixels > 0) to 0 … 1; the longest side of the
    ROI becomes 256 pixels. Slices are turned to the radiologists' view first, so test-time flips would ask the same
    again (`turned_axes`).
    """

    def __init__(
        self,
        model: LiteMedSam | None = None,
        max_bodies: int = MAX_BODIES_PER_SLICE,
        cache: EmbeddingCache | None = None,
    ) -> None:
        """`model` None: the released weights, loaded when they are first needed."""
        self._model = model
        self._released = model is None
        self.max_bodies = max_bodies
        self._cache = cache

    @property
    def info(self) -> SegmenterInfo:
        """A frozen model; every choice of prompts and fusion is among its settings."""
        from r2seg_agent.segment.lite_medsam import fusion

        released = weights_info(NAME)
        proposing = {f"proposals_{key}": value for key, value in ContrastSegmenter().info.settings.items()}
        return SegmenterInfo(
            name=NAME,
            version="1",
            ndim=2,
            prompt_kinds=("box", "mask"),
            output_kind="probability",
            licence=released.licence,
            stand_in=False,
            modalities=MODALITIES,
            weights_sha256=released.sha256 if self._released else None,
            flip_equivariant=True,
            edge_mm=EDGE_MM,
            feature_names=("image_embedding",),
            settings={
                "max_bodies": self.max_bodies,
                "bodies": "most prominent first, means inside the window",
                "prompts": "box, grown box, both with outline",
                "box_margin": fusion.MARGIN,
                "box_reach": fusion.REACH,
                "outline_logit": fusion.OUTLINE_LOGIT,
                "outline_share": fusion.OUTLINE_SHARE,
                "full_share_pixels": fusion.FULL_SHARE_PIXELS,
                **proposing,
            },
        )

    @property
    def sees_colours(self) -> bool:
        """True: it was trained on photographs too, in colour. One window of the grey values serves all three."""
        return True

    def check(self, modality: Modality) -> None:
        """Raise `MissingDependencyError` when the released weights are wanted and not on this machine."""
        if self._released:
            require(NAME)

    def encode(self, volume: Volume, roi: Box) -> EncodedRegion:
        """One slice of `volume`; raises `InputError` for a region of several, or off the grid."""
        if roi.shape[0] != 1:
            raise InputError(
                f"`{NAME}` encodes one slice at a time, the ROI has {roi.shape[0]}; lift it (SliceBySlice)."
            )
        return EncodedRegion.of(volume, roi)

    def segment(self, encoded: Encoded, prompts: Sequence[Prompt]) -> FloatArray:
        """(n_prompts, 1, y, x) float32 in [0, 1]."""
        region = as_region(encoded)
        out = np.zeros((len(prompts), *region.roi.shape), dtype=np.float32)
        for n, prompt in enumerate(prompts):
            asked = self._sections(region, prompt)
            if asked:
                window = prompt.window or grey_window(region.volume, region.roi)
                out[n, 0] = self.view(region, window).ask(asked)
        return out

    def view(self, region: EncodedRegion, window: Window) -> SliceView:
        """The region's only slice, encoded with these grey values."""
        from r2seg_agent.segment.lite_medsam.ask import SliceView

        if window not in region.views:
            if self._cache is None:
                from r2seg_agent.segment.lite_medsam.cache import EmbeddingCache

                self._cache = EmbeddingCache()
            colours = colours_of(region.volume.crop(region.roi))
            seen = region.volume.array[region.roi.slices] if colours is None else colours
            turned = turned_axes(region.volume.geometry)
            region.views[window] = SliceView.of(self._ready(), apply_window(seen[0], window), turned, self._cache)
        return region.views[window]

    def _sections(self, region: EncodedRegion, prompt: Prompt) -> list[Section]:
        from r2seg_agent.segment.lite_medsam.fusion import Section
        from r2seg_agent.segment.lite_medsam.sections import sections

        if prompt.box is not None:
            return [Section((*prompt.box.start[1:], *prompt.box.stop[1:]))]
        found = propose(region.volume, region.roi, prompt, self.max_bodies)
        return [moved(section, region.roi) for body in found for _, section in sections(body)]

    def _ready(self) -> LiteMedSam:
        if self._model is None:
            from r2seg_agent.segment.lite_medsam.weights import released_model

            self._model = released_model()
        return self._model


class LiteMedSamVolumeSegmenter:
    """The slice model on a volume: bodies are proposed in 3D, then each slice of each body is asked with its own box.

    In 3D a vessel is long and a nodule round, a slice cannot tell; so the boxes are better, and only slices that hold
    one are encoded. With a `box` and no mask, its rectangle is asked for in every slice of it. The slices are cut to
    the surroundings of the mask, wherever the ROI ends, so that the answer is the same in every ROI that holds it.
    """

    def __init__(
        self,
        slices: LiteMedSamSegmenter | None = None,
        max_bodies: int = MAX_BODIES,
        progress: Progress = silent,
    ) -> None:
        self.slices = slices or LiteMedSamSegmenter()
        self.max_bodies = max_bodies
        self.progress = progress

    @property
    def info(self) -> SegmenterInfo:
        """The slice model's, with `ndim` 3, how bodies are chosen, and that the choice of ROI changes nothing."""
        info = self.slices.info
        settings = {
            **info.settings,
            "lifted": "bodies proposed in 3D",
            "max_bodies": self.max_bodies,
            "max_sections": MAX_SECTIONS,
            "view_margin": VIEW_MARGIN,
            "min_view_mm": MIN_VIEW_MM,
        }
        return info.model_copy(update={"ndim": 3, "roi_independent": True, "settings": settings})

    @property
    def sees_colours(self) -> bool:
        """As the slice model."""
        return self.slices.sees_colours

    def check(self, modality: Modality) -> None:
        """As the slice model's."""
        self.slices.check(modality)

    def encode(self, volume: Volume, roi: Box) -> EncodedRegion:
        """Nothing yet: slices are encoded when a body is found in them. `InputError` when `roi` is off the grid."""
        return EncodedRegion.of(volume, roi)

    def segment(self, encoded: Encoded, prompts: Sequence[Prompt]) -> FloatArray:
        """(n_prompts, z, y, x) float32 in [0, 1] on the ROI grid."""
        region = as_region(encoded)
        out = np.zeros((len(prompts), *region.roi.shape), dtype=np.float32)
        for n, prompt in enumerate(prompts):
            self._one(region, prompt, out[n])
        return out

    def features_at(self, volume: Volume, around: Box, window: Window | None, voxels: NDArray[np.int64]) -> FloatArray:
        """(k, 256) image embedding at `voxels` (`HasFeatures`), from the views that the search looks at.

        Every slice with a voxel is encoded, unless it is remembered from the search.
        """
        view = view_box(volume, around)
        grey = window or grey_window(volume, view)
        out: FloatArray = np.zeros((len(voxels), 0), dtype=np.float32)
        slices = np.unique(voxels[:, 0]).tolist()
        for done, z in enumerate(slices):
            self.progress("reject", done, len(slices), f"features of slice {z}")
            part = Box(start=(z, *view.start[1:]), stop=(z + 1, *view.stop[1:]))
            here = voxels[:, 0] == z
            values = self.slices.view(self.slices.encode(volume, part), grey).features(
                voxels[here, 1:] - part.start[1:]
            )
            if out.shape[1] == 0:
                out = np.zeros((len(voxels), values.shape[1]), dtype=np.float32)
            out[here] = values
        return out

    def outline(
        self, volume: Volume, window: Window | None, regions: Sequence[Region], progress: Progress
    ) -> tuple[Region, ...]:
        """The network's masks of the first `MAX_OUTLINED` regions, slice by slice.

        A region keeps its own outline where the two have an intersection over union below `LIKE_OUTLINE` (the box
        held something else), and where it would take more than `MAX_OUTLINE_SECTIONS` sections in all.
        """
        from r2seg_agent.segment.lite_medsam.sections import sections

        by_slice: dict[int, list[tuple[int, Section]]] = {}
        room = MAX_OUTLINE_SECTIONS
        for k, region in enumerate(regions[:MAX_OUTLINED]):
            own = list(sections(region))
            if len(own) <= room:
                room -= len(own)
                for z, section in own:
                    by_slice.setdefault(z, []).append((k, section))
        drawn: dict[int, list[tuple[int, FloatArray]]] = {}
        asked = [k for found in by_slice.values() for k, _ in found]
        if not asked:
            return tuple(regions)
        around = regions[asked[0]].box
        for k in asked:
            around = around.union(regions[k].box)
        view = view_box(volume, around)
        grey = window or grey_window(volume, view)
        for done, (z, found) in enumerate(sorted(by_slice.items())):
            progress("segment", done, len(by_slice), f"slice {z}")
            part = Box(start=(z, *view.start[1:]), stop=(z + 1, *view.stop[1:]))
            seen = self.slices.view(self.slices.encode(volume, part), grey)
            for k, section in found:
                drawn.setdefault(k, []).append((z, seen.ask([moved(section, part)])))
        progress("segment", len(by_slice), len(by_slice), "")
        taken, probability = np.zeros(view.shape, dtype=bool), np.zeros((len(regions), *view.shape), dtype=np.float32)
        for k, planes in drawn.items():
            for z, plane in planes:
                probability[k, z - view.start[0]] = plane
        return tuple(outlined(region, probability[k], view, taken) for k, region in enumerate(regions))

    def _one(self, region: EncodedRegion, prompt: Prompt, out: FloatArray) -> None:
        volume, roi = region.volume, region.roi
        around = self._searched(roi, prompt)
        if around is None:
            return
        by_slice = self._sections_by_slice(region, prompt)
        view = view_box(volume, around)
        window = prompt.window or grey_window(volume, view)
        for done, (z, found) in enumerate(sorted(by_slice.items())):
            self.progress("segment", done, len(by_slice), f"slice {z}")
            part = Box(start=(z, *view.start[1:]), stop=(z + 1, *view.stop[1:]))
            one = self.slices.encode(volume, part)
            answer = self.slices.view(one, window).ask([moved(section, part) for section in found])
            common = part.intersection(roi)
            if common is None:
                continue
            target = out[common.within(roi).slices]
            np.maximum(target, answer[None][common.within(part).slices], out=target)

    @staticmethod
    def _searched(roi: Box, prompt: Prompt) -> Box | None:
        """Where the prompt looks, on the image grid: around its mask and its box; without either, all of the ROI."""
        inside = prompt.box
        if prompt.mask is not None:
            organ = bounding_box(prompt.mask)
            if organ is None:
                return None
            inside = organ if inside is None else organ.union(inside)
        return roi if inside is None else inside.shifted(roi.start)

    def _sections_by_slice(self, region: EncodedRegion, prompt: Prompt) -> dict[int, list[Section]]:
        """By slice of the image, the sections to ask for, their boxes on the image grid."""
        from r2seg_agent.segment.lite_medsam.fusion import Section
        from r2seg_agent.segment.lite_medsam.sections import sections

        if prompt.box is not None:
            box = prompt.box.shifted(region.roi.start)
            return {z: [Section((*box.start[1:], *box.stop[1:]))] for z in range(box.start[0], box.stop[0])}
        found: dict[int, list[Section]] = {}
        n_sections = 0
        for body in propose(region.volume, region.roi, prompt, self.max_bodies):
            own = list(sections(body))
            if n_sections + len(own) > MAX_SECTIONS and n_sections:
                continue
            n_sections += len(own)
            for z, section in own:
                found.setdefault(z, []).append(section)
        return found


def as_region(encoded: Encoded) -> EncodedRegion:
    """`encoded` itself; `TypeError` when another segmenter made it."""
    if not isinstance(encoded, EncodedRegion):
        raise TypeError(f"expected what the LiteMedSAM segmenter's encode returned, got {type(encoded).__name__}")
    return encoded


def moved(section: Section, part: Box) -> Section:
    """`section` on the image grid, in the frame of the crop `part` and clipped to it."""
    _, y, x = part.start
    _, height, width = part.shape
    y0, x0, y1, x1 = section.box
    box = (max(0, y0 - y), max(0, x0 - x), min(height, y1 - y), min(width, x1 - x))
    outline = section.outline
    if outline is not None:
        outline = outline[box[0] + y - y0 : box[2] + y - y0, box[1] + x - x0 : box[3] + x - x0]
    return section._replace(box=box, outline=outline)


def view_box(volume: Volume, around: Box) -> Box:
    """`around` with `VIEW_MARGIN` in the plane, at least `MIN_VIEW_MM` wide and high, inside the image."""
    grow = [0, 0, 0]
    for axis in (1, 2):
        n, step = around.shape[axis], volume.geometry.spacing_mm[axis]
        grow[axis] = max(round(VIEW_MARGIN * n), round((MIN_VIEW_MM / step - n) / 2.0))
    return around.dilated((grow[0], grow[1], grow[2]), volume.geometry.shape)


def turned_axes(geometry: Geometry) -> tuple[bool, bool]:
    """Whether the rows (y) and columns (x) of a slice run against +Posterior, +Left or −Superior, whichever is nearest.

    The network is shown every slice as radiologists look at it and as it was trained. So it does not matter how a file
    stores its axes, and a flipped image gets exactly the flipped answer.
    """
    direction = geometry.direction_matrix
    return (_against(direction[:, 1]), _against(direction[:, 0]))


def _against(along: NDArray[np.float64]) -> bool:
    """Whether an axis, a unit vector in LPS, runs to the right, to the front or to the head."""
    nearest = int(np.argmax(np.abs(along)))
    return bool(along[nearest] > 0) if nearest == 2 else bool(along[nearest] < 0)


def grey_window(volume: Volume, box: Box) -> Window:
    """For scans without a window: the 0.5 and 99.5 percentiles of the pixels > 0 inside `box`."""
    grey = volume.array[box.slices].ravel()
    return percentile_window(grey[:: max(1, grey.size // PERCENTILE_PIXELS)])
