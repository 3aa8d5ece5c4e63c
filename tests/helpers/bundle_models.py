"""Tiny bundles for tests: one network, exported in each of the three formats, with its manifest."""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

FILES = {"torchscript": "network.pt", "torch.export": "network.pt2", "onnx": "network.onnx"}


class TinyNet(nn.Module):
    """Two convolutions; `ndim` 2 or 3."""

    def __init__(self, channels: int = 2, classes: int = 3, ndim: int = 3, seed: int = 5) -> None:
        super().__init__()
        conv = nn.Conv3d if ndim == 3 else nn.Conv2d
        self.first, self.second = conv(channels, 4, 3, padding=1), conv(4, classes, 1)
        generator = torch.Generator().manual_seed(seed)
        for value in self.state_dict().values():
            value.copy_(0.5 * torch.randn(value.shape, generator=generator))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(torch.relu(self.first(x)))


class Pointwise(nn.Module):
    """Logit of the only class: gain · (x − threshold) of the first channel, voxel by voxel."""

    def __init__(self, threshold: float, gain: float) -> None:
        super().__init__()
        self.threshold, self.gain = threshold, gain

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.gain * (x[:, :1] - self.threshold)


def export(network: nn.Module, example: torch.Tensor, format: str, path: Path) -> None:
    """Write the network in one of the three formats."""
    network.eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if format == "torchscript":
            torch.jit.save(torch.jit.trace(network, example), path)
        elif format == "torch.export":
            torch.export.save(torch.export.export(network, (example,)), path)
        else:
            torch.onnx.export(network, (example,), path, dynamo=False, input_names=["x"], output_names=["y"])


def write_bundle(folder: Path, network: nn.Module, format: str = "torchscript", **changes: Any) -> Path:
    """A bundle folder; `changes` are fields of the manifest."""
    folder.mkdir(parents=True)
    manifest: dict[str, Any] = {
        "r2seg_bundle": 1,
        "name": "tiny",
        "version": "1",
        "licence": "Apache-2.0",
        "format": format,
        "file": FILES[format],
        "modalities": ["CT"],
        "ndim": 3,
        "input_size": [16, 16, 16],
        "channels": [{"name": "CT", "normalisation": {"kind": "window", "low": -100, "high": 300}}],
        "classes": [{"name": "liver tumor"}],
        "activation": "sigmoid",
        **changes,
    }
    path = folder / manifest["file"]
    export(network, torch.zeros(1, len(manifest["channels"]), *manifest["input_size"]), format, path)
    manifest.setdefault("sha256", hashlib.sha256(path.read_bytes()).hexdigest())
    (folder / "bundle.json").write_text(json.dumps(manifest))
    return folder
