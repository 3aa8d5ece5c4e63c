"""`journal.jsonl`: a batch's rows in the order in which they came. What stands there is done and is not repeated."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from r2seg_agent.batch.row import CaseRow
from r2seg_agent.errors import RunFailedError

_BLOCK = 65_536


class Journal:
    """Append-only; each row is on disk before it counts."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._length = _whole_bytes(path)
            self._file = path.open("ab", buffering=0)
            self._file.truncate(self._length)
        except OSError as error:
            raise RunFailedError(f"cannot write `{path}`: {error.strerror}", "Choose another --out.") from error

    def add(self, row: CaseRow) -> None:
        """Write one row and wait for the disk; after an error the file ends with the row before."""
        line = row.model_dump_json().encode() + b"\n"
        try:
            if self._file.write(line) != len(line):
                raise OSError(28, "No space left on device")
            os.fsync(self._file.fileno())
        except OSError as error:
            self._file.truncate(self._length)
            raise RunFailedError(
                f"cannot write `{self._path.name}`: {error.strerror}",
                "Free space and give the same command again; finished cases are not repeated.",
            ) from error
        self._length += len(line)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_rows(path: Path) -> Iterator[CaseRow]:
    """All rows of a journal, one at a time; of a job that stands there twice the later one counts with the reader.

    A last line that a kill has cut is left out. Raises `RunFailedError` for another line that is no row.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            try:
                yield CaseRow.model_validate_json(line)
            except ValidationError as error:
                raise RunFailedError(
                    f"`{path.name}` line {number} is damaged", "Remove that line and give the same command again."
                ) from error


def _whole_bytes(path: Path) -> int:
    """Length up to the last whole line: a kill may have cut one."""
    if not path.exists():
        return 0
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - _BLOCK)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                return start + newline + 1
            end = start
    return 0
