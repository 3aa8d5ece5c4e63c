"""A picture as the bytes of a terminal: kitty's graphics, iTerm2's inline files, DEC sixels, half blocks."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image
    from rich.text import Text

SIXEL_COLOURS = 128
"""Chosen by coverage of the colour space, not by frequency: the few pixels of a contour keep their colour."""
_REPEATED = re.compile(r"(.)\1{3,}")


def kitty_sequence(png: bytes, columns: int) -> str:
    """The picture as the terminal graphics protocol of kitty takes it: PNG in base64, at most 4096 bytes a piece."""
    data = base64.standard_b64encode(png).decode("ascii")
    pieces = [data[start : start + 4096] for start in range(0, len(data), 4096)]
    first = f"a=T,f=100,q=2,c={columns},"
    return "".join(
        f"\x1b_G{first if i == 0 else ''}m={int(i < len(pieces) - 1)};{piece}\x1b\\" for i, piece in enumerate(pieces)
    )


def iterm_sequence(png: bytes, columns: int) -> str:
    """The picture as iTerm2's inline file (OSC 1337)."""
    data = base64.standard_b64encode(png).decode("ascii")
    return f"\x1b]1337;File=inline=1;size={len(png)};width={columns};preserveAspectRatio=1:{data}\x07"


def sixel_sequence(image: Image) -> str:
    """The picture as DEC sixels: bands of six rows, one pass a colour, runs counted."""
    import numpy as np
    from PIL import Image as Pillow

    flat = image.convert("RGB").quantize(SIXEL_COLOURS, method=Pillow.Quantize.MAXCOVERAGE, dither=Pillow.Dither.NONE)
    indices: NDArray[np.uint8] = np.asarray(flat, dtype=np.uint8)
    colours = list((flat.getpalette() or [])[: 3 * SIXEL_COLOURS])
    parts = [f'\x1bPq"1;1;{image.width};{image.height}']
    for colour in range(len(colours) // 3):
        red, green, blue = (round(value * 100 / 255) for value in colours[3 * colour : 3 * colour + 3])
        parts.append(f"#{colour};2;{red};{green};{blue}")
    for top in range(0, image.height, 6):
        band = indices[top : top + 6]
        weights = (1 << np.arange(len(band)))[:, None]
        for colour in np.unique(band).tolist():
            row = bytes(((band == colour) * weights).sum(axis=0).astype(np.uint8) + 63).decode("ascii")
            parts.append(f"#{colour}{_REPEATED.sub(_run, row)}$")
        parts.append("-")
    return "".join(parts) + "\x1b\\"


def block_text(image: Image, columns: int) -> Text:
    """The picture in half blocks: each cell shows two pixels, the upper one as foreground."""
    from rich.color import Color
    from rich.style import Style
    from rich.text import Text

    rows = max(1, round(image.height / image.width * columns / 2))
    small = image.convert("RGB").resize((columns, 2 * rows))
    pixels = list(zip(*[iter(small.tobytes())] * 3, strict=True))
    text = Text(no_wrap=True)
    for row in range(rows):
        for column in range(columns):
            upper = pixels[2 * row * columns + column]
            lower = pixels[(2 * row + 1) * columns + column]
            text.append("▀", Style(color=Color.from_rgb(*upper), bgcolor=Color.from_rgb(*lower)))
        text.append("\n")
    text.rstrip()
    return text


def _run(match: re.Match[str]) -> str:
    return f"!{len(match.group(0))}{match.group(1)}"
