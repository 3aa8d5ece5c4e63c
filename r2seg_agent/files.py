"""Files: written whole or not at all (a reader never sees half of one, a crash leaves the old one), and hashed."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from r2seg_agent.errors import InputError, RunFailedError

_USER_FIXES = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG}
"""What the person at the keyboard can change by naming another place."""


def write_bytes_atomic(path: Path, data: bytes, *, private: bool = False) -> None:
    """Write `data` to a new file beside `path`, then rename it over `path`; missing folders are made.

    `private`: readable by its owner alone.

    Raises `InputError` where the place cannot be written, `RunFailedError` when the disk fails or is full.
    """
    part: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # An exclusive name of our own, opened with the user's umask (mkstemp would make every result private).
        part = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
        with part.open("xb") as file:
            if private:
                part.chmod(0o600)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        if part is not None:
            part.unlink(missing_ok=True)
        message = f"cannot write `{path.name}`: {error.strerror or error}"
        if error.errno in _USER_FIXES:
            raise InputError(message, "Name a folder that you may write to, for example with `--out`.") from error
        raise RunFailedError(message, "Check the free space of the disk, then run again.") from error


def write_text_atomic(path: Path, text: str) -> None:
    r"""Write `text` as UTF-8 with `\n` line ends on every system, so that the same text is the same bytes."""
    write_bytes_atomic(path, text.encode("utf-8"))


def copy_files(folder: Path, to: Path, names: Iterable[str], called: str) -> None:
    """Copy the named files of `folder` to `to`, each whole; `called` is how an error names the place.

    Raises `InputError` where `to` cannot be written.
    """
    try:
        to.mkdir(parents=True, exist_ok=True)
        for name in names:
            write_bytes_atomic(to / name, (folder / name).read_bytes())
    except OSError as error:
        raise InputError(
            f"cannot write to {called}: {error.strerror}", "Choose a folder that you may write to."
        ) from error


def check_folder(folder: Path, called: str) -> None:
    """Make `folder` and try to write there; for use before long work. `called` is how an error names the place.

    Raises `InputError` where it cannot be written.
    """
    probe = folder / f".{secrets.token_hex(6)}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise InputError(
            f"cannot write to {called}: {error.strerror or error}", "Choose a folder that you may write to."
        ) from error


def check_file(path: Path, called: str) -> None:
    """The same for a file that will be written; also raises `InputError` where a folder has its name."""
    if path.is_dir():
        raise InputError(f"cannot write to {called}: it is a folder", "Give the name of a file.")
    check_folder(path.parent, called)


def cache_root() -> Path:
    """$R2SEG_CACHE, else the user's cache folder for r2seg-agent."""
    if configured := os.environ.get("R2SEG_CACHE"):
        return Path(configured)
    from platformdirs import user_cache_path

    return user_cache_path("r2seg-agent")


def file_sha256(path: Path) -> str:
    """The sha256 of a file's bytes, as hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@lru_cache(maxsize=256)
def cached_file_sha256(path: Path, mtime_ns: int, size: int) -> str:
    """`file_sha256`, remembered in this process for as long as the file's time and size stay the same."""
    return file_sha256(path)
