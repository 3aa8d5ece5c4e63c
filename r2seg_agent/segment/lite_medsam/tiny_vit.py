"""The image encoder: TinyViT (Wu et al., ECCV 2022) with the patch embedding and strides of LiteMedSAM."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional

from r2seg_agent.segment.lite_medsam.config import LiteMedSamConfig
from r2seg_agent.segment.lite_medsam.layers import ConvNorm, LayerNorm2d


class PatchEmbed(nn.Module):
    """Two 1×1 convolutions: LiteMedSAM starts at full resolution."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.seq = nn.Sequential(ConvNorm(3, dim // 2), nn.GELU(), ConvNorm(dim // 2, dim))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, 3, height, width) to (batch, dim, height, width)."""
        out: Tensor = self.seq(x)
        return out


STRIP_ROWS = 32
"""The widened image of a block at full resolution is 67 MB: computed in strips of rows it stays in the caches."""


class MBConv(nn.Module):
    """Inverted bottleneck: widen, depthwise 3×3, narrow, add; GELU after each, the last after the sum."""

    def __init__(self, dim: int, expand: int) -> None:
        super().__init__()
        hidden = dim * expand
        self.conv1 = ConvNorm(dim, hidden)
        self.conv2 = ConvNorm(hidden, hidden, 3, groups=hidden)
        self.conv3 = ConvNorm(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Same shape, (batch, dim, height, width)."""
        height = x.shape[2]
        strips = []
        for start in range(0, height, STRIP_ROWS):
            stop = min(height, start + STRIP_ROWS)
            # The 3×3 needs one row more to each side; its zero padding serves the image's own edges.
            first, last = max(0, start - 1), min(height, stop + 1)
            inner = functional.gelu(self.conv1(x[:, :, first:last]))
            inner = functional.gelu(self.conv2(inner))[:, :, start - first : stop - first]
            strips.append(functional.gelu(self.conv3(inner) + x[:, :, start:stop]))
        return torch.cat(strips, dim=2)


class PatchMerging(nn.Module):
    """Between two stages: to the next width, and with stride 2 to half the grid."""

    def __init__(self, dim: int, out_dim: int, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(dim, out_dim)
        self.conv2 = ConvNorm(out_dim, out_dim, 3, stride, groups=out_dim)
        self.conv3 = ConvNorm(out_dim, out_dim)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, dim, height, width) to (batch, out_dim, height / stride, width / stride)."""
        x = functional.gelu(self.conv1(x))
        out: Tensor = self.conv3(functional.gelu(self.conv2(x)))
        return out


class WindowAttention(nn.Module):
    """Attention among the pixels of a square window, with a learned bias per head and absolute offset."""

    bias_index: Tensor

    def __init__(self, dim: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        # The checkpoint numbers the offsets (|Δy|, |Δx|) in the order in which row-by-row pixels meet them first.
        points = list(itertools.product(range(window), range(window)))
        offsets = [(abs(a[0] - b[0]), abs(a[1] - b[1])) for a in points for b in points]
        numbers = {offset: number for number, offset in enumerate(dict.fromkeys(offsets))}
        index = torch.tensor([numbers[offset] for offset in offsets]).view(len(points), len(points))
        self.attention_biases = nn.Parameter(torch.zeros(heads, len(numbers)))
        self.register_buffer("bias_index", index, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Same shape, (windows, window², dim)."""
        n, length, dim = x.shape
        # In the checkpoint each head's query, key and value lie together.
        qkv = self.qkv(self.norm(x)).view(n, length, self.heads, 3, dim // self.heads).permute(3, 0, 2, 1, 4)
        # Four axes: with three, attention takes a slow path on CPU.
        bias = self.attention_biases[None, :, self.bias_index].to(x.dtype)
        mixed = functional.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2], attn_mask=bias)
        out: Tensor = self.proj(mixed.transpose(1, 2).reshape(n, length, dim))
        return out


class TokenMlp(nn.Module):
    """Layer norm, then two linear layers with GELU between them."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Same shape, (…, dim)."""
        out: Tensor = self.fc2(functional.gelu(self.fc1(self.norm(x))))
        return out


class TinyViTBlock(nn.Module):
    """Window attention, a depthwise 3×3 convolution, then the token MLP."""

    def __init__(self, dim: int, heads: int, window: int, expand: int) -> None:
        super().__init__()
        self.window = window
        self.attn = WindowAttention(dim, heads, window)
        self.mlp = TokenMlp(dim, dim * expand)
        self.local_conv = ConvNorm(dim, dim, 3, groups=dim)

    def forward(self, x: Tensor) -> Tensor:
        """Same shape, (batch, dim, height, width)."""
        x = x + self._attended(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        x = self.local_conv(x)
        out: Tensor = x + self.mlp(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return out

    def _attended(self, x: Tensor) -> Tensor:
        """(batch, height, width, dim): zero-padded below and on the right to whole windows, as in training."""
        b, height, width, dim = x.shape
        w = self.window
        x = functional.pad(x, (0, 0, 0, -width % w, 0, -height % w))
        rows, columns = x.shape[1] // w, x.shape[2] // w
        x = x.view(b, rows, w, columns, w, dim).transpose(2, 3).reshape(b * rows * columns, w * w, dim)
        x = self.attn(x)
        x = x.view(b, rows, columns, w, w, dim).transpose(2, 3).reshape(b, rows * w, columns * w, dim)
        return x[:, :height, :width]


class Stage(nn.Module):
    """Blocks at one resolution, then the step to the next one (none after the last)."""

    def __init__(self, blocks: list[nn.Module], downsample: PatchMerging | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width), both as the blocks and the step make them."""
        for block in self.blocks:
            x = block(x)
        return x if self.downsample is None else self.downsample(x)


class TinyViT(nn.Module):
    """(batch, 3, size, size), values 0 … 1, to the image embedding (batch, embed_dim, grid, grid)."""

    def __init__(self, config: LiteMedSamConfig) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(config.dims[0])
        stages = []
        for number, (dim, depth) in enumerate(zip(config.dims, config.depths, strict=True)):
            blocks: list[nn.Module] = [
                TinyViTBlock(dim, config.heads[number], config.windows[number], config.expand)
                if number
                else MBConv(dim, config.expand)
                for _ in range(depth)
            ]
            last = number + 1 == len(config.dims)
            step = None if last else PatchMerging(dim, config.dims[number + 1], config.strides[number])
            stages.append(Stage(blocks, step))
        self.layers = nn.ModuleList(stages)
        self.neck = nn.Sequential(
            nn.Conv2d(config.dims[-1], config.embed_dim, 1, bias=False),
            LayerNorm2d(config.embed_dim),
            nn.Conv2d(config.embed_dim, config.embed_dim, 3, padding=1, bias=False),
            LayerNorm2d(config.embed_dim),
        )

    def forward(self, x: Tensor) -> Tensor:
        """The image embedding; see the class."""
        x = self.patch_embed(x)
        for stage in self.layers:
            x = stage(x)
        out: Tensor = self.neck(x)
        return out
