"""A stand-in for the network's class of the package `voxtell` 0.1.2: its names, signature and tensors by name.

What it finds is said by the text: a vector (sign, threshold, …) marks where sign · image is above the threshold.
`test_voxtell.py` holds the signature against the real package where that is installed, and runs on it too.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

CHANNELS = (32, 64, 128, 256, 320, 320)


class VoxTellModel(nn.Module):
    DECODER_CONFIGS = {n: {"channels": c} for n, c in enumerate(CHANNELS)}  # noqa: RUF012 - the package's own form

    def __init__(
        self,
        input_channels: int,
        n_stages: int,
        features_per_stage: Any,
        conv_op: Any,
        kernel_sizes: Any,
        strides: Any,
        n_blocks_per_stage: Any,
        n_conv_per_stage_decoder: Any,
        conv_bias: bool = False,
        norm_op: Any = None,
        norm_op_kwargs: Any = None,
        dropout_op: Any = None,
        dropout_op_kwargs: Any = None,
        nonlin: Any = None,
        nonlin_kwargs: Any = None,
        deep_supervision: bool = False,
        block: Any = None,
        bottleneck_channels: Any = None,
        stem_channels: Any = None,
        num_maskformer_stages: int = 5,
        query_dim: int = 864,
        decoder_layer: int = 4,
        text_embedding_dim: int = 1024,
        num_heads: int = 1,
        project_to_decoder_hidden_dim: int = 432,
    ) -> None:
        super().__init__()
        assert conv_op is nn.Conv3d
        assert nonlin is None or issubclass(nonlin, nn.Module)
        self.project_bottleneck_embed = nn.Sequential(
            nn.Linear(CHANNELS[decoder_layer], query_dim), nn.GELU(), nn.Linear(query_dim, query_dim)
        )
        self.project_text_embed = nn.Sequential(nn.Linear(text_embedding_dim, 8), nn.GELU(), nn.Linear(8, query_dim))
        self.project_to_decoder_channels = nn.ModuleList(
            nn.Sequential(
                nn.Linear(query_dim, project_to_decoder_hidden_dim),
                nn.GELU(),
                nn.Linear(project_to_decoder_hidden_dim, CHANNELS[n] * (num_heads if n else 1)),
            )
            for n in range(num_maskformer_stages)
        )

    def forward(self, img: torch.Tensor, text_embedding: torch.Tensor | None = None) -> torch.Tensor:
        assert text_embedding is not None
        sign, threshold = (text_embedding[:, :, n, None, None, None] for n in (0, 1))
        return 8.0 * (sign * img - threshold)


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the stand-in where the package would be."""
    modules = {name: ModuleType(name) for name in ("voxtell", "voxtell.model", "voxtell.model.voxtell_model")}
    modules["voxtell.model.voxtell_model"].VoxTellModel = VoxTellModel  # type: ignore[attr-defined]
    for name, module in modules.items():
        module.__spec__ = ModuleSpec(name, None)
        module.__path__ = []
        monkeypatch.setitem(sys.modules, name, module)
