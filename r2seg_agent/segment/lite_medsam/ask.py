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
    """The embedding of one slice; `frame` says where its pixels went."""

    model: LiteMedSam
    frame: Frame
    embedding: Tensor

    @classmethod
    def of(cls, model: LiteMedSam, grey: FloatArray) -> SliceView:
        """Encode `grey` (height, width), values 0 … 1."""
        frame = Frame(height=grey.shape[0], width=grey.shape[1], size=model.config.image_size)
        return cls(model, frame, model.encode(frame.image(grey)))

    def ask(self, boxes: Sequence[PlaneBox]) -> FloatArray:
        """(height, width) float32 in [0, 1]: the largest of the boxes' fused probabilities (see `fusion.py`)."""
        height, width = self.frame.height, self.frame.width
        out = np.zeros((height, width), dtype=np.float32)
        asked = [variants(self.frame.xyxy(box), self.frame.size) for box in boxes]
        for start in range(0, len(boxes), BATCH // VARIANTS):
            part = slice(start, start + BATCH // VARIANTS)
            masks = self.model.decode(self.embedding, torch.from_numpy(np.concatenate(asked[part])))
            probability, iou = self.frame.probability(masks.logits), masks.iou.cpu().numpy()
            for n, box in enumerate(boxes[part]):
                own = slice(n * VARIANTS, (n + 1) * VARIANTS)
                near = reach(box, height, width)
                np.maximum(out[near], fused(probability[own][:, near[0], near[1]], iou[own]), out=out[near])
        return out
