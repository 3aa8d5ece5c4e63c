"""Made-up weights and images: no release can be downloaded here, and speed does not depend on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from r2seg_agent.segment.biomedparse.model import BiomedParse
from r2seg_agent.segment.biomedparse.recipe import fill_with_made_up_weights

SIZE = 1024
PROMPTS = tuple(
    f"{target} in {site}"
    for site in ("liver CT", "left kidney CT", "pancreas CT", "lung CT", "brain MRI-FLAIR")
    for target in ("tumor", "cyst", "metastasis", "vessel")
)


def made_up_biomedparse() -> BiomedParse:
    """The released size, 341 M parameters, by the recipe of the golden tests."""
    with torch.device("meta"):
        empty = BiomedParse()
    model = empty.to_empty(device="cpu").eval().requires_grad_(False)
    fill_with_made_up_weights(model)
    return model


def write_made_up_weights(path: Path) -> None:
    """A file as the released one is: 1.4 GB."""
    torch.save(dict(made_up_biomedparse().state_dict()), path)


def made_up_slices(count: int, size: int = SIZE) -> NDArray[np.uint8]:
    """(count, size, size): a body, an organ that moves from slice to slice, noise."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    slices = []
    for n in range(count):
        body = ((x / 0.8) ** 2 + (y / 0.6) ** 2 < 1) * 120.0
        organ = ((x - 0.4 * np.sin(n)) ** 2 + (y + 0.1) ** 2 < 0.05) * 60.0
        slices.append(np.clip(body + organ + rng.normal(0, 8, (size, size)), 0, 255).astype(np.uint8))
    return np.stack(slices)
