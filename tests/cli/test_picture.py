"""Pictures in the terminal: each protocol is decoded again and compared with what was drawn."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from r2seg_agent.cli._picture import Pictures, choose_pictures, print_picture
from r2seg_agent.cli._picture_sequences import block_text, iterm_sequence, kitty_sequence, sixel_sequence


@pytest.fixture
def slice_image() -> Image.Image:
    """A grey ramp with a thin orange contour, as slices have."""
    pixels = np.zeros((60, 90, 3), np.uint8)
    pixels[:] = (np.arange(90) * 2)[None, :, None]
    pixels[20:40, 30] = pixels[20:40, 60] = (255, 178, 36)
    return Image.fromarray(pixels)


@pytest.fixture
def page(tmp_path: Path, slice_image: Image.Image) -> Path:
    """The slice on a dark page with a title, as `draw_slice` writes it."""
    sheet = Image.new("RGB", (200, 120), "#0d1014")
    sheet.paste(slice_image, (10, 40))
    sheet.paste("white", (12, 10, 95, 14))  # a title nearly as wide as the slice
    path = tmp_path / "slice.png"
    sheet.save(path)
    return path


def terminal(**settings: object) -> Console:
    defaults = {"force_terminal": True, "color_system": "truecolor", "width": 60, "file": io.StringIO()}
    return Console(**(defaults | settings))  # type: ignore[arg-type]


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def decode_sixel(text: str) -> np.ndarray:
    """Sixels as xterm reads them: raster size, palette in percent, bands of six rows."""
    head = re.match(r'\x1bPq"1;1;(\d+);(\d+)', text)
    assert head is not None
    assert text.endswith("\x1b\\")
    width, height = int(head[1]), int(head[2])
    out = np.zeros((height + 6, width, 3), np.uint8)
    palette: dict[int, list[int]] = {}
    x = y = colour = 0
    for token in re.finditer(r"#(\d+);2;(\d+);(\d+);(\d+)|#(\d+)|!(\d+)(.)|(.)", text[head.end() : -2]):
        if token[1]:
            palette[int(token[1])] = [round(int(v) * 255 / 100) for v in token.group(2, 3, 4)]
        elif token[5]:
            colour = int(token[5])
        elif token[8] == "$":
            x = 0
        elif token[8] == "-":
            x, y = 0, y + 6
        else:
            n = int(token[6] or 1)
            bits = ord(token[7] or token[8]) - 63
            for row in range(6):
                if bits >> row & 1:
                    out[y + row, x : x + n] = palette[colour]
            x += n
    return out[:height]


def test_sixels_decode_to_the_picture_and_a_thin_contour_keeps_its_colour(slice_image: Image.Image) -> None:
    decoded = decode_sixel(sixel_sequence(slice_image)).astype(int)
    wanted = np.asarray(slice_image).astype(int)
    assert np.abs(decoded - wanted).mean() < 4
    orange = wanted[..., 0] - wanted[..., 2] > 100
    assert (decoded[..., 0] - decoded[..., 2])[orange].min() > 100


def test_kitty_pieces_join_to_the_file_and_only_the_last_says_so() -> None:
    png = bytes(range(256)) * 40
    pieces = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", kitty_sequence(png, 40))
    assert base64.standard_b64decode("".join(data for _, data in pieces)) == png
    assert all(len(data) <= 4096 for _, data in pieces)
    assert [keys[-3:] for keys, _ in pieces] == ["m=1"] * (len(pieces) - 1) + ["m=0"]
    assert pieces[0][0].startswith("a=T,f=100,q=2,c=40,")
    assert len(pieces) > 1


def test_iterm_names_the_size_and_holds_the_file() -> None:
    text = iterm_sequence(b"picture", 30)
    assert text.startswith("\x1b]1337;File=inline=1;size=7;width=30;")
    assert base64.standard_b64decode(text.rpartition(":")[2].rstrip("\x07")) == b"picture"


def test_blocks_show_two_pixels_a_cell(slice_image: Image.Image) -> None:
    text = block_text(slice_image, 30)
    lines = text.plain.splitlines()
    assert len(lines) == 10  # 60 × 90 pixels on 30 columns: 20 rows of pixels
    assert all(line == "▀" * 30 for line in lines)
    left, right = text.spans[0].style, text.spans[29].style
    assert left.color.triplet.red < 10 < right.color.triplet.red  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({"TERM": "xterm-kitty", "KITTY_WINDOW_ID": "1"}, Pictures.kitty),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "ghostty"}, Pictures.kitty),
        ({"TERM": "xterm-256color", "KONSOLE_VERSION": "230400"}, Pictures.kitty),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, Pictures.iterm),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm"}, Pictures.iterm),
        ({"TERM": "xterm-256color", "LC_TERMINAL": "iTerm2"}, Pictures.iterm),
        # What stands behind tmux is hidden, whatever the variables that it inherited say.
        ({"TERM": "tmux-256color", "TMUX": "x", "KITTY_WINDOW_ID": "1"}, Pictures.name),
        ({"TERM": "linux"}, Pictures.name),
    ],
)
def test_the_terminal_is_known_by_its_variables(environment: dict[str, str], wanted: Pictures) -> None:
    assert choose_pictures(Pictures.auto, terminal(), environment) is wanted


def test_without_a_terminal_auto_is_the_name_and_a_wish_is_a_wish() -> None:
    pipe = terminal(force_terminal=False)
    assert choose_pictures(Pictures.auto, pipe, {"KITTY_WINDOW_ID": "1"}) is Pictures.name
    assert choose_pictures(Pictures.blocks, pipe, {}) is Pictures.blocks


@pytest.mark.parametrize(
    ("how", "begins"), [(Pictures.kitty, "\x1b_Ga=T"), (Pictures.iterm, "\x1b]1337;"), (Pictures.sixel, "\x1bPq")]
)
def test_a_picture_is_cut_to_its_slice_and_named(page: Path, how: Pictures, begins: str) -> None:
    console = terminal(width=200)
    print_picture(page, "finding 1, axial slice 4", console, how)
    out = written(console)
    assert out.startswith(begins)
    assert "finding 1, axial slice 4" in out
    assert str(page) in out
    if how is Pictures.sixel:
        assert decode_sixel(out[: out.index("\x1b\\") + 2]).shape == (60, 90, 3)


def test_a_damaged_or_missing_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    for name in ("broken.png", "missing.png"):
        console = terminal(width=200)
        print_picture(tmp_path / name, "slice", console, Pictures.blocks)
        assert name in written(console)
        assert "▀" not in written(console)


def test_a_caption_cannot_command_the_terminal(page: Path) -> None:
    console = terminal(color_system=None)
    print_picture(page, "finding\x1b]0;owned\x07 1\x1b[2J", console, Pictures.name)
    assert "\x1b" not in written(console).replace("\x1b[3m", "").replace("\x1b[2m", "").replace("\x1b[0m", "")
