"""Test-time augmentation of method.md §2: P̄ = max over g of Inv(g) ∘ f(g(I)); g: identity, left-right, top-bottom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from r2seg_agent.errors import InputError
from r2seg_agent.imaging.geometry import Box, Geometry, Index3
from r2seg_agent.imaging.volume import FloatArray, Volume
from r2seg_agent.segment.protocol import Prompt, Segmenter

FLIPPED_AXES: Final = {"left_right": 2, "top_bottom": 1}
"""The in-plane array axes (z, y, x) of the two flips: columns and rows of a slice, as a 2D model sees it."""


def with_flips(segmenter: Segmenter, volume: Volume, roi: Box, prompts: Sequence[Prompt]) -> FloatArray:
    """Probabilities (n_prompts, z, y, x) on the ROI grid, the largest over the three orientations.

    The ROI is cut out, flipped as an image of its own (its geometry mirrored along, so that positions stay true), and
    asked with the prompts' boxes, points and masks flipped alike. One pass only when the segmenter says that it is
    `flip_equivariant`. Raises what the segmenter raises; `InputError` for an answer of the wrong shape.
    """
    best = _asked(segmenter, volume, roi, prompts)
    if segmenter.info.flip_equivariant:
        return best
    inside = volume.crop(roi)
    for axis in FLIPPED_AXES.values():
        if roi.shape[axis] == 1:
            continue
        turned = flip_volume(inside, axis)
        answer = _asked(segmenter, turned, turned.geometry.full_box, [flip_prompt(p, roi.shape, axis) for p in prompts])
        np.maximum(best, np.flip(answer, axis=axis + 1), out=best)
    return best


def _asked(segmenter: Segmenter, volume: Volume, roi: Box, prompts: Sequence[Prompt]) -> FloatArray:
    answer = segmenter.segment(segmenter.encode(volume, roi), prompts)
    if answer.shape != (len(prompts), *roi.shape):
        raise InputError(
            f"segmenter `{segmenter.info.name}` answered with shape {answer.shape}; "
            f"{(len(prompts), *roi.shape)} (prompts, z, y, x) is expected."
        )
    return answer if answer.flags.writeable else answer.copy()


def flip_volume(volume: Volume, axis: int) -> Volume:
    """`volume` with array axis `axis` reversed; the geometry still puts every voxel where it was in the patient."""
    geometry = volume.geometry
    corner = [0.0, 0.0, 0.0]
    corner[axis] = float(geometry.shape[axis] - 1)
    origin = geometry.to_lps_mm((corner[0], corner[1], corner[2]))
    direction = geometry.direction_matrix.copy()
    direction[:, 2 - axis] *= -1.0
    mirrored = Geometry(
        shape=geometry.shape,
        spacing_mm=geometry.spacing_mm,
        origin_lps_mm=(float(origin[0]), float(origin[1]), float(origin[2])),
        direction=tuple(float(v) for v in direction.ravel()),
        known_spacing=geometry.known_spacing,
    )
    channels = {name: np.flip(channel, axis=axis) for name, channel in volume.channels.items()}
    return replace(volume, array=np.flip(volume.array, axis=axis), geometry=mirrored, channels=channels)


def flip_prompt(prompt: Prompt, shape: Index3, axis: int) -> Prompt:
    """`prompt` on the ROI grid of `shape` with its box, points and mask reversed along `axis`."""
    box = prompt.box
    if box is not None:
        start, stop = list(box.start), list(box.stop)
        start[axis], stop[axis] = shape[axis] - box.stop[axis], shape[axis] - box.start[axis]
        box = Box(start=(start[0], start[1], start[2]), stop=(stop[0], stop[1], stop[2]))
    points = tuple((_flip_index(index, shape, axis), positive) for index, positive in prompt.points)
    mask = None if prompt.mask is None else np.flip(prompt.mask, axis=axis)
    return replace(prompt, box=box, points=points, mask=mask)


def _flip_index(index: Index3, shape: Index3, axis: int) -> Index3:
    flipped = list(index)
    flipped[axis] = shape[axis] - 1 - index[axis]
    return (flipped[0], flipped[1], flipped[2])
