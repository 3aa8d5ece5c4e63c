"""One encoded slice, and the answers about the sections of bodies in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from r2seg_agent.imaging.volume import FloatArray
from r2seg_agent.segment.lite_medsam.cache import EmbeddingCache
from r2seg_agent.segment.lite_medsam.fusion import Section, fused, outline_plane, outline_share, prompts, reach
from r2seg_agent.segment.lite_medsam.model import LiteMedSam
from r2seg_agent.segment.lite_medsam.preprocess import Frame, PlaneBox


@dataclass(frozen=True, eq=False)
class SliceView:
    """The embedding of one slice; `frame` says where its pixels went, `turned` which axes (y, x) were reversed."""

    model: LiteMedSam
    frame: Frame
    embedding: Tensor
    turned: tuple[bool, bool]

    @classmethod
    def of(
        cls,
        model: LiteMedSam,
        pixels: FloatArray,
        turned: tuple[bool, bool] = (False, False),
        cache: EmbeddingCache | None = None,
    ) -> SliceView:
        """Encode `pixels`, (height, width) or (height, width, 3), values 0 … 1.

        The axes of `turned` are reversed before the network sees them; boxes and answers stay on those of `pixels`.
        """
        frame = Frame(height=pixels.shape[0], width=pixels.shape[1], size=model.config.image_size)
        image = frame.image(_reversed(pixels, turned))
        embedding = model.encode(image) if cache is None else cache.get(image, model.encode)
        return cls(model, frame, embedding, turned)

    def ask(self, sections: Sequence[Section]) -> FloatArray:
        """(height, width) float32 in [0, 1]: the largest of the sections' fused probabilities (see `fusion.py`)."""
        height, width = self.frame.height, self.frame.width
        out = np.zeros((height, width), dtype=np.float32)
        for section in sections:
            seen = self._seen(section)
            near = reach(seen.box, height, width)
            cells = self.frame.cells(near, self.model.config.grid)
            asked = [
                self.model.decode(self.embedding, p.boxes, masks=p.masks, cells=cells)
                for p in prompts(seen, self.frame)
            ]
            logits = torch.cat([masks.logits for masks in asked])
            iou = torch.cat([masks.iou for masks in asked]).cpu().numpy()
            probability = self.frame.probability(logits)[:, near[0], near[1]]
            outline = None if seen.outline is None else outline_plane(seen, self.frame)[near]
            share = outline_share(self.frame.xyxy(seen.box))
            np.maximum(out[near], fused(probability, iou, outline, share), out=out[near])
        return np.ascontiguousarray(_reversed(out, self.turned))

    def features(self, pixels: NDArray[np.int64]) -> FloatArray:
        """(k, embed_dim): the embedding at `pixels` (k, 2), y and x of the slice, between its cells bilinearly."""
        seen = pixels.astype(np.float32) + 0.5
        for axis, length in enumerate((self.frame.height, self.frame.width)):
            if self.turned[axis]:
                seen[:, axis] = length - seen[:, axis]
        unit = torch.from_numpy(seen * np.float32(2.0 * self.frame.ratio / self.frame.size) - np.float32(1.0))
        places = unit.flip(1)[None, :, None]  # x before y
        found = functional.grid_sample(self.embedding, places, align_corners=False, padding_mode="border")
        out: NDArray[Any] = found[0, :, :, 0].mT.contiguous().numpy()
        return out.astype(np.float32, copy=False)

    def _seen(self, section: Section) -> Section:
        outline = section.outline
        if outline is not None:
            outline = outline[:: -1 if self.turned[0] else 1, :: -1 if self.turned[1] else 1]
        return Section(self._seen_box(section.box), outline)

    def _seen_box(self, box: PlaneBox) -> PlaneBox:
        y0, x0, y1, x1 = box
        if self.turned[0]:
            y0, y1 = self.frame.height - y1, self.frame.height - y0
        if self.turned[1]:
            x0, x1 = self.frame.width - x1, self.frame.width - x0
        return (y0, x0, y1, x1)


def _reversed(plane: FloatArray, axes: tuple[bool, bool]) -> FloatArray:
    return plane[:: -1 if axes[0] else 1, :: -1 if axes[1] else 1]
