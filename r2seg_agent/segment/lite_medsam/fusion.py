"""Several prompts for one body, and one probability from their masks (multi-prompt fusion in the spirit of TAGS).

As in TAGS (Li et al., 2025) several prompts guide one answer, because one prompt's mask depends on how that prompt was
drawn. A section of a body gives the network its box b, and b grown by a margin, within the reach of the boxes that
LiteMedSAM saw in training (up to 5 of its 256 pixels off); each of the two alone, and together with the section's own
rough outline o as SAM's mask prompt. With logits Lᵢ, the network's own guess uᵢ of the IoU of prompt i, clipped to
[0, 1], and β = `OUTLINE_SHARE` · min(1, √(width · height of b) / `FULL_SHARE_PIXELS`),

    p(x) = (1 − β) Σ uᵢ σ(Lᵢ(x)) / Σ uᵢ + β o(x)    for x inside b grown by `REACH`, else 0

so a pixel counts (p ≥ 0.5) when the prompts that the network believes in agree on it; with β = 1/3, half of that
(0.25) is enough inside the outline, and 0.75 is needed outside. The outline ends at the half maximum of the visible
edge, where the network alone stops short of it by a share of the body's radius; the outline of a small body is itself
uncertain by a pixel or two, so its weight grows with the body. Without an outline β is 0; all uᵢ zero: the plain mean.
Where the sections of several bodies meet, the largest p stands.

Boxes with a point in their middle are not asked: LiteMedSAM was trained on boxes only, and a point made its masks
smaller than a half of the body (docs/evidence/results.md).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.imaging.volume import FloatArray, Mask

if TYPE_CHECKING:  # whoever only reads the settings needs no torch
    from torch import Tensor

    from r2seg_agent.segment.lite_medsam.preprocess import Frame, PlaneBox

MARGIN = 0.1
"""By which share of its sides a box is grown …"""
MIN_MARGIN, MAX_MARGIN = 1.0, 5.0
"""… but at least and at most so many pixels of the network's input."""
REACH = 0.25
"""How far a mask may leave the box that it was asked for, as a share of the box's sides."""
OUTLINE_LOGIT = 6.0
"""A rough outline is given as logits of ± this: near certain, as SAM's own earlier answers would be."""

OUTLINE_SHARE = 1.0 / 3.0
FULL_SHARE_PIXELS = 64.0
"""β: how much the outline itself weighs against the network's masks, in full from a quarter of the image's side on."""


class Section(NamedTuple):
    """Where a body meets a slice: the box around it, and its outline inside this box when there is one."""

    box: PlaneBox
    outline: Mask | None = None


class Prompts(NamedTuple):
    """What the network is asked about one section: `boxes` (n, 4), and of a part of them also `masks` (n, 1, s, s)."""

    boxes: Tensor
    masks: Tensor | None


def prompts(section: Section, frame: Frame) -> tuple[Prompts, ...]:
    """The questions about one section: its box and the grown one, alone, then with the outline when there is one."""
    import torch

    boxes = torch.from_numpy(variants(frame.xyxy(section.box), frame.size))
    alone = Prompts(boxes, None)
    if section.outline is None:
        return (alone,)
    logits = (2.0 * OUTLINE_LOGIT) * frame.resized(outline_plane(section, frame)) - OUTLINE_LOGIT
    return (alone, Prompts(boxes, logits.expand(len(boxes), -1, -1, -1)))


def outline_plane(section: Section, frame: Frame) -> FloatArray:
    """(height, width): 1 inside the section's outline, which it must have, else 0."""
    y0, x0, y1, x1 = section.box
    plane = np.zeros((frame.height, frame.width), dtype=np.float32)
    plane[y0:y1, x0:x1] = section.outline
    return plane


def variants(xyxy: list[float], size: int) -> NDArray[np.float32]:
    """(2, 4): the box itself and the grown one, in pixels of the network's input, clipped to 0 … size − 1."""
    x0, y0, x1, y1 = xyxy
    across = min(MAX_MARGIN, max(MIN_MARGIN, MARGIN * (x1 - x0)))
    down = min(MAX_MARGIN, max(MIN_MARGIN, MARGIN * (y1 - y0)))
    boxes = [[x0, y0, x1, y1], [x0 - across, y0 - down, x1 + across, y1 + down]]
    return np.clip(np.asarray(boxes, dtype=np.float32), 0.0, float(size - 1))


def outline_share(xyxy: list[float]) -> float:
    """β for a box in pixels of the network's input."""
    side = math.sqrt((xyxy[2] - xyxy[0]) * (xyxy[3] - xyxy[1]))
    return OUTLINE_SHARE * min(1.0, side / FULL_SHARE_PIXELS)


def fused(
    probabilities: FloatArray, iou: NDArray[np.float32], outline: FloatArray | None = None, share: float = 0.0
) -> FloatArray:
    """(n, height, width) to (height, width): the formula above.

    `iou` (n,); `outline` (height, width), 0 or 1, weighs with β = `share`.
    """
    weights = np.clip(iou.astype(np.float32), 0.0, 1.0)
    if not weights.sum() > 0:
        weights = np.ones_like(weights)
    out: FloatArray = np.tensordot(weights / weights.sum(), probabilities, axes=1).astype(np.float32)
    if outline is not None:
        out += np.float32(share) * (outline - out)
    return np.clip(out, 0.0, 1.0)


def reach(box: PlaneBox, height: int, width: int) -> tuple[slice, slice]:
    """`box` grown by `REACH` of its sides, at least one pixel, inside a slice of `height` × `width`."""
    y0, x0, y1, x1 = box
    dy, dx = max(1, round(REACH * (y1 - y0))), max(1, round(REACH * (x1 - x0)))
    return (slice(max(0, y0 - dy), min(height, y1 + dy)), slice(max(0, x0 - dx), min(width, x1 + dx)))
