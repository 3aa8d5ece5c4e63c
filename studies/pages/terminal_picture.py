"""A picture (PNG) of what stands in a recorded terminal, colours included."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import pyte
from PIL import Image, ImageDraw, ImageFont
from pyte.screens import Char

BACKGROUND, INK = "0d1014", "d7dbe0"
FONT_SIZE = 14
COLOURS = 96
"""Of the written palette: a terminal shows few, and a slice in grey blocks needs its greys."""
_NAMED: Mapping[str, str] = {
    "black": "1c2128", "red": "ff6b57", "green": "6ee787", "brown": "ffb224", "blue": "53a7f0",
    "magenta": "d19bff", "cyan": "53c7f0", "white": "d7dbe0", "brightblack": "6b7480",
}  # fmt: skip

Row = Sequence[Char]


def rows_of(screen: pyte.HistoryScreen) -> list[Row]:
    """Everything the terminal has shown, as rows of cells, without the empty ones at the end."""
    buffer = [screen.buffer[y] for y in range(screen.lines)]
    rows: list[Row] = [[line[x] for x in range(screen.columns)] for line in (*screen.history.top, *buffer)]
    while rows and not "".join(cell.data for cell in rows[-1]).strip():
        rows.pop()
    return rows


def write_picture(rows: Sequence[Row], path: Path) -> None:
    """Draw `rows` cell by cell. A half block is drawn as a rectangle, so that no font leaves gaps in a slice."""
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    plain = ImageFont.truetype(folder / "DejaVuSansMono.ttf", FONT_SIZE)
    bold = ImageFont.truetype(folder / "DejaVuSansMono-Bold.ttf", FONT_SIZE)
    width, height = round(plain.getlength("M")), 2 * round(FONT_SIZE * 0.6)
    columns = max(len(row) for row in rows)
    image = Image.new("RGB", ((columns + 2) * width, (len(rows) + 1) * height), f"#{BACKGROUND}")
    draw = ImageDraw.Draw(image)
    for y, row in enumerate(rows):
        for x, cell in enumerate(row):
            left, top = (x + 1) * width, y * height + height // 2
            ink, paper = _colour(cell.fg, INK), _colour(cell.bg, BACKGROUND)
            if cell.reverse:
                ink, paper = paper, ink
            draw.rectangle((left, top, left + width - 1, top + height - 1), fill=paper)
            if cell.data == "▀":
                draw.rectangle((left, top, left + width - 1, top + height // 2 - 1), fill=ink)
            elif cell.data.strip():
                draw.text((left, top), cell.data, fill=ink, font=bold if cell.bold else plain)
    small = image.quantize(COLOURS, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    path.parent.mkdir(parents=True, exist_ok=True)
    small.save(path, optimize=True)


def _colour(name: str, default: str) -> str:
    return f"#{default if name == 'default' else _NAMED.get(name, name)}"
