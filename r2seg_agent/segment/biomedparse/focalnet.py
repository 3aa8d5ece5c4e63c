"""FocalNet backbone (Yang et al., "Focal Modulation Networks", NeurIPS 2022), as BiomedParse v1 configures it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from r2seg_agent.segment.biomedparse.config import BiomedParseConfig
from r2seg_agent.segment.biomedparse.products import (
    MAP_BYTES,
    RowProduct,
    autocast_dtype,
    row_product,
    rows_at_once,
)

SMALLEST_WINDOW = 3
"""Kernel of the first focal level; each further level is wider by 2 (3, 5, 7, 9)."""


class Mlp(nn.Module):
    """Linear, exact GELU, linear."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def ready(self, rows: int) -> RowProduct:
        """The map from (rows, dim) to (rows, dim), for many calls."""
        first = row_product(self.fc1.weight, self.fc1.bias, rows, gelu=True)
        second = row_product(self.fc2.weight, self.fc2.bias, rows)
        return lambda x: second(first(x))


class FocalModulation(nn.Module):
    """q · h(Σ_l gate_l · context_l / (levels + 1)): contexts of growing windows, the last one the mean of the map."""

    def __init__(self, dim: int, levels: int) -> None:
        super().__init__()
        self.dim, self.levels = dim, levels
        self.f = nn.Linear(dim, 2 * dim + levels + 1)
        self.h = nn.Conv2d(dim, dim, 1)
        self.proj = nn.Linear(dim, dim)
        windows = [SMALLEST_WINDOW + 2 * level for level in range(levels)]
        self.focal_layers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(dim, dim, w, padding=w // 2, groups=dim, bias=False), nn.GELU()) for w in windows
        )

    def context(self, x: Tensor) -> Tensor:
        """The gated mean of the contexts, (B, H, W, dim) → (B, H, W, dim).

        No context needs another channel's: on CPU they are made for as many channels at once as stay in the cache.
        """
        if x.device.type == "cpu" and len(x) > 1:
            return torch.cat([self.context(item) for item in torch.split(x, 1)])
        gates = self._part(x, slice(2 * self.dim, None)).permute(0, 3, 1, 2) / (self.levels + 1)
        width = self.dim
        while x.device.type == "cpu" and width % 32 == 0 and 4 * width * x.shape[1] * x.shape[2] > MAP_BYTES:
            width //= 2
        parts = [self._context(x, gates, slice(c, c + width)) for c in range(0, self.dim, width)]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)

    def _context(self, x: Tensor, gates: Tensor, channels: slice) -> Tensor:
        """`context` of some channels, (B, H, W, n). A linear map's result is read by convolutions as it lies."""
        context = self._part(x, slice(self.dim + channels.start, self.dim + channels.stop)).permute(0, 3, 1, 2)
        total: Tensor | None = None
        for level, layer in enumerate(self.focal_layers):
            kernel = layer.get_parameter("0.weight")[channels]
            context = functional.conv2d(context, kernel, padding=kernel.shape[-1] // 2, groups=len(kernel))
            torch.ops.aten.gelu_(context)
            gate = gates[:, level : level + 1]
            total = context * gate if total is None else total.addcmul_(context, gate)
        whole = functional.gelu(context.mean((2, 3), keepdim=True)) * gates[:, self.levels :]
        return (whole if total is None else total.add_(whole)).permute(0, 2, 3, 1)

    def _part(self, x: Tensor, rows: slice) -> Tensor:
        return functional.linear(x, self.f.weight[rows], self.f.bias[rows])

    def ready(self, rows: int) -> Callable[[Tensor, Tensor], Tensor]:
        """The map from (rows, dim) of the input and of `context` to (rows, dim), for many calls."""
        query = row_product(self.f.weight[: self.dim], self.f.bias[: self.dim], rows)
        modulator = row_product(self.h.weight[:, :, 0, 0], self.h.bias, rows)
        out = row_product(self.proj.weight, self.proj.bias, rows)
        return lambda x, context: out(query(x).mul_(modulator(context)))


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
        """(B, H, W, dim), dense, changed in place. But for the contexts no pixel needs another: they go in blocks."""
        # In half precision three products read the input: it is converted once.
        seen = x.to(autocast_dtype(x.device) or x.dtype)
        contexts = self.modulation.context(seen).flatten(0, 2)
        pixels, seen = x.view(-1, x.shape[-1]), seen.view(-1, x.shape[-1])
        step = rows_at_once(len(pixels), self.mlp.fc1.out_features, x.device)
        modulation, mlp = self.modulation.ready(step), self.mlp.ready(step)
        for start in range(0, len(pixels), step):
            rows = slice(start, start + step)
            block = pixels[rows]
            block.addcmul_(self.gamma_1, self.norm1(modulation(seen[rows], contexts[rows])))
            block.addcmul_(self.gamma_2, self.norm2(mlp(block)))
        return x


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
        """The blocks only, (B, H, W, dim), in place."""
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
