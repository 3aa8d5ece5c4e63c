"""CSV files of the user, read by the book: what does not stand there as it looks is an error, never another value."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from r2seg_agent.errors import InputError


class CsvFile(NamedTuple):
    """The heading, and (line, column → text) of each row; a row's line is its last."""

    header: tuple[str, ...]
    rows: tuple[tuple[int, Mapping[str, str]], ...]


def read_text(path: Path, kind: str) -> str:
    """The file as it stands, its line ends too; `kind` says how to save it."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read `{path}`: {error}", f"Save it as UTF-8 {kind}.") from error


def read_csv(path: Path) -> CsvFile:
    """A CSV file with a header line.

    Raises `InputError`, with the line, for a column that comes twice, a row with more cells than columns, a quotation
    mark without its end, and a cell with a line break or another control character.
    """
    reader = csv.reader(io.StringIO(read_text(path, "CSV with a header line"), newline=""), strict=True)
    rows: list[tuple[int, Mapping[str, str]]] = []
    header: tuple[str, ...] | None = None
    try:
        for cells in reader:
            if not any(cells):
                continue
            odd = next((cell for cell in cells if any(ord(c) < 32 and c != "\t" for c in cell)), None)
            if odd is not None:
                raise InputError(
                    f"`{path.name}` line {reader.line_num}: "
                    f"the cell {odd!a} holds a line break or another control character",
                    "Write each cell on one line; look for a quotation mark that is not closed.",
                )
            if header is None:
                header = tuple(name.strip() for name in cells)
                twice = next((name for n, name in enumerate(header) if name in header[:n]), None)
                if twice is not None:
                    raise InputError(f"`{path.name}` has two columns `{twice}`", "Rename or remove one of them.")
                continue
            if len(cells) > len(header):
                raise InputError(
                    f"`{path.name}` line {reader.line_num} has {len(cells)} cells, the heading {len(header)}",
                    'Put a cell with a comma into quotation marks ("a, b").',
                )
            rows.append((reader.line_num, dict(zip(header, cells, strict=False))))
    except csv.Error as error:
        raise InputError(
            f"`{path.name}` line {reader.line_num} is not CSV: {error}", "Look for a quotation mark that is not closed."
        ) from error
    return CsvFile(header or (), tuple(rows))
