"""The sha256 of files: one place for scans, masks, archives and weights."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path


def file_sha256(path: Path) -> str:
    """The sha256 of a file's bytes, as hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@lru_cache(maxsize=256)
def cached_file_sha256(path: Path, mtime_ns: int, size: int) -> str:
    """`file_sha256`, remembered in this process for as long as the file's time and size stay the same."""
    return file_sha256(path)
