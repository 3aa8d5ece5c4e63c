"""`ThreeOrientations`: a model of slices looks at a volume from three sides (`--orientations 3`)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.errors import InputError
from r2seg_agent.imaging.geometry import Box, Float3, Geometry, Index3, bounding_box
from r2seg_agent.imaging.volume import FloatArray, Volume
from r2seg_agent.progress import Progress, silent
from r2seg_agent.segment.encoded import EncodedView
from r2seg_agent.segment.protocol import (
    Encoded,
    Prompt,
    Segmenter,
    SegmenterInfo,
    ShowsProgress,
)
from r2seg_agent.segment.smoothing import pool, unpooled
from r2seg_agent.segment.wrapper import SegmenterWrapper

AXES: Final[tuple[tuple[int, int, int], ...]] = ((0, 1, 2), (1, 0, 2), (2, 0, 1))
"""Which array axes (0 = z, 1 = y, 2 = x) become slices, rows and columns: axial, coronal, sagittal as stored."""
SLICE_MM = 3.0
"""The two further orientations have slices at least this thick, as reformatted scans have: a scan has hundreds of rows
and columns, and the model looks at one slice after the other."""
AROUND_MM = 20.0
"""What is shown of a scan besides the box of the prompt's mask, for models whose answer does not depend on the ROI."""


class EncodedVolume(EncodedView):
    """Nothing computed yet: how the volume is turned depends on the prompt's mask."""


class ThreeOrientations(SegmenterWrapper):
    """A lifted 2D `Segmenter` asked in axial, coronal and sagittal slices; the median of its three probabilities.

    The median is a majority: p ≥ 0.5 where at least two of the three orientations say so. A coronal or sagittal view of
    a scan with thick slices has oblong pixels: its coarser side is interpolated linearly to the spacing of the finer
    one, so that the model sees bodies in their shape; slices thinner than `SLICE_MM` are averaged to about that. The
    answer comes back on the voxels of the ROI the same way. The axial slices are those of the scan itself. Only slices
    inside the ROI are made, or inside the mask's box and `AROUND_MM` more where the ROI does not matter to the model.
    A single slice has one orientation.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        if "lifted" not in segmenter.info.settings:
            raise InputError(
                f"`--orientations 3` is for models that look at slices; `{segmenter.info.name}` sees volumes.",
                "Leave it out, or use another segmenter: `r2seg doctor` lists them.",
            )
        self.segmenter = segmenter

    @property
    def info(self) -> SegmenterInfo:
        """The lifted segmenter's own, with the orientations among its settings."""
        info = self.segmenter.info
        ours = {"orientations": 3, "orientations_fused_by": "median", "slice_mm": SLICE_MM, "around_mm": AROUND_MM}
        return info.model_copy(update={"settings": {**info.settings, **ours}})

    @property
    def progress(self) -> Progress:
        """Where the lifted segmenter tells of its slices."""
        return self.segmenter.progress if isinstance(self.segmenter, ShowsProgress) else silent

    @progress.setter
    def progress(self, progress: Progress) -> None:
        if isinstance(self.segmenter, ShowsProgress):
            self.segmenter.progress = progress

    def encode(self, volume: Volume, roi: Box) -> EncodedVolume:
        """A view; `InputError` when `roi` is not on the grid of `volume`."""
        return EncodedVolume.of(volume, roi)

    def segment(self, encoded: Encoded, prompts: Sequence[Prompt]) -> FloatArray:
        """(n_prompts, z, y, x) float32 in [0, 1] on the ROI grid."""
        if not isinstance(encoded, EncodedVolume):
            raise TypeError(f"expected what ThreeOrientations.encode returned, got {type(encoded).__name__}")
        volume, roi = encoded.volume, encoded.roi
        axial = self.segmenter.segment(self.segmenter.encode(volume, roi), prompts)
        if volume.geometry.shape[0] == 1:
            return axial
        out = np.empty_like(axial)
        for n, prompt in enumerate(prompts):
            others = [self._turned(volume, roi, prompt, axes) for axes in AXES[1:]]
            out[n] = np.median(np.stack([axial[n], *others]), axis=0)
        return out

    def _turned(self, volume: Volume, roi: Box, prompt: Prompt, axes: Index3) -> FloatArray:
        """One further orientation's probability on the ROI grid."""
        cut = self._cut(volume, roi, prompt)
        common = cut.intersection(roi)
        assert common is not None  # the mask's box lies in the ROI
        view = Turn.of(volume.geometry, cut, axes)
        turned = view.volume(volume)
        box = turned.geometry.full_box
        answer = self.segmenter.segment(self.segmenter.encode(turned, box), [view.prompt(prompt, roi)])[0]
        out = np.zeros(roi.shape, dtype=np.float32)
        out[common.within(roi).slices] = view.back(answer)[common.within(cut).slices]
        return out

    def _cut(self, volume: Volume, roi: Box, prompt: Prompt) -> Box:
        organ = None if prompt.mask is None else bounding_box(prompt.mask)
        if organ is None or not self.segmenter.info.roi_independent:
            return roi
        z, y, x = (math.ceil(AROUND_MM / mm) for mm in volume.geometry.spacing_mm)
        return organ.shifted(roi.start).dilated((z, y, x), volume.geometry.shape)


