"""A picture in the terminal where the terminal can show one, else the file's name.

Which protocol a terminal speaks is read from its environment; where that says nothing, the terminal itself is asked
for its attributes (DA1), but only while no key is waiting. Nothing here needs a library besides Pillow and numpy: the
kept ones lack iTerm2's protocol and question the terminal when they are imported.
"""

from __future__ import annotations

import io
import os
import re
import select
import sys
import time
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from r2seg_agent.cli._picture_sequences import block_text, iterm_sequence, kitty_sequence, sixel_sequence
from r2seg_agent.cli._text import printable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image
    from rich.console import Console

MAX_COLUMNS = 80
"""Widest picture, in cells."""
MAX_PIXELS = 960
"""Widest picture sent to a terminal that scales it by itself."""
ANSWER_SECONDS = 0.2
"""How long a terminal may take to tell what it can do."""
DEFAULT_CELL = (10, 20)
"""Width and height of a cell in pixels (VT340), where the terminal does not say."""
_SIXEL_TERMS = ("xterm", "foot", "mlterm", "contour", "yaft", "tmux", "screen")


class Pictures(StrEnum):
    """How pictures are shown; `auto` takes the best that the terminal can do."""

    auto = "auto"
    kitty = "kitty"
    iterm = "iterm"
    sixel = "sixel"
    blocks = "blocks"
    name = "name"


def choose_pictures(asked: Pictures, console: Console, environment: Mapping[str, str]) -> Pictures:
    """The way to show pictures on `console`: what was asked for, or what its terminal can do; never `auto`."""
    if asked is not Pictures.auto:
        return asked
    if not console.is_terminal or console.is_dumb_terminal:
        return Pictures.name
    known = _by_environment(environment)
    if known is not None:
        return known
    term = environment.get("TERM", "")
    return Pictures.sixel if term.startswith(_SIXEL_TERMS) and _says_sixel() else Pictures.name


def print_picture(path: Path, caption: str, console: Console, how: Pictures) -> None:
    """Show the picture `path` with its caption; by its name alone where `how` is `name` or the file is damaged."""
    from rich.text import Text

    if how not in (Pictures.name, Pictures.auto):
        try:
            image = _panel(path)
        except OSError:
            how = Pictures.name
        else:
            _print_image(image, console, how)
    console.print(Text(printable(caption), style="italic"))
    console.print(Text(f"picture: {path}", style="dim"), soft_wrap=True)


class _Cell(NamedTuple):
    width: int
    height: int


def _print_image(image: Image, console: Console, how: Pictures) -> None:
    columns = min(MAX_COLUMNS, console.width - 1)
    if how is Pictures.blocks:
        console.print(block_text(image, columns))
        return
    if how is Pictures.sixel:
        width = min(image.width, columns * _cell().width)
        sequence = sixel_sequence(image.resize((width, max(1, round(image.height * width / image.width)))))
    else:
        if image.width > MAX_PIXELS:
            image = image.resize((MAX_PIXELS, max(1, round(image.height * MAX_PIXELS / image.width))))
        held = io.BytesIO()
        image.save(held, "PNG")
        draw = kitty_sequence if how is Pictures.kitty else iterm_sequence
        sequence = draw(held.getvalue(), columns)
    # Past rich, which would count the sequence as text and break it.
    console.file.write(sequence + "\n")
    console.file.flush()


def _panel(path: Path) -> Image:
    """The picture without the empty page around it (the caption is printed as text)."""
    import numpy as np
    from PIL import Image as Pillow

    with Pillow.open(path) as opened:
        image = opened.convert("RGB")
    pixels = np.asarray(image)
    drawn = (pixels != pixels[0, 0]).any(axis=2)
    if not drawn.any():
        return image
    left, right = _longest_run(drawn.any(axis=0))
    top, bottom = _longest_run(drawn[:, left:right].mean(axis=1) > 0.5)
    left, right = _longest_run(drawn[top:bottom].mean(axis=0) > 0.5)
    return image.crop((left, top, right, bottom))


def _longest_run(flags: NDArray[np.bool_]) -> tuple[int, int]:
    """Start and stop of the longest run of true flags, of all of them where none is true."""
    import numpy as np

    edges = np.flatnonzero(np.diff(np.concatenate(([0], flags.astype(np.int8), [0]))))
    if not len(edges):
        return 0, len(flags)
    longest = 2 * int((edges[1::2] - edges[::2]).argmax())
    return int(edges[longest]), int(edges[longest + 1])


def _by_environment(environment: Mapping[str, str]) -> Pictures | None:
    """What the terminal's own variables say; None where they say nothing (also inside tmux and screen, which hide
    what is behind them)."""
    term, program = environment.get("TERM", ""), environment.get("TERM_PROGRAM", "")
    if "TMUX" in environment or term.startswith(("tmux", "screen")):
        return None
    if "KITTY_WINDOW_ID" in environment or term in ("xterm-kitty", "xterm-ghostty") or program == "ghostty":
        return Pictures.kitty
    if program in ("iTerm.app", "WezTerm") or environment.get("LC_TERMINAL") == "iTerm2":
        return Pictures.iterm
    if "KONSOLE_VERSION" in environment:
        return Pictures.kitty
    return None


def _says_sixel() -> bool:
    """Ask the terminal for its primary attributes (DA1); 4 among them means sixel graphics (xterm's control sequences).

    A key that was pressed before is never eaten: then nothing is asked and the answer is False.
    """
    try:
        import termios
        import tty
    except ImportError:  # Windows
        return False
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    source = sys.stdin.fileno()
    try:
        before = termios.tcgetattr(source)
    except termios.error:
        return False
    answer = b""
    try:
        tty.setcbreak(source, termios.TCSANOW)
        if select.select([source], [], [], 0)[0]:
            return False
        sys.stdout.write("\x1b[c")
        sys.stdout.flush()
        until = time.monotonic() + ANSWER_SECONDS
        while not answer.endswith(b"c") and select.select([source], [], [], max(0.0, until - time.monotonic()))[0]:
            answer += os.read(source, 64)
    finally:
        termios.tcsetattr(source, termios.TCSANOW, before)
    found = re.search(rb"\x1b\[\?([\d;]+)c", answer)
    return found is not None and b"4" in found.group(1).split(b";")


def _cell() -> _Cell:
    """Size of a cell in pixels, by the terminal driver."""
    try:
        import fcntl
        import struct
        import termios

        packed = fcntl.ioctl(sys.stdout.fileno(), termios.TIOCGWINSZ, b"\0" * 8)
        rows, columns, width, height = struct.unpack("HHHH", packed)
    except (ImportError, OSError, ValueError):
        return _Cell(*DEFAULT_CELL)
    if not (rows and columns and width and height):
        return _Cell(*DEFAULT_CELL)
    return _Cell(width // columns, height // rows)
