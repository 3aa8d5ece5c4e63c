"""SAM's mask decoder: prompts and image attend to each other, then a token of the prompts draws the mask."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from r2seg_agent.segment.lite_medsam.config import LiteMedSamConfig
from r2seg_agent.segment.lite_medsam.layers import LayerNorm2d, Mlp

OUTSIDE = -20.0
"""The logit of pixels that nobody asked for."""


class Attention(nn.Module):
    """Multi-head attention whose inner width may be smaller than that of its tokens."""

    def __init__(self, dim: int, heads: int, inner: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(dim, inner)
        self.k_proj = nn.Linear(dim, inner)
        self.v_proj = nn.Linear(dim, inner)
        self.out_proj = nn.Linear(inner, dim)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(batch, queries, dim) from queries, keys and values of (batch, tokens, dim).

        What is the same for the whole batch may come with a batch of 1: it is then projected only once.
        """
        heads = [self._by_head(self.q_proj(q)), self._by_head(self.k_proj(k)), self._by_head(self.v_proj(v))]
        batch = max(len(head) for head in heads)
        query, key, value = (head.expand(batch, -1, -1, -1) for head in heads)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        out: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return out

    def _by_head(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)


class BlockMlp(nn.Module):
    """Two linear layers with ReLU between them."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.lin1 = nn.Linear(dim, hidden)
        self.lin2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Same shape, (…, dim)."""
        out: Tensor = self.lin2(functional.relu(self.lin1(x)))
        return out


class TwoWayBlock(nn.Module):
    """Tokens attend to themselves and to the image, then the image attends to the tokens."""

    def __init__(self, config: LiteMedSamConfig, *, first: bool) -> None:
        super().__init__()
        dim, heads = config.embed_dim, config.decoder_heads
        self.first = first
        self.self_attn = Attention(dim, heads, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.cross_attn_token_to_image = Attention(dim, heads, dim // 2)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = BlockMlp(dim, config.decoder_hidden)
        self.norm3 = nn.LayerNorm(dim)
        self.norm4 = nn.LayerNorm(dim)
        self.cross_attn_image_to_token = Attention(dim, heads, dim // 2)

    def forward(self, tokens: Tensor, image: Tensor, token_pe: Tensor, image_pe: Tensor) -> tuple[Tensor, Tensor]:
        """Updated tokens (batch, n, dim) and image (batch, pixels, dim)."""
        if self.first:
            # The first block's tokens are their own position embedding: SAM neither adds it nor keeps the input.
            tokens = self.self_attn(tokens, tokens, tokens)
        else:
            query = tokens + token_pe
            tokens = tokens + self.self_attn(query, query, tokens)
        tokens = self.norm1(tokens)
        tokens = self.norm2(tokens + self.cross_attn_token_to_image(tokens + token_pe, image + image_pe, image))
        tokens = self.norm3(tokens + self.mlp(tokens))
        image = self.norm4(image + self.cross_attn_image_to_token(image + image_pe, tokens + token_pe, tokens))
        return tokens, image


class TwoWayTransformer(nn.Module):
    """The blocks, and one last look of the tokens at the image."""

    def __init__(self, config: LiteMedSamConfig) -> None:
        super().__init__()
        dim = config.embed_dim
        self.layers = nn.ModuleList(TwoWayBlock(config, first=n == 0) for n in range(config.decoder_depth))
        self.final_attn_token_to_image = Attention(dim, config.decoder_heads, dim // 2)
        self.norm_final_attn = nn.LayerNorm(dim)

    def forward(self, image: Tensor, image_pe: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (batch, n, dim) and image (batch, pixels, dim) after all blocks."""
        token_pe = tokens
        for layer in self.layers:
            tokens, image = layer(tokens, image, token_pe, image_pe)
        seen = self.final_attn_token_to_image(tokens + token_pe, image + image_pe, image)
        return self.norm_final_attn(tokens + seen), image


class MaskDecoder(nn.Module):
    """Mask logits at four times the embedding's grid, and the predicted IoU of the mask."""

    def __init__(self, config: LiteMedSamConfig) -> None:
        super().__init__()
        dim, masks = config.embed_dim, config.n_mask_tokens
        self.transformer = TwoWayTransformer(config)
        self.iou_token = nn.Embedding(1, dim)
        self.mask_tokens = nn.Embedding(masks, dim)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(dim, dim // 4, 2, 2),
            LayerNorm2d(dim // 4),
            nn.GELU(),
            nn.ConvTranspose2d(dim // 4, dim // 8, 2, 2),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(Mlp(dim, dim, dim // 8, 3) for _ in range(masks))
        self.iou_prediction_head = Mlp(dim, dim, masks, 3)

    def forward(
        self,
        embedding: Tensor,
        position: Tensor,
        sparse: Tensor,
        dense: Tensor,
        cells: tuple[slice, slice] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """One image, n prompts.

        Args:
            embedding: the image embedding, (1, dim, grid, grid).
            position: its position embedding, the same shape.
            sparse: (n, tokens, dim) of the points and boxes.
            dense: of the mask prompts, (n or 1, dim, grid, grid), or (1, dim, 1, 1).
            cells: rows and columns of the grid to draw in; None: all. Elsewhere logits are `OUTSIDE`.

        Returns:
            Logits (n, 4 · grid, 4 · grid) of SAM's single mask, and its IoU (n,). The network's IoU is not confined
            to [0, 1].
        """
        n = len(sparse)
        own = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        tokens = torch.cat([own.expand(n, -1, -1), sparse], dim=1)
        image = embedding + dense
        height, width = image.shape[2:]
        tokens, pixels = self.transformer(image.flatten(2).mT, position.flatten(2).mT, tokens)
        # Token 0 predicts the IoU, token 1 draws the single mask; the others draw SAM's alternatives.
        drawn = self.output_hypernetworks_mlps[0](tokens[:, 1])
        rows, columns = cells or (slice(0, height), slice(0, width))
        # A cell becomes 4 × 4 pixels that depend on no other cell (both steps have stride = kernel = 2).
        upscaled = self.output_upscaling(pixels.mT.reshape(n, -1, height, width)[:, :, rows, columns])
        part = torch.einsum("nc,nchw->nhw", drawn, upscaled)
        if cells is None:
            logits = part
        else:
            logits = part.new_full((n, 4 * height, 4 * width), OUTSIDE)
            logits[:, 4 * rows.start : 4 * rows.stop, 4 * columns.start : 4 * columns.stop] = part
        iou: Tensor = self.iou_prediction_head(tokens[:, 0])[:, 0]
        return logits, iou
