"""The whole network: encode an image once, then ask for the masks of any number of boxes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from r2seg_agent.segment.lite_medsam.config import LiteMedSamConfig
from r2seg_agent.segment.lite_medsam.layers import ConvNorm
from r2seg_agent.segment.lite_medsam.mask_decoder import MaskDecoder
from r2seg_agent.segment.lite_medsam.prompt_encoder import PromptEncoder
from r2seg_agent.segment.lite_medsam.tiny_vit import TinyViT


class Masks(NamedTuple):
    """`logits` (n, image_size, image_size) and the network's own guess of each mask's IoU (n,)."""

    logits: Tensor
    iou: Tensor


class LiteMedSam(nn.Module):
    """Inference only. Parameter names are those of the released checkpoint, so that it loads strictly."""

    def __init__(self, config: LiteMedSamConfig | None = None) -> None:
        super().__init__()
        self.config = config or LiteMedSamConfig()
        self.image_encoder = TinyViT(self.config)
        self.mask_decoder = MaskDecoder(self.config)
        self.prompt_encoder = PromptEncoder(self.config)
        self.requires_grad_(False)
        self.eval()

    def load(self, state: Mapping[str, Tensor]) -> LiteMedSam:
        """Take all tensors of `state`, strictly, and fold the batch norms into their convolutions; returns itself."""
        self.load_state_dict(state, strict=True)
        return self.fold()

    def fold(self) -> LiteMedSam:
        """Fold the batch norms into their convolutions (see `ConvNorm.fold`); returns itself."""
        for module in self.modules():
            if isinstance(module, ConvNorm):
                module.fold()
            if isinstance(module, nn.Conv2d):
                # Pixels with their channels together: no copies between convolutions and attention.
                module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)
        return self

    @torch.inference_mode()
    def encode(self, images: Tensor) -> Tensor:
        """(batch, 3, image_size, image_size), values 0 … 1, to embeddings (batch, embed_dim, grid, grid)."""
        out: Tensor = self.image_encoder(images.contiguous(memory_format=torch.channels_last))
        return out

    @torch.inference_mode()
    def decode(
        self,
        embedding: Tensor,
        boxes: Tensor,
        points: tuple[Tensor, Tensor] | None = None,
        masks: Tensor | None = None,
        cells: tuple[slice, slice] | None = None,
    ) -> Masks:
        """The masks of n boxes in one image.

        Args:
            embedding: of this image, (1, embed_dim, grid, grid).
            boxes: (n, 4), x, y, x, y in pixels of the input image.
            points: positions (n, k, 2), x and y, and which are positive (n, k, bool); they go with the boxes.
            masks: logits of an earlier answer, (n, 1, image_size, image_size), to start from.
            cells: rows and columns of the embedding's grid to draw the masks in; elsewhere their logits are
                `mask_decoder.OUTSIDE`. Drawing is local, so inside nothing changes, and a small box costs less.
        """
        encoder = self.prompt_encoder
        sparse = encoder.boxes(boxes)
        if points is not None:
            sparse = torch.cat([encoder.points(*points, alone=False), sparse], dim=1)
        dense = encoder.no_mask() if masks is None else encoder.masks(masks)
        return Masks(*self.mask_decoder(embedding, encoder.grid_positions(), sparse, dense, cells))
