"""Sizes of the BiomedParse v1 network."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BiomedParseConfig:
    """The defaults are the released model's (341 M parameters); tests build the same network far smaller.

    `image_size` is the side of the square input in pixels, a multiple of 32. `dim` is the width of pixel decoder,
    decoder and text tower alike; it must be a multiple of 4, of `heads` and of `norm_groups`.
    """

    image_size: int = 1024
    embed_dim: int = 192
    depths: tuple[int, int, int, int] = (2, 2, 18, 2)
    focal_levels: int = 4
    mlp_ratio: int = 4
    dim: int = 512
    heads: int = 8
    feedforward: int = 2048
    norm_groups: int = 32
    encoder_layers: int = 6
    queries: int = 101
    decoder_layers: int = 9
    text_layers: int = 12
    context: int = 77
    vocabulary: int = 49408

    @property
    def channels(self) -> tuple[int, int, int, int]:
        """Channels of the backbone's maps at strides 4, 8, 16, 32."""
        c = self.embed_dim
        return (c, 2 * c, 4 * c, 8 * c)


RELEASED = BiomedParseConfig()
