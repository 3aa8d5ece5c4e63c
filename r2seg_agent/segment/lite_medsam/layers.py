"""Layers that several parts of LiteMedSAM share."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional


class ConvNorm(nn.Module):
    """A convolution without bias, then batch norm; `fold` makes one convolution of both."""

    def __init__(self, inputs: int, outputs: int, size: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.c = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
        self.bn: nn.Module = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, inputs, height, width) to (batch, outputs, height / stride, width / stride)."""
        out: Tensor = self.bn(self.c(x))
        return out

    def fold(self) -> None:
        """Put the norm's fixed scale and shift into the convolution; the answers stay the same up to rounding."""
        norm = self.bn
        if not isinstance(norm, nn.BatchNorm2d):
            return
        assert norm.running_mean is not None
        assert norm.running_var is not None
        with torch.no_grad():
            scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
            self.c.weight.mul_(scale[:, None, None, None])
            self.c.bias = nn.Parameter(norm.bias - norm.running_mean * scale, requires_grad=False)
        self.bn = nn.Identity()


class LayerNorm2d(nn.Module):
    """Layer norm over the channels of (batch, channels, height, width); eps 1e-6 as in SAM."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Same shape; normalised at each pixel."""
        last = x.permute(0, 2, 3, 1)
        return functional.layer_norm(last, (last.shape[-1],), self.weight, self.bias, self.eps).permute(0, 3, 1, 2)


class Mlp(nn.Module):
    """Linear layers with ReLU between them."""

    def __init__(self, inputs: int, hidden: int, outputs: int, depth: int) -> None:
        super().__init__()
        widths = [inputs, *[hidden] * (depth - 1), outputs]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        """(…, inputs) to (…, outputs)."""
        for index, layer in enumerate(self.layers):
            x = layer(x)
            if index + 1 < len(self.layers):
                x = functional.relu(x)
        return x
