"""A slice as LiteMedSAM sees it, and its answers back on the pixels of the slice."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

PlaneBox = tuple[int, int, int, int]
"""y0, x0, y1, x1: pixels y0 <= y < y1, x0 <= x < x1 of a slice."""


@dataclass(frozen=True)
class Frame:
    """A slice of `height` × `width` pixels, resized so that its longest side has `size`, padded below and right."""

    height: int
    width: int
    size: int

    @property
    def ratio(self) -> float:
        """Pixels of the network's input per pixel of the slice."""
        return self.size / max(self.height, self.width)

    @property
    def inner(self) -> tuple[int, int]:
        """Height and width of the resized slice inside the padded square."""
        return (max(1, int(self.height * self.ratio + 0.5)), max(1, int(self.width * self.ratio + 0.5)))

    def image(self, pixels: NDArray[np.float32]) -> Tensor:
        """(height, width) or (height, width, 3), values 0 … 1, to (1, 3, size, size), zeros in the padding.

        Grey becomes three equal channels; colours stay red, green, blue.
        """
        if pixels.ndim == 2:
            return self.resized(pixels).expand(1, 3, -1, -1)
        return torch.cat([self.resized(pixels[..., n]) for n in range(3)], dim=1)

    def resized(self, plane: NDArray[np.float32]) -> Tensor:
        """(height, width), values 0 … 1, to (1, 1, size, size), zeros in the padding."""
        whole = torch.from_numpy(np.ascontiguousarray(plane))[None, None]
        # Antialiased: shrinking averages over the pixels that it merges, as the area resize of the training code does.
        inner = functional.interpolate(whole, size=self.inner, mode="bilinear", align_corners=False, antialias=True)
        padded = functional.pad(inner, (0, self.size - self.inner[1], 0, self.size - self.inner[0]))
        return padded.clamp_(0.0, 1.0)

    def xyxy(self, box: PlaneBox) -> list[float]:
        """The outer edges of `box` as x, y, x, y in pixels of the network's input."""
        y0, x0, y1, x1 = box
        return [x0 * self.ratio, y0 * self.ratio, x1 * self.ratio, y1 * self.ratio]

    def cells(self, near: tuple[slice, slice], grid: int) -> tuple[slice, slice]:
        """Rows and columns of a `grid` × `grid` embedding that the answer inside `near` of the slice depends on."""
        per_cell = self.size / grid
        found = []
        for part in near:
            # Two more pixels of the network to each side: resizing interpolates between neighbours.
            first = math.floor((part.start * self.ratio - 2.0) / per_cell)
            last = math.ceil((part.stop * self.ratio + 2.0) / per_cell)
            found.append(slice(max(0, first), min(grid, last)))
        return (found[0], found[1])

    def probability(self, logits: Tensor) -> NDArray[np.float32]:
        """(n, size, size) logits to probabilities (n, height, width): padding cut off, resized, then the sigmoid."""
        inner = logits[:, None, : self.inner[0], : self.inner[1]].float()
        full = functional.interpolate(inner, size=(self.height, self.width), mode="bilinear", align_corners=False)
        out: NDArray[Any] = torch.sigmoid(full[:, 0]).cpu().numpy()
        return out.astype(np.float32, copy=False)
