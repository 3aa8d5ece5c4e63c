"""A network over an image larger than its window: nnU-Net's windows and Gaussian weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain, product

import torch
from torch.nn import functional


def sliding_windows(
    image: torch.Tensor,
    window: Sequence[int],
    overlap: float,
    outputs: int,
    ask: Callable[[torch.Tensor], torch.Tensor],
) -> torch.Tensor:
    """(channels, *size) → raw outputs (outputs, *size), Gaussian-weighted where windows overlap; on the CPU.

    `ask` maps one window (channels, *window) to (outputs, *window). An image smaller than the window is filled with 0
    on both sides, as nnU-Net does.
    """
    from nnunetv2.inference.sliding_window_prediction import compute_gaussian, compute_steps_for_sliding_window

    before = [max(0, w - n) // 2 for w, n in zip(window, image.shape[1:], strict=True)]
    after = [max(0, w - n) - b for w, n, b in zip(window, image.shape[1:], before, strict=True)]
    padding = list(chain.from_iterable(zip(reversed(before), reversed(after), strict=True)))
    padded = functional.pad(image, padding)
    size = tuple(padded.shape[1:])
    weight: torch.Tensor = compute_gaussian(
        tuple(window), sigma_scale=1.0 / 8, value_scaling_factor=1.0, dtype=torch.float32, device=torch.device("cpu")
    )
    total = torch.zeros((outputs, *size))
    weights = torch.zeros(size)
    for start in product(*compute_steps_for_sliding_window(size, tuple(window), 1.0 - overlap)):
        at = tuple(slice(s, s + w) for s, w in zip(start, window, strict=True))
        total[(slice(None), *at)] += ask(padded[(slice(None), *at)]) * weight
        weights[at] += weight
    total /= weights
    return total[(slice(None), *(slice(b, b + n) for b, n in zip(before, image.shape[1:], strict=True)))]
