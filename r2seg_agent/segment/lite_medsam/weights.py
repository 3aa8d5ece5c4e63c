"""The released weights of LiteMedSAM as a network that is ready to be asked."""

from __future__ import annotations

from r2seg_agent.segment.lite_medsam import NAME
from r2seg_agent.segment.lite_medsam.model import LiteMedSam


def released_model() -> LiteMedSam:
    """The network with the released weights from the cache, their sha256 checked.

    Raises `MissingDependencyError`, with the command that gets them, when they are missing or damaged.
    """
    import torch

    from r2seg_agent.segment.weights import verify

    return LiteMedSam().load(torch.load(verify(NAME), map_location="cpu", weights_only=True))


def fetch_weights() -> None:
    """Put the released weights into the cache; see `segment.weights.fetch`."""
    from r2seg_agent.segment.weights import fetch

    fetch(NAME)
