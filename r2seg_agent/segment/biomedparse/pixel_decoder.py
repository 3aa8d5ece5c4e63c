"""Pixel decoder: a transformer on the coarsest map, then a feature pyramid down to stride 4."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from r2seg_agent.segment.biomedparse.attention import Attention, sine_position
from r2seg_agent.segment.biomedparse.config import BiomedParseConfig
from r2seg_agent.segment.biomedparse.products import row_product
from r2seg_agent.segment.biomedparse.winograd import conv3x3, saves

WINDOWS_AT_ONCE = 1024
"""3×3 windows of 512 channels that are copied together: 19 MB."""


class ConvNorm(nn.Conv2d):
    """A convolution without bias, then GroupNorm."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, groups: int) -> None:
        super().__init__(channels_in, channels_out, kernel, padding=kernel // 2, bias=False)
        self.norm = nn.GroupNorm(groups, channels_out)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C', H, W)."""
        wide = self.kernel_size == (3, 3)
        out: Tensor = self.norm(conv3x3(x, self.weight) if wide and saves(x) else super().forward(x))
        return out


class EncoderLayer(nn.Module):
    """Post-norm self-attention and feed-forward; the position code goes to queries and keys only."""

    def __init__(self, dim: int, heads: int, feedforward: int) -> None:
        super().__init__()
        self.self_attn = Attention(dim, heads)
        self.linear1 = nn.Linear(dim, feedforward)
        self.linear2 = nn.Linear(feedforward, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        """(B, N, dim) and (N, dim) → (B, N, dim)."""
        placed = x + position
        x = self.norm1(x + self.self_attn(placed, placed, x))
        out: Tensor = self.norm2(x + self.linear2(functional.relu(self.linear1(x))))
        return out


class Encoder(nn.Module):
    """The layers, under the name the checkpoint gives them."""

    def __init__(self, config: BiomedParseConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            EncoderLayer(config.dim, config.heads, config.feedforward) for _ in range(config.encoder_layers)
        )


class EncoderOnly(nn.Module):
    """The transformer over one map."""

    def __init__(self, config: BiomedParseConfig) -> None:
        super().__init__()
        self.encoder = Encoder(config)

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim, H, W) → (B, dim, H, W)."""
        batch, dim, height, width = x.shape
        position = sine_position(height, width, dim, x.device)
        tokens = x.flatten(2).transpose(1, 2)
        for layer in self.encoder.layers:
            tokens = layer(tokens, position)
        return tokens.transpose(1, 2).reshape(batch, dim, height, width)


class PixelDecoder(nn.Module):
    """Backbone maps → per-pixel features of one width."""

    def __init__(self, config: BiomedParseConfig) -> None:
        super().__init__()
        dim, groups = config.dim, config.norm_groups
        c2, c3, c4, c5 = config.channels
        self.input_proj = nn.Conv2d(c5, dim, 1)
        self.transformer = EncoderOnly(config)
        self.adapter_1 = ConvNorm(c2, dim, 1, groups)
        self.adapter_2 = ConvNorm(c3, dim, 1, groups)
        self.adapter_3 = ConvNorm(c4, dim, 1, groups)
        self.layer_1 = ConvNorm(dim, dim, 3, groups)
        self.layer_2 = ConvNorm(dim, dim, 3, groups)
        self.layer_3 = ConvNorm(dim, dim, 3, groups)
        self.layer_4 = ConvNorm(dim, dim, 3, groups)
        self.mask_features = nn.Conv2d(dim, dim, 3, padding=1)

    def forward(self, maps: tuple[Tensor, Tensor, Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        """`maps` at strides 4, 8, 16, 32 → the finest map, at stride 4, and those at strides 32, 16, 8."""
        res2, res3, res4, res5 = maps
        p5 = functional.relu_(self.layer_4(self.transformer(self.input_proj(res5))))
        p4 = functional.relu_(self.layer_3(_plus_doubled(self.adapter_3(res4), p5)))
        p3 = functional.relu_(self.layer_2(_plus_doubled(self.adapter_2(res3), p4)))
        p2 = functional.relu_(self.layer_1(_plus_doubled(self.adapter_1(res2), p3)))
        return p2, (p5, p4, p3)

    def small_mask_features(self, finest: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`mask_features(finest)` resized bilinearly to strides 32, 16, 8, without computing it at stride 4.

        Halving, quartering … a map bilinearly is the mean of the 2×2 pixels at each target's centre. Means and the
        convolution commute: take the 2×2 means first, and convolve only at the centres (a third of the work).
        """
        conv = self.mask_features
        means = functional.avg_pool2d(finest, 2, stride=1, padding=1)  # one row and column more: starts at -1
        coarse, middle, fine = (
            _strided(means[:, :, step // 2 - 1 :, step // 2 - 1 :], conv, step) for step in (8, 4, 2)
        )
        return (coarse, middle, fine)

    def mask_logits(self, finest: Tensor, embeddings: Tensor) -> Tensor:
        """Products of mask embeddings (P, dim) with `mask_features(finest)`, (dim, h, w) → (P, h, w).

        The product with the convolution's weights comes first: one output channel per mask instead of `dim`. What each
        pixel then adds to its nine neighbours is one product for all; `fold` adds it up, from the turned kernel.
        """
        conv = self.mask_features
        kernels = torch.einsum("pc,cdk->pkd", embeddings, conv.weight.flatten(2).flip(2)).flatten(0, 1)
        spread = kernels @ finest.flatten(1)
        logits = functional.fold(spread[None], finest.shape[1:], kernel_size=3, padding=1)[0]
        return logits if conv.bias is None else logits + (embeddings @ conv.bias)[:, None, None]


def _strided(x: Tensor, conv: nn.Conv2d, step: int) -> Tensor:
    """A 3×3 convolution at every `step`-th pixel; on CPU as a product, which copies few windows and not all of `x`."""
    if x.device.type != "cpu":
        return functional.conv2d(x, conv.weight, conv.bias, stride=step)
    windows = x.unfold(2, 3, step).unfold(3, 3, step).permute(0, 2, 3, 4, 5, 1)
    batch, height, width = windows.shape[:3]
    rows = max(1, WINDOWS_AT_ONCE // width)
    product = row_product(conv.weight.permute(0, 2, 3, 1).flatten(1), conv.bias, rows * width)
    parts = [
        product(windows[n, top : top + rows].reshape(-1, 9 * x.shape[1]))
        for n in range(batch)
        for top in range(0, height, rows)
    ]
    return torch.cat(parts).view(batch, height, width, -1).permute(0, 3, 1, 2)


def _plus_doubled(fine: Tensor, coarse: Tensor) -> Tensor:
    """`fine` (B, C, 2h, 2w) plus nearest-upsampled `coarse` (B, C, h, w), in place."""
    batch, dim, height, width = coarse.shape
    quads = fine.view(batch, dim, height, 2, width, 2)
    quads.add_(coarse[:, :, :, None, :, None])
    return fine
