"""One encoded slice, and the answers to its boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from r2seg_agent.imaging.volume import FloatArray
from r2seg_agent.segment.lite_medsam.fusion import VARIANTS, fused, reach, variants
from r2seg_agent.segment.lite_medsam.model import LiteMedSam
from r2seg_agent.segment.lite_medsam.preprocess import Frame, PlaneBox

BATCH = 4 * VARIANTS
"""Boxes that are decoded at once: about 30 MB of memory each."""


@dataclass(frozen=True, eq=False)
class SliceView:
    """The embedding of one slice; `frame` says where its pixels went, `turned` which axes (y, x) were reversed."""

    model: LiteMedSam
    frame: Frame
    embedding: Tensor
    turned: tuple[bool, bool]

    @classmethod
    def of(cls, model: LiteMedSam, grey: FloatArray, turned: tuple[bool, bool] = (False, False)) -> SliceView:
        """Encode `grey` (height, width), values 0 … 1, with the axes of `turned` reversed before the network sees it.

        Boxes and answers stay on the axes of `grey`.
        """
        frame = Frame(height=grey.shape[0], width=grey.shape[1], size=model.config.image_size)
        return cls(model, frame, model.encode(frame.image(_reversed(grey, turned))), turned)

    def ask(self, boxes: Sequence[PlaneBox]) -> FloatArray:
        """(height, width) float32 in [0, 1]: the largest of the boxes' fused probabilities (see `fusion.py`)."""
        height, width = self.frame.height, self.frame.width
        out = np.zeros((height, width), dtype=np.float32)
        boxes = [self._seen(box) for box in boxes]
        asked = [variants(self.frame.xyxy(box), self.frame.size) for box in boxes]
        for start in range(0, len(boxes), BATCH // VARIANTS):
            part = slice(start, start + BATCH // VARIANTS)
            masks = self.model.decode(self.embedding, torch.from_numpy(np.concatenate(asked[part])))
            probability, iou = self.frame.probability(masks.logits), masks.iou.cpu().numpy()
            for n, box in enumerate(boxes[part]):
                own = slice(n * VARIANTS, (n + 1) * VARIANTS)
                near = reach(box, height, width)
                np.maximum(out[near], fused(probability[own][:, near[0], near[1]], iou[own]), out=out[near])
        return np.ascontiguousarray(_reversed(out, self.turned))

    def _seen(self, box: PlaneBox) -> PlaneBox:
        y0, x0, y1, x1 = box
        if self.turned[0]:
            y0, y1 = self.frame.height - y1, self.frame.height - y0
        if self.turned[1]:
            x0, x1 = self.frame.width - x1, self.frame.width - x0
        return (y0, x0, y1, x1)


def _reversed(plane: FloatArray, axes: tuple[bool, bool]) -> FloatArray:
    return plane[:: -1 if axes[0] else 1, :: -1 if axes[1] else 1]
