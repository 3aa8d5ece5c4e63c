"""Multi-head attention with the parameter names of `torch.nn.MultiheadAttention`, and the sine position code."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from r2seg_agent.segment.biomedparse.products import by_blocks

TEMPERATURE = 10000.0
MANY_ROWS = 4096
"""From here on packing the weights pays."""


class Attention(nn.Module):
    """Batch first. Projections are exposed, so that keys and values of one image serve the queries of many prompts."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.dim, self.heads = dim, heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim))
        self.out_proj = nn.Linear(dim, dim)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, allowed: Tensor | None = None, causal: bool = False
    ) -> Tensor:
        """(B, N, dim), (B, M, dim), (B, M, dim) → (B, N, dim).

        `allowed` is boolean, broadcastable to (B, heads, N, M): True where a query may look. `causal`: a position
        looks at itself and those before it.
        """
        q, k, v = (self._project(x, part) for part, x in enumerate((query, key, value)))
        out = functional.scaled_dot_product_attention(q, k, v, attn_mask=allowed, is_causal=causal)
        joined: Tensor = self.out_proj(out.transpose(1, 2).flatten(2))
        return joined

    def _project(self, x: Tensor, part: int) -> Tensor:
        rows = slice(part * self.dim, (part + 1) * self.dim)
        weight, bias = self.in_proj_weight[rows], self.in_proj_bias[rows]
        if len(x) == 1 and x.shape[1] >= MANY_ROWS:
            y = by_blocks(x[0], weight, bias)[None]
        else:
            y = functional.linear(x, weight, bias)
        return y.view(*y.shape[:2], self.heads, self.dim // self.heads).transpose(1, 2)


def sine_position(height: int, width: int, dim: int, device: torch.device) -> Tensor:
    """(height · width, dim) float32, the two-dimensional sine code of DETR, coordinates scaled to 0 … 2π.

    The first half of the channels codes y, the second x; sine and cosine take turns.
    """
    half = dim // 2
    step = torch.arange(half, dtype=torch.float32, device=device)
    frequency = TEMPERATURE ** (2 * torch.div(step, 2, rounding_mode="floor") / half)

    def coded(length: int) -> Tensor:
        place = torch.arange(1, length + 1, dtype=torch.float32, device=device)
        angle = (place / (place[-1:] + 1e-6) * (2 * math.pi))[:, None] / frequency
        return torch.stack((angle[:, 0::2].sin(), angle[:, 1::2].cos()), dim=2).flatten(1)

    y = coded(height)[:, None, :].expand(height, width, half)
    x = coded(width)[None, :, :].expand(height, width, half)
    return torch.cat((y, x), dim=2).flatten(0, 1)
