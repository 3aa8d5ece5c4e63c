"""Several boxes for one body, and one probability from their masks (multi-prompt fusion in the spirit of TAGS).

As in TAGS (Li et al., 2025) several prompts guide one answer, because one prompt's mask depends on how that prompt was
drawn. Here the box b of a body is asked for as it is and grown and moved, within the reach of the boxes that LiteMedSAM
saw in training (up to 5 of its 256 pixels off). With logits Lᵢ and the network's own guess uᵢ of the IoU of prompt i,
clipped to [0, 1],

    p(x) = Σ uᵢ σ(Lᵢ(x)) / Σ uᵢ    for x inside b grown by `REACH`, else 0

so a pixel counts (p ≥ 0.5) when the prompts that the network believes in agree on it. All uᵢ zero: the plain mean.
Where the boxes of several bodies meet, the largest p stands.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.imaging.volume import FloatArray
from r2seg_agent.segment.lite_medsam.preprocess import PlaneBox

MARGIN = 0.1
"""By which share of its sides a box is grown or moved …"""
MIN_MARGIN, MAX_MARGIN = 1.0, 5.0
"""… but at least and at most so many pixels of the network's input."""
REACH = 0.25
"""How far a mask may leave the box that it was asked for, as a share of the box's sides."""
_VARIANTS = ((0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (1.0, -1.0, -1.0), (1.0, 1.0, 1.0))
"""(grown by, moved down by, moved right by), in margins."""
VARIANTS = len(_VARIANTS)


def variants(xyxy: list[float], size: int) -> NDArray[np.float32]:
    """(VARIANTS, 4): the box itself, then grown, then grown and moved to the upper left and lower right.

    `xyxy` and the result are in pixels of the network's input, clipped to 0 … size − 1.
    """
    x0, y0, x1, y1 = xyxy
    across = min(MAX_MARGIN, max(MIN_MARGIN, MARGIN * (x1 - x0)))
    down = min(MAX_MARGIN, max(MIN_MARGIN, MARGIN * (y1 - y0)))
    boxes = [
        [
            x0 - across * (grown - right),
            y0 - down * (grown - lower),
            x1 + across * (grown + right),
            y1 + down * (grown + lower),
        ]
        for grown, lower, right in _VARIANTS
    ]
    return np.clip(np.asarray(boxes, dtype=np.float32), 0.0, float(size - 1))


def fused(probabilities: FloatArray, iou: NDArray[np.float32]) -> FloatArray:
    """The mean of (n, height, width) over n, weighted by the predicted IoU (n,) clipped to [0, 1]."""
    weights = np.clip(iou.astype(np.float32), 0.0, 1.0)
    if not weights.sum() > 0:
        weights = np.ones_like(weights)
    out: FloatArray = np.tensordot(weights / weights.sum(), probabilities, axes=1).astype(np.float32)
    return np.clip(out, 0.0, 1.0)


def reach(box: PlaneBox, height: int, width: int) -> tuple[slice, slice]:
    """`box` grown by `REACH` of its sides, at least one pixel, inside a slice of `height` × `width`."""
    y0, x0, y1, x1 = box
    dy, dx = max(1, round(REACH * (y1 - y0))), max(1, round(REACH * (x1 - x0)))
    return (slice(max(0, y0 - dy), min(height, y1 + dy)), slice(max(0, x0 - dx), min(width, x1 + dx)))
