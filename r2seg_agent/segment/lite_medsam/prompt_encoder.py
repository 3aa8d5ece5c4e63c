"""SAM's prompt encoder (Kirillov et al., ICCV 2023): boxes, points and masks as embeddings."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from r2seg_agent.segment.lite_medsam.config import LiteMedSamConfig
from r2seg_agent.segment.lite_medsam.layers import LayerNorm2d


class RandomPosition(nn.Module):
    """Fourier features of a position in the unit square, at random frequencies that are part of the weights."""

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(2, features))

    def forward(self, unit_xy: Tensor) -> Tensor:
        """(…, 2), x first, in [0, 1], to (…, 2 · features): sines, then cosines."""
        angle = 2.0 * math.pi * ((2.0 * unit_xy - 1.0) @ self.positional_encoding_gaussian_matrix)
        return torch.cat([torch.sin(angle), torch.cos(angle)], dim=-1)


class PromptEncoder(nn.Module):
    """Sparse embeddings (points, box corners) and dense ones (a mask, or that there is none)."""

    def __init__(self, config: LiteMedSamConfig) -> None:
        super().__init__()
        self.image_size, self.grid = config.image_size, config.grid
        dim, wide = config.embed_dim, config.mask_channels
        self.pe_layer = RandomPosition(dim // 2)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, dim) for _ in range(4))
        """Negative point, positive point, upper left and lower right corner of a box."""
        self.not_a_point_embed = nn.Embedding(1, dim)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, wide // 4, 2, 2),
            LayerNorm2d(wide // 4),
            nn.GELU(),
            nn.Conv2d(wide // 4, wide, 2, 2),
            LayerNorm2d(wide),
            nn.GELU(),
            nn.Conv2d(wide, dim, 1),
        )
        self.no_mask_embed = nn.Embedding(1, dim)

    def boxes(self, xyxy: Tensor) -> Tensor:
        """(n, 4) pixel positions x, y, x, y in the input image to the corners' embeddings (n, 2, embed_dim)."""
        corners = self.pe_layer((xyxy.reshape(-1, 2, 2) + 0.5) / self.image_size)
        kinds = torch.stack([self._weight(2), self._weight(3)])
        out: Tensor = corners + kinds
        return out

    def points(self, xy: Tensor, positive: Tensor, *, alone: bool) -> Tensor:
        """Pixel positions (n, k, 2) and what they are (n, k, bool) to (n, k or k + 1, embed_dim).

        `alone`: no box goes with them; then SAM adds one embedding that says "no point".
        """
        position = self.pe_layer((xy + 0.5) / self.image_size)
        out: Tensor = position + torch.where(positive[..., None], self._weight(1), self._weight(0))
        if alone:
            nothing: Tensor = self.not_a_point_embed.weight
            out = torch.cat([out, nothing.expand(len(out), 1, -1)], dim=1)
        return out

    def masks(self, logits: Tensor) -> Tensor:
        """(n, 1, 4 · grid, 4 · grid) mask logits to dense embeddings (n, embed_dim, grid, grid)."""
        out: Tensor = self.mask_downscaling(logits)
        return out

    def no_mask(self) -> Tensor:
        """The dense embedding of "no mask", (1, embed_dim, 1, 1); it adds to every pixel alike."""
        return self.no_mask_embed.weight.view(1, -1, 1, 1)

    def grid_positions(self) -> Tensor:
        """The position embedding of the image embedding's pixels, (1, embed_dim, grid, grid)."""
        centres = (torch.arange(self.grid, device=self.no_mask_embed.weight.device) + 0.5) / self.grid
        y, x = torch.meshgrid(centres, centres, indexing="ij")
        out: Tensor = self.pe_layer(torch.stack([x, y], dim=-1)).permute(2, 0, 1)[None]
        return out

    def _weight(self, kind: int) -> Tensor:
        embedding = self.point_embeddings[kind]
        assert isinstance(embedding, nn.Embedding)
        return embedding.weight[0]