@dataclass(frozen=True)
class Turn:
    """A part `cut` of a scan seen with other slices: `axes` says which array axes become slices, rows and columns."""

    cut: Box
    axes: Index3
    geometry: Geometry
    """Of the turned and resampled part."""

    @classmethod
    def of(cls, geometry: Geometry, cut: Box, axes: Index3) -> Turn:
        """Square pixels as fine as the finer side in the new plane, slices of at least `SLICE_MM`."""
        shape = tuple(cut.shape[a] for a in axes)
        spacing = tuple(geometry.spacing_mm[a] for a in axes)
        pixel = min(spacing[1:])
        wanted = (max(spacing[0], SLICE_MM), pixel, pixel)
        cells = tuple(max(1, round(n * mm / to)) for n, mm, to in zip(shape, spacing, wanted, strict=True))
        step = tuple(mm * n / k for n, mm, k in zip(shape, spacing, cells, strict=True))
        columns = geometry.crop(cut).direction_matrix[:, [2 - a for a in axes[::-1]]]
        return cls(
            cut=cut,
            axes=axes,
            geometry=Geometry(
                shape=(cells[0], cells[1], cells[2]),
                spacing_mm=(step[0], step[1], step[2]),
                origin_lps_mm=_origin(geometry, cut, axes, (step[0], step[1], step[2])),
                direction=tuple(float(v) for v in columns.ravel()),
                known_spacing=geometry.known_spacing,
            ),
        )

    def volume(self, volume: Volume) -> Volume:
        """The part as a volume of its own, its further channels turned alike."""
        channels = {name: self._there(channel[self.cut.slices]) for name, channel in volume.channels.items()}
        return replace(
            volume,
            array=self._there(volume.array[self.cut.slices]),
            geometry=self.geometry,
            channels=MappingProxyType(channels),
        )

    def prompt(self, prompt: Prompt, roi: Box) -> Prompt:
        """`prompt`, which is on the grid of `roi`, on the turned part."""
        mask, box = None, None
        if prompt.mask is not None:
            whole = np.zeros(self.cut.shape, dtype=np.float32)
            common = self.cut.intersection(roi)
            assert common is not None
            whole[common.within(self.cut).slices] = prompt.mask[common.within(roi).slices]
            mask = self._there(whole) >= 0.5
        if prompt.box is not None:
            inside = prompt.box.shifted(roi.start).intersection(self.cut)
            if inside is not None:
                box = self._box(inside.within(self.cut))
        offset = np.subtract(roi.start, self.cut.start)
        points = tuple((self._index(np.add(index, offset)), positive) for index, positive in prompt.points)
        return replace(prompt, mask=mask, box=box, points=points)

    def back(self, answer: FloatArray) -> FloatArray:
        """(slices, rows, columns) of the turned part to (z, y, x) of `cut`."""
        shape = tuple(self.cut.shape[a] for a in self.axes)
        return np.ascontiguousarray(resampled(answer, (shape[0], shape[1], shape[2])).transpose(np.argsort(self.axes)))

    def _there(self, array: NDArray[Any]) -> FloatArray:
        return resampled(array.transpose(self.axes).astype(np.float32), self.geometry.shape)

    def _ratios(self) -> list[float]:
        return [k / self.cut.shape[a] for k, a in zip(self.geometry.shape, self.axes, strict=True)]

    def _box(self, box: Box) -> Box:
        start = [math.floor(box.start[a] * r + 1e-9) for a, r in zip(self.axes, self._ratios(), strict=True)]
        stop = [math.ceil(box.stop[a] * r - 1e-9) for a, r in zip(self.axes, self._ratios(), strict=True)]
        return Box(start=(start[0], start[1], start[2]), stop=(stop[0], stop[1], stop[2]))

    def _index(self, index: NDArray[np.int64]) -> Index3:
        at = [
            min(n - 1, max(0, int((index[a] + 0.5) * r)))
            for a, r, n in zip(self.axes, self._ratios(), self.geometry.shape, strict=True)
        ]
        return (at[0], at[1], at[2])


def resampled(array: FloatArray, shape: Index3) -> FloatArray:
    """`array` on equal cells over the same extent: means where there are fewer than voxels, linear where more."""
    fewer = tuple(min(n, k) for n, k in zip(array.shape, shape, strict=True))
    means = pool(lambda part: array[part], array.shape, (fewer[0], fewer[1], fewer[2]))
    return unpooled(means, shape, slice(0, shape[0]))


def oriented(segmenter: Segmenter, orientations: Literal[1, 3]) -> Segmenter:
    """`segmenter` itself, or with three orientations; `InputError` for a model that does not look at slices."""
    return segmenter if orientations == 1 else ThreeOrientations(segmenter)


def _origin(geometry: Geometry, cut: Box, axes: Index3, step: Float3) -> Float3:
    """Centre of the first cell: the first voxel's corner plus half a cell."""
    index = [float(i) for i in cut.start]
    for a, mm in zip(axes, step, strict=True):
        index[a] += (mm / geometry.spacing_mm[a] - 1.0) / 2.0
    origin = geometry.to_lps_mm((index[0], index[1], index[2]))
    return (float(origin[0]), float(origin[1]), float(origin[2]))
