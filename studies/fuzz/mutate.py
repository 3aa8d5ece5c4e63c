"""Edits of bytes, lines and JSON as hypothesis strategies: few edits, small numbers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

Edit = tuple[str, int, Any]
"""(kind, place, value); a place is taken modulo what there is."""
Edits = Sequence[Edit]

ODD_TEXT = (
    "", " ", "0", "-0", "-1", "1", "2147483648", "99999999999999999999", "1e308", "1e-320", "nan", "inf", "-inf",
    "0x10", "4,0", "1 2", "a", "ä", "\u202e", "\ud83d", "😀", "\x00", "\n", "../../x", "/etc/passwd", "~", "%s", "{}",
    "[]", "null", "true", "[bold]", "=1+1", "x" * 5000, "liver", "CT", "a.nii.gz", "(0,0,0)", "none", "gzip",
    "unsigned char",
)  # fmt: skip
ODD_JSON: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 10**30, 0.5, -0.0, 1e308, float("nan"), float("inf"), "", [], {}, [[]],
    [None], {"": None}, *ODD_TEXT,
)  # fmt: skip
PLACE = st.one_of(st.integers(0, 400), st.integers(0, 6000), st.integers(0, 10**6))
text = st.one_of(st.sampled_from(ODD_TEXT), st.text(max_size=20))


def bytes_edits(most: int = 6) -> st.SearchStrategy[list[Edit]]:
    """Bytes set, taken out, put in; the file cut."""
    byte = st.one_of(st.sampled_from((0, 255, 1, 127, 128, 32, 45, 57)), st.integers(0, 255))
    edit = st.one_of(
        st.tuples(st.just("set"), PLACE, byte),
        st.tuples(st.just("set"), PLACE, byte),
        st.tuples(st.just("take"), PLACE, st.integers(1, 12)),
        st.tuples(st.just("put"), PLACE, st.binary(min_size=1, max_size=8)),
        st.tuples(st.just("number"), PLACE, st.binary(min_size=8, max_size=8)),
        st.tuples(st.just("cut"), PLACE, st.none()),
    )
    return st.lists(edit, min_size=1, max_size=most)


def line_edits(most: int = 4) -> st.SearchStrategy[list[Edit]]:
    """Lines whose value, key or whole is another; lines doubled, left out, swapped."""
    place = st.integers(0, 40)
    edit = st.one_of(
        st.tuples(st.just("value"), place, text),
        st.tuples(st.just("value"), place, text),
        st.tuples(st.just("word"), st.integers(0, 200), text),
        st.tuples(st.just("line"), place, text),
        st.tuples(st.just("double"), place, st.none()),
        st.tuples(st.just("drop"), place, st.none()),
        st.tuples(st.just("swap"), place, place),
    )
    return st.lists(edit, min_size=1, max_size=most)


def json_edits(most: int = 4) -> st.SearchStrategy[list[Edit]]:
    """Values replaced, keys left out, renamed and added."""
    value = st.one_of(st.sampled_from(ODD_JSON), st.integers(), st.floats(), st.text(max_size=8))
    place = st.integers(0, 3000)
    edit = st.one_of(
        st.tuples(st.just("value"), place, value),
        st.tuples(st.just("value"), place, value),
        st.tuples(st.just("drop"), place, st.none()),
        st.tuples(st.just("add"), place, st.tuples(text, value)),
        st.tuples(st.just("rename"), place, text),
    )
    return st.lists(edit, min_size=1, max_size=most)


def edit_bytes(data: bytes, edits: Edits) -> bytes:
    """`data` after `bytes_edits`."""
    out = bytearray(data)
    for kind, place, value in edits:
        at = place % (len(out) + 1)
        if kind == "set" and out:
            out[at % len(out)] = value
        elif kind == "take":
            del out[at : at + value]
        elif kind == "put":
            out[at:at] = value
        elif kind == "number":  # the field of a header, at a multiple of its size
            at -= at % 4
            out[at : at + len(value)] = value
        elif kind == "cut":
            del out[at:]
    return bytes(out)


def edit_lines(data: bytes, edits: Edits, head: int | None = None) -> bytes:
    """`data` after `line_edits`, of its first `head` bytes alone."""
    front, rest = (data, b"") if head is None else (data[:head], data[head:])
    lines = front.decode("utf-8", "surrogateescape").split("\n")
    for kind, place, value in edits:
        at = place % len(lines)
        if kind == "value":
            mark = next((mark for mark in (":=", ":", "=", ",") if mark in lines[at]), " ")
            lines[at] = f"{lines[at].partition(mark)[0]}{mark} {value}"
        elif kind == "word":
            words = lines[at].split(" ")
            words[place % len(words)] = value
            lines[at] = " ".join(words)
        elif kind == "line":
            lines[at] = value
        elif kind == "double":
            lines.insert(at, lines[at])
        elif kind == "drop" and len(lines) > 1:
            del lines[at]
        elif kind == "swap":
            other = value % len(lines)
            lines[at], lines[other] = lines[other], lines[at]
    return "\n".join(lines).encode("utf-8", "surrogatepass") + rest


def edit_json(document: Any, edits: Edits) -> Any:
    """A copy of `document` after `json_edits`."""
    box = [json.loads(json.dumps(document))]
    for kind, place, value in edits:
        holders = list(_places(box))
        holder, key = holders[place % len(holders)]
        if kind == "value":
            holder[key] = value
        elif kind == "drop" and holder is not box:
            del holder[key]
        elif kind == "add" and isinstance(holder[key], dict):
            holder[key][value[0]] = value[1]
        elif kind == "add" and isinstance(holder[key], list):
            holder[key].append(value[1])
        elif kind == "rename" and isinstance(holder, dict):
            holder[value] = holder.pop(key)
    return box[0]


def write_json(path: Path, document: Any) -> None:
    """As other programs may write it: NaN, halves of characters and all."""
    path.write_bytes(json.dumps(document, ensure_ascii=True).encode())


def _places(holder: Any) -> Any:
    keys = list(holder) if isinstance(holder, dict) else range(len(holder))
    for key in keys:
        yield holder, key
        if isinstance(holder[key], dict | list):
            yield from _places(holder[key])
