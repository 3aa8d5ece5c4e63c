"""A BiomedParse of few channels and layers, with made-up weights."""

from __future__ import annotations

import pytest
import torch

from r2seg_agent.segment.biomedparse.config import BiomedParseConfig
from r2seg_agent.segment.biomedparse.model import BiomedParse
from r2seg_agent.segment.biomedparse.recipe import fill_with_made_up_weights

TINY = BiomedParseConfig(
    image_size=64,
    embed_dim=8,
    depths=(1, 1, 1, 1),
    dim=32,
    heads=4,
    feedforward=64,
    norm_groups=8,
    encoder_layers=1,
    queries=7,
    decoder_layers=4,
    text_layers=2,
)


@pytest.fixture(scope="session")
def tiny_config() -> BiomedParseConfig:
    return TINY


@pytest.fixture(scope="session")
def tiny() -> BiomedParse:
    model = BiomedParse(TINY).eval().requires_grad_(False)
    fill_with_made_up_weights(model)
    return model


@pytest.fixture(scope="session")
def image() -> torch.Tensor:
    """(3, 64, 96): not square, so that no axes can be mixed up."""
    return torch.rand((3, 64, 96), generator=torch.Generator().manual_seed(3)) * 255
