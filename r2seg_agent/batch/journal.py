"""`journal.jsonl`: a batch's rows in the order in which they came. What stands there is done and is not repeated."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from r2seg_agent.batch.row import CaseRow
from r2seg_agent.errors import RunFailedError


class Journal:
    """Append-only; each row is on disk before it counts."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            whole = _whole_bytes(path)
            self._file = path.open("ab", buffering=0)
            self._file.truncate(whole)
        except OSError as error:
            raise RunFailedError(f"cannot write `{path}`: {error.strerror}", "Choose another --out.") from error

    def add(self, row: CaseRow) -> None:
        """Write one row and wait for the disk."""
        line = row.model_dump_json().encode() + b"\n"
        try:
            if self._file.write(line) != len(line):
                raise OSError(28, "no space for a whole row")
            os.fsync(self._file.fileno())
        except OSError as error:
            self._file.truncate(_whole_bytes(self._path))
            raise RunFailedError(
                f"cannot write `{self._path.name}`: {error.strerror}", "Free space and give the same command again."
            ) from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_rows(path: Path) -> Iterator[CaseRow]:
    """All rows of a journal, one at a time; of a job that stands there twice the later one counts with the reader."""
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
    data = path.read_bytes()
    return data.rfind(b"\n") + 1
