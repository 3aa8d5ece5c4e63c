"""Pixel decoder: a transformer on the coarsest map, then a feature pyramid down to stride 4."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from r2seg_agent.segment.biomedparse.attention import Attention, sine_position
from r2seg_agent.segment.biomedparse.config import BiomedParseConfig


class ConvNorm(nn.Conv2d):
    """A convolution without bias, then GroupNorm."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, groups: int) -> None:
        super().__init__(channels_in, channels_out, kernel, padding=kernel // 2, bias=False)
        self.norm = nn.GroupNorm(groups, channels_out)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C', H, W)."""
        out: Tensor = self.norm(super().forward(x))
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
        out: Tensor = self.norm2(x + self.linear2(F.relu(self.linear1(x))))
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
        _, dim, height, width = x.shape
        position = sine_position(height, width, dim, x.device)
        tokens = x.flatten(2).transpose(1, 2)
        for layer in self.encoder.layers:
            tokens = layer(tokens, position)
        return tokens.transpose(1, 2).unflatten(2, (height, width))


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
        """`maps` at strides 4, 8, 16, 32 → mask features at stride 4 and the maps at strides 32, 16, 8."""
        res2, res3, res4, res5 = maps
        p5 = F.relu(self.layer_4(self.transformer(self.input_proj(res5))))
        p4 = F.relu(self.layer_3(self.adapter_3(res4) + _doubled(p5)))
        p3 = F.relu(self.layer_2(self.adapter_2(res3) + _doubled(p4)))
        p2 = F.relu(self.layer_1(self.adapter_1(res2) + _doubled(p3)))
        return self.mask_features(p2), (p5, p4, p3)


def _doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")
