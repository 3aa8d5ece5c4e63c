"""Tiny LiteMedSAM networks for tests."""

from __future__ import annotations

import torch

from r2seg_agent.segment.lite_medsam.config import LiteMedSamConfig
from r2seg_agent.segment.lite_medsam.model import LiteMedSam

TINY = LiteMedSamConfig(
    image_size=64,
    dims=(8, 16, 16, 24),
    depths=(1, 1, 1, 1),
    heads=(1, 2, 2, 3),
    windows=(7, 7, 14, 7),
    embed_dim=32,
    mask_channels=8,
    decoder_heads=4,
    decoder_hidden=32,
)


def random_model(config: LiteMedSamConfig = TINY, seed: int = 3) -> LiteMedSam:
    """Random weights and random running statistics, so that no norm is an identity."""
    model = LiteMedSam(config)
    generator = torch.Generator().manual_seed(seed)
    for name, value in model.state_dict().items():
        if value.dtype == torch.float32:
            noise = torch.randn(value.shape, generator=generator)
            value.copy_(noise.abs() + 0.5 if name.endswith("running_var") else 0.3 * noise)
    return model
