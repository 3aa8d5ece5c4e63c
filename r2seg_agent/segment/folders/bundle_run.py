"""A bundle's network over a region of a scan: turn, resample, normalise, sliding window, and all of it undone.

The windows and their Gaussian weights are nnU-Net's (`nnunetv2.inference.sliding_window_prediction`): already a
dependency, and the same as in MONAI's inferer up to the width of the Gaussian.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, combinations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from r2seg_agent.errors import InputError
from r2seg_agent.imaging.geometry import Box, Float3, Geometry
from r2seg_agent.imaging.volume import FloatArray
from r2seg_agent.segment.folders.bundle_formats import Network
from r2seg_agent.segment.folders.bundle_manifest import Manifest
from r2seg_agent.segment.folders.grid import Turn, turn_to, with_context
from r2seg_agent.segment.folders.normalise import normalised
from r2seg_agent.segment.folders.windows import sliding_windows


class BundleRunner:
    """Runs the loaded network as its manifest says."""

    def __init__(self, manifest: Manifest, name: str, network: Network) -> None:
        self._manifest, self._name, self._network = manifest, name, network

    def probabilities(
        self, geometry: Geometry, channels: Sequence[NDArray[Any]], roi: Box, wanted: Mapping[str, int]
    ) -> dict[str, FloatArray]:
        """(z, y, x) on the ROI grid for each `wanted` output. `channels` are whole scans (z, y, x) on `geometry`.

        Raises `InputError` for a network whose answer has another shape than the manifest says.
        """
        said = self._manifest
        turn = turn_to(said.orientation, geometry)
        region = self._region(roi, turn, geometry)
        image = np.stack(
            [
                turn.apply(normalised(scan[region.slices], scan, channel.normalisation))
                for scan, channel in zip(channels, said.channels, strict=True)
            ]
        )
        tensor = torch.from_numpy(np.ascontiguousarray(image))
        answer = (
            self._volumes(tensor, turn.triple(geometry.spacing_mm))
            if said.ndim == 3
            else self._slices(tensor, turn.triple(geometry.spacing_mm))
        )
        inner = roi.within(region).slices
        return {
            name: np.ascontiguousarray(turn.undo(answer[at].numpy())[inner], dtype=np.float32)
            for name, at in wanted.items()
        }

    def _region(self, roi: Box, turn: Turn, geometry: Geometry) -> Box:
        """What the network must see for the ROI: half a window around it, or all that is stretched to its input."""
        said = self._manifest
        across = turn.axes[0]  # the scan's axis along which a 2D network's slices are stacked
        if said.fit == "resize":
            start, stop = [0, 0, 0], list(geometry.shape)
            if said.ndim == 2:
                start[across], stop[across] = roi.start[across], roi.stop[across]
            return Box(start=(start[0], start[1], start[2]), stop=(stop[0], stop[1], stop[2]))
        spacing = turn.triple(geometry.spacing_mm)
        own = (spacing[0], *(said.spacing_mm or spacing[1:])) if said.ndim == 2 else said.spacing_mm or spacing
        size = (0, *said.input_size) if said.ndim == 2 else said.input_size
        half: Float3 = (0.5 * size[0] * own[0], 0.5 * size[1] * own[1], 0.5 * size[2] * own[2])
        return with_context(roi, turn.triple_back(half), geometry)

    def _volumes(self, image: torch.Tensor, spacing: Float3) -> torch.Tensor:
        """(channels, z, y, x) → probabilities (classes, z, y, x) of a 3D network."""
        return self._fitted(image, spacing)

    def _slices(self, image: torch.Tensor, spacing: Float3) -> torch.Tensor:
        """The same of a 2D network, slice by slice."""
        return torch.stack([self._fitted(image[:, z], spacing[1:]) for z in range(image.shape[1])], dim=1)

    def _fitted(self, image: torch.Tensor, spacing: Sequence[float]) -> torch.Tensor:
        """(channels, *size) → probabilities (classes, *size): to the network's spacing or size, and back."""
        said = self._manifest
        size = tuple(image.shape[1:])
        target = size
        if said.fit == "resize":
            target = said.input_size
        elif said.spacing_mm is not None:
            target = tuple(max(1, round(n * s / t)) for n, s, t in zip(size, spacing, said.spacing_mm, strict=True))
        resized, outputs = _resized(image, target), len(said.classes)
        answer = self._activated(sliding_windows(resized, said.input_size, said.overlap, outputs, self._asked))
        return _resized(answer, size).clamp_(0.0, 1.0)

    def _asked(self, window: torch.Tensor) -> torch.Tensor:
        """(channels, *input_size) → raw outputs (classes, *input_size), the mean over the mirrored copies."""
        answers = []
        for axes in _subsets(self._manifest.mirror):
            dims = [axis + 1 for axis in axes]
            batch = window.flip(dims)[None].contiguous().numpy()
            try:
                found = torch.from_numpy(np.array(self._network(batch)))
            except (MemoryError, torch.OutOfMemoryError):
                raise
            except Exception as error:  # torch and onnxruntime raise all kinds for an input that does not fit
                words = str(error).strip().splitlines() or [type(error).__name__]
                raise InputError(
                    f"the network of `{self._name}` fails on {batch.shape} (1, channels, *input_size): "
                    f"{words[-1][:300]}",
                    "Correct `channels` or `input_size` in bundle.json, or export the network for this input.",
                ) from error
            expected = (1, len(self._manifest.classes), *self._manifest.input_size)
            if tuple(found.shape) != expected:
                raise InputError(
                    f"the network of `{self._name}` answers {tuple(found.shape)} to {batch.shape}; its manifest "
                    f"promises {expected} (1, classes, *input_size)",
                    "Correct `classes` or `input_size` in bundle.json.",
                )
            answers.append(found[0].flip(dims))
        return torch.stack(answers).mean(0)

    def _activated(self, raw: torch.Tensor) -> torch.Tensor:
        """Raw outputs (classes, *size) → probabilities."""
        if self._manifest.activation == "softmax":
            return raw.softmax(0)
        return raw.sigmoid() if self._manifest.activation == "sigmoid" else raw


def _subsets(axes: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Every choice of axes to mirror, none first."""
    return chain.from_iterable(combinations(axes, k) for k in range(len(axes) + 1))


def _resized(image: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """(channels, *old) → (channels, *size) by linear interpolation between voxel centres."""
    if tuple(image.shape[1:]) == tuple(size):
        return image
    mode = "bilinear" if len(size) == 2 else "trilinear"
    return functional.interpolate(image[None], size=tuple(size), mode=mode, align_corners=False)[0]
