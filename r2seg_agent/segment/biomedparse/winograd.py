"""3×3 convolution by Winograd's minimal filtering F(4×4, 3×3) (Lavin and Gray 2016): a quarter of the products.

On CPU the pyramid's 3×3 convolutions of 512 channels are a fifth of the encoder's arithmetic. The interpolation points
0, ±3/4, ±3/2, ∞ round a third as much as the usual 0, ±1, ±2, ∞: the largest float32 error with 512 channels is 6e-6 at
values of about 1, and the distance of the whole network to the golden masks does not change.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from r2seg_agent.segment.biomedparse.products import autocast_dtype

POINTS = (0.0, 0.75, -0.75, 1.5, -1.5)
TILE = 4
WINDOW = TILE + 2
TILE_ROWS = 2
"""Rows of tiles at once: few enough for the cache, enough for the products' speed."""
FEWEST_TILES = 256
"""With fewer, preparing the weights costs more than is saved."""


def saves(x: Tensor) -> bool:
    """Whether `conv3x3` is the faster way for `x` (B, C, H, W), and possible."""
    _, _, height, width = x.shape
    tiles, rest = divmod(height * width, TILE * TILE)
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and autocast_dtype(x.device) is None
        and not torch.compiler.is_compiling()
        and rest == height % TILE == width % TILE == 0
        and tiles >= FEWEST_TILES
    )


def conv3x3(x: Tensor, weight: Tensor) -> Tensor:
    """`conv2d(x, weight, padding=1)`: (B, C, H, W) with H and W multiples of 4, and (O, C, 3, 3) → (B, O, H, W).

    Fastest with channels last; the result lies so.
    """
    on_weight, on_input, on_output = _transforms()
    outputs, inputs = weight.shape[:2]
    prepared = (on_weight @ weight.permute(2, 3, 1, 0).reshape(9, -1)).view(-1, inputs, outputs)
    batch, _, height, width = x.shape
    out = x.new_empty((batch, height, width, outputs))
    across = width // TILE
    for image, result in zip(x.permute(0, 2, 3, 1), out, strict=True):
        for top in range(0, height, TILE * TILE_ROWS):
            bottom = min(top + TILE * TILE_ROWS, height)
            down = (bottom - top) // TILE
            tiles = _overlapping(image, top, down, across)
            spectrum = (on_input @ tiles.view(WINDOW**2, -1)).view(WINDOW**2, down * across, inputs)
            product = torch.bmm(spectrum, prepared)
            pixels = (on_output @ product.view(WINDOW**2, -1)).view(TILE, TILE, down, across, outputs)
            result[top:bottom].view(down, TILE, across, TILE, outputs).copy_(pixels.permute(2, 0, 3, 1, 4))
    return out.permute(0, 3, 1, 2)


def _overlapping(image: Tensor, top: int, down: int, across: int) -> Tensor:
    """(6, 6, down, across, C): pixel (i, j) of each window of (H, W, C); a window starts one pixel before its tile."""
    height, width, channels = image.shape
    strip = image.new_zeros((down * TILE + 2, width + 2, channels))
    first, last = max(0, top - 1), min(height, top + down * TILE + 1)
    strip[first - top + 1 : last - top + 1, 1:-1] = image[first:last]
    windows = image.new_empty((WINDOW, WINDOW, down, across, channels))
    for i in range(WINDOW):
        for j in range(WINDOW):
            windows[i, j] = strip[i : i + (down - 1) * TILE + 1 : TILE, j : j + (across - 1) * TILE + 1 : TILE]
    return windows


@lru_cache(maxsize=1)
def _transforms() -> tuple[Tensor, Tensor, Tensor]:
    """On weights (36, 9), on windows (36, 36), on products (16, 36): Toom–Cook's in one axis, taken in two.

    A polynomial product is fixed by its values at as many points as it has coefficients; ∞ stands for the highest one.
    Minimal filtering is that product transposed.
    """

    def powers(count: int) -> Tensor:
        rows = [[point**n for n in range(count)] for point in POINTS]
        return torch.tensor([*rows, [0.0] * (count - 1) + [1.0]], dtype=torch.float64)

    axes = (powers(3), torch.linalg.inv(powers(WINDOW)).T, powers(TILE).T)
    weight, window, product = (torch.kron(m.contiguous(), m.contiguous()).float() for m in axes)
    return weight, window, product
