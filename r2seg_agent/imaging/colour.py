"""Colour pictures: their grey values, by which lesions are found and measured, and their colours, for models that see.

A `Volume` is grey. One that was read from a colour picture has its luminance as `array`, and the three colours among
its `channels`, under the names of `COLOURS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.errors import InputError
from r2seg_agent.imaging.volume import Volume

COLOURS: Final = ("red", "green", "blue")
"""Names of the channels of a colour picture; uint8 each."""
LUMINANCE: Final = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the grey value (ITU-R BT.601, as Pillow and OpenCV convert)."""


def is_coloured(rgb: NDArray[Any]) -> bool:
    """True unless the three channels (…, 3) are equal everywhere: grey saved as colour."""
    red, green, blue = (rgb[..., n] for n in range(3))
    return bool((red != green).any() or (green != blue).any())


def grey_of(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Luminance of (…, 3) colours, rounded to uint8 (…)."""
    weighted = sum(weight * rgb[..., n].astype(np.float32) for n, weight in enumerate(LUMINANCE))
    grey: NDArray[np.uint8] = np.rint(weighted).astype(np.uint8)
    return grey


def opaque(path: Path, what: str, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(…, 3) colours of (…, 3 or 4) pixels.

    Raises:
        InputError: an alpha channel that is not opaque everywhere.
    """
    if pixels.shape[-1] > 3 and int(pixels[..., 3].min()) < 255:
        raise InputError(
            f"The {what} `{path}` is partly transparent; what lies under transparent pixels is undefined.",
            "Save it without an alpha channel.",
        )
    return pixels[..., :3]


def as_channels(rgb: NDArray[np.uint8]) -> Mapping[str, NDArray[np.uint8]]:
    """The colours (z, y, x, 3) as three channels (z, y, x) by name."""
    return MappingProxyType({name: np.ascontiguousarray(rgb[..., n]) for n, name in enumerate(COLOURS)})


def has_colours(volume: Volume) -> bool:
    """True for a volume that was read from a colour picture."""
    return all(name in volume.channels for name in COLOURS)


def colours_of(volume: Volume) -> NDArray[np.uint8] | None:
    """(z, y, x, 3) uint8 of a volume read from a colour picture; None for any other."""
    if not has_colours(volume):
        return None
    return np.stack([volume.channels[name] for name in COLOURS], axis=-1)
