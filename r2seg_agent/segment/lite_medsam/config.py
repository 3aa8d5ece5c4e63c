"""The sizes of a LiteMedSAM network; the defaults are those of the released weights."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LiteMedSamConfig:
    """Four-tuples are per encoder stage. The embedding grid is the image size over 2 per stage with stride 2."""

    image_size: int = 256
    dims: tuple[int, int, int, int] = (64, 128, 160, 320)
    depths: tuple[int, int, int, int] = (2, 2, 6, 2)
    heads: tuple[int, int, int, int] = (2, 4, 5, 10)
    """The first stage is convolutional: its entry, and its window, are not used."""
    windows: tuple[int, int, int, int] = (7, 7, 14, 7)
    strides: tuple[int, int, int] = (2, 2, 1)
    """Of the three steps between the stages: LiteMedSAM keeps the grid at a quarter of the image from stage 3 on."""
    expand: int = 4
    """Hidden over outer width, of the convolutional blocks and of the multi-layer perceptrons."""
    embed_dim: int = 256
    mask_channels: int = 16
    decoder_depth: int = 2
    decoder_heads: int = 8
    decoder_hidden: int = 2048
    n_mask_tokens: int = 4
    """One for the single mask, three for SAM's alternatives (not used)."""

    @property
    def grid(self) -> int:
        """Height and width of the image embedding."""
        size = self.image_size
        for stride in self.strides:
            size //= stride
        return size
