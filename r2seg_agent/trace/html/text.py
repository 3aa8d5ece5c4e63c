"""Text and pictures inside the page: nothing in it can become markup, a link, or a path."""

from __future__ import annotations

import base64
import html
import re

_LINK = re.compile(r"\b[a-z][a-z0-9+.-]*://\S+", re.IGNORECASE)


def esc(value: object) -> str:
    """`value` as text of the page: escaped, links masked, without control characters."""
    text = "".join(char if char.isprintable() or char == "\n" else " " for char in str(value))
    return html.escape(_LINK.sub("[link]", text))


def words(name: str) -> str:
    """A constant as words: `lesions_found` → "lesions found"."""
    return esc(name.replace("_", " "))


def picture(png: bytes, alt: str) -> str:
    """An image with its bytes inside the page."""
    data = base64.standard_b64encode(png).decode("ascii")
    return f'<img alt="{esc(alt)}" src="data:image/png;base64,{data}">'


def table(headings: list[tuple[str, bool]], rows: list[tuple[str, list[str]]], *, caption: str = "") -> str:
    """Cells are HTML already. `headings`: text and whether the column holds numbers; rows: a class and the cells."""
    kinds = [' class="n"' if number else "" for _, number in headings]
    head = "".join(f"<th{kind}>{esc(text)}</th>" for (text, _), kind in zip(headings, kinds, strict=True))
    body = "".join(
        f'<tr class="{name}">'
        + "".join(f"<td{kind}>{cell}</td>" for cell, kind in zip(cells, kinds, strict=True))
        + "</tr>"
        for name, cells in rows
    )
    below = f'<p class="note">{esc(caption)}</p>' if caption else ""
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{below}'


def pairs(items: list[tuple[str, str]]) -> str:
    """A list of names and values (HTML already)."""
    return "<dl>" + "".join(f"<div><dt>{esc(name)}</dt><dd>{value}</dd></div>" for name, value in items) + "</dl>"


def pill(text: str, kind: str) -> str:
    """A small coloured label."""
    return f'<span class="pill {kind}">{words(text)}</span>'
