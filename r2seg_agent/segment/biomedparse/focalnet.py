"""FocalNet backbone (Yang et al., "Focal Modulation Networks", NeurIPS 2022), as BiomedParse v1 configures it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from r2seg_agent.segment.biomedparse.config import BiomedParseConfig

SMALLEST_WINDOW = 3
"""Kernel of the first focal level; each further level is wider by 2 (3, 5, 7, 9)."""


class Mlp(nn.Module):
    """Linear, exact GELU, linear."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(..., dim) → (..., dim)."""
        out: Tensor = self.fc2(functional.gelu(self.fc1(x)))
        return out


class FocalModulation(nn.Module):
    """q · h(Σ_l gate_l · context_l / (levels + 1)): contexts of growing windows, the last one the mean of the map."""

    def __init__(self, dim: int, levels: int) -> None:
        super().__init__()
        self.levels = levels
        self._parts = [dim, dim, levels + 1]
        self.f = nn.Linear(dim, 2 * dim + levels + 1)
        self.h = nn.Conv2d(dim, dim, 1)
        self.proj = nn.Linear(dim, dim)
        windows = [SMALLEST_WINDOW + 2 * level for level in range(levels)]
        self.focal_layers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(dim, dim, w, padding=w // 2, groups=dim, bias=False), nn.GELU()) for w in windows
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, dim) → (B, H, W, dim)."""
        # One product per part of `f`, not one for all: each result is dense, and the small convolutions read it as it
        # lies (channels last); nothing is split, copied or turned.
        query, context, gates = (
            functional.linear(x, weight, bias)
            for weight, bias in zip(
                torch.split(self.f.weight, self._parts), torch.split(self.f.bias, self._parts), strict=True
            )
        )
        context = context.permute(0, 3, 1, 2)
        gates = gates.permute(0, 3, 1, 2)
        total = torch.zeros_like(context)
        for level, layer in enumerate(self.focal_layers):
            context = layer(context)
            total = torch.addcmul(total, context, gates[:, level : level + 1])
        whole = functional.gelu(context.mean((2, 3), keepdim=True))
        total = torch.addcmul(total, whole, gates[:, self.levels :]) / (self.levels + 1)
        # `h` is a 1×1 convolution: as a product over the last axis its result needs no turning back.
        modulator = functional.linear(total.permute(0, 2, 3, 1), self.h.weight[:, :, 0, 0], self.h.bias)
        out: Tensor = self.proj(query * modulator)
        return out


class FocalBlock(nn.Module):
    """Modulation and MLP, each normed after (post-norm), scaled per channel and added."""

    def __init__(self, dim: int, levels: int, mlp_ratio: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.modulation = FocalModulation(dim, levels)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, mlp_ratio * dim)
        self.gamma_1 = nn.Parameter(torch.ones(dim))
        self.gamma_2 = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, dim) → (B, H, W, dim)."""
        x = torch.addcmul(x, self.gamma_1, self.norm1(self.modulation(x)))
        return torch.addcmul(x, self.gamma_2, self.norm2(self.mlp(x)))


class PatchEmbed(nn.Module):
    """A strided convolution and a LayerNorm: the stem (7×7, stride 4) and the steps between stages (3×3, stride 2)."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int, padding: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels_in, channels_out, kernel, stride, padding)
        self.norm = nn.LayerNorm(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, H / stride, W / stride, C')."""
        out: Tensor = self.norm(self.proj(x).permute(0, 2, 3, 1))
        return out


class FocalStage(nn.Module):
    """Blocks of one resolution, and the step down to the next one (none after the last stage)."""

    def __init__(self, dim: int, depth: int, config: BiomedParseConfig, last: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(FocalBlock(dim, config.focal_levels, config.mlp_ratio) for _ in range(depth))
        self.downsample = None if last else PatchEmbed(dim, 2 * dim, kernel=3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """The blocks only, (B, H, W, dim)."""
        for block in self.blocks:
            x = block(x)
        return x


class FocalNet(nn.Module):
    """Four stages; the map of each, normed, is an output."""

    def __init__(self, config: BiomedParseConfig) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(3, config.embed_dim, kernel=7, stride=4, padding=2)
        self.layers = nn.ModuleList(
            FocalStage(dim, depth, config, last=n == len(config.depths) - 1)
            for n, (dim, depth) in enumerate(zip(config.channels, config.depths, strict=True))
        )
        self.norm0, self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(dim) for dim in config.channels)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Normalised (B, 3, H, W), H and W multiples of 32 → maps (B, C, H / s, W / s) at strides s = 4, 8, 16, 32."""
        maps: list[Tensor] = []
        x: Tensor = self.patch_embed(image)
        for stage, norm in zip(self.layers, (self.norm0, self.norm1, self.norm2, self.norm3), strict=True):
            x = stage(x)
            maps.append(norm(x).permute(0, 3, 1, 2))
            if isinstance(stage.downsample, PatchEmbed):
                x = stage.downsample(x.permute(0, 3, 1, 2))
        return (maps[0], maps[1], maps[2], maps[3])
