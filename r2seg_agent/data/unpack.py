"""Archives of strangers: checked member by member before anything is written, and never run.

Refused are absolute paths, `..`, drive letters, links, devices, encrypted members, names that collide, and more files
or bytes than were expected. Sizes are counted while a member is unpacked: what an archive states may be false.
"""

from __future__ import annotations

import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Final, NamedTuple

from r2seg_agent.errors import MissingDependencyError

BLOCK_BYTES: Final = 4 * 2**20
MAX_FILES: Final = 1000


class Limits(NamedTuple):
    """What a whole archive may hold."""

    total_bytes: int
    files: int = MAX_FILES


class _Member(NamedTuple):
    """One regular file of an archive: its checked path, its size as stated, and how to read it."""

    path: PurePosixPath
    size: int
    open: Callable[[], IO[bytes]]


def unpack(archive: Path, folder: Path, limits: Limits) -> tuple[str, ...]:
    """Write all files of a zip or tar archive below `folder`; their paths in it, in the archive's order.

    Raises `MissingDependencyError` for an archive that cannot be read or holds what is refused; nothing is written
    unless the whole list of members is harmless.
    """
    with _members(archive) as members:
        _check_sizes(archive, members, limits)
        left = limits.total_bytes
        for member in members:
            left -= _write(archive, member, folder / member.path, left)
        return tuple(str(member.path) for member in members)


def unpack_member(archive: Path, name: str, target: Path, limits: Limits) -> None:
    """Write the one file `name` of a zip or tar archive to `target`; errors as `unpack`."""
    with _members(archive) as members:
        found = [member for member in members if str(member.path) == name]
        if not found:
            raise _refused(archive, f"it holds no `{name}`")
        _check_sizes(archive, found, limits)
        _write(archive, found[0], target, limits.total_bytes)


@contextmanager
def _members(archive: Path) -> Iterator[list[_Member]]:
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as bundle:
                yield _zip_members(archive, bundle)
        elif tarfile.is_tarfile(archive):
            with tarfile.open(archive) as bundle:
                yield _tar_members(archive, bundle)
        else:
            raise _refused(archive, "it is no whole zip or tar archive")
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise _refused(archive, f"it is damaged ({error})") from error


def _zip_members(archive: Path, bundle: zipfile.ZipFile) -> list[_Member]:
    found = []
    for info in bundle.infolist():
        path = _checked(archive, info.filename)
        mode = info.external_attr >> 16
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise _refused(archive, f"`{info.filename}` is a link or a device")
        if info.flag_bits & 0x1:
            raise _refused(archive, f"`{info.filename}` is encrypted")
        if not info.is_dir():
            found.append(_Member(path, info.file_size, partial(bundle.open, info)))
    return _distinct(archive, found)


def _tar_members(archive: Path, bundle: tarfile.TarFile) -> list[_Member]:
    found = []
    for info in bundle:
        path = _checked(archive, info.name)
        if not info.isreg() and not info.isdir():
            raise _refused(archive, f"`{info.name}` is a link or a device")
        if info.isreg():
            found.append(_Member(path, info.size, partial(_tar_stream, bundle, info)))
        if len(found) > MAX_FILES:
            raise _refused(archive, f"it holds more than {MAX_FILES} files")
    return _distinct(archive, found)


def _tar_stream(bundle: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    stream = bundle.extractfile(info)
    assert stream is not None  # it is a regular file
    return stream


def _checked(archive: Path, name: str) -> PurePosixPath:
    """The member's path, if it stays inside the folder on every system."""
    path = PurePosixPath(name)
    outside = path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name or "\0" in name
    if outside or not path.parts:
        raise _refused(archive, f"`{name}` leads out of the folder")
    return path


def _distinct(archive: Path, members: list[_Member]) -> list[_Member]:
    seen: set[str] = set()
    for member in members:
        name = str(member.path).casefold()
        if name in seen:
            raise _refused(archive, f"`{member.path}` is in it twice")
        seen.add(name)
    return members


def _check_sizes(archive: Path, members: list[_Member], limits: Limits) -> None:
    if len(members) > limits.files:
        raise _refused(archive, f"it holds {len(members)} files, at most {limits.files} are expected")
    total = sum(member.size for member in members)
    if total > limits.total_bytes:
        raise _refused(
            archive, f"it unpacks to {total / 1e6:.0f} MB, at most {limits.total_bytes / 1e6:.0f} are expected"
        )


def _write(archive: Path, member: _Member, target: Path, limit: int) -> int:
    target.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with member.open() as source, target.open("xb") as file:
        while block := source.read(BLOCK_BYTES):
            written += len(block)
            if written > limit:
                raise _refused(archive, f"`{member.path}` is larger than it says")
            file.write(block)
    return written


def _refused(archive: Path, why: str) -> MissingDependencyError:
    return MissingDependencyError(
        f"the archive `{archive.name}` is refused: {why}.",
        "Nothing was installed. Fetch it again, or from another place with `--from`; tell its authors if it stays so.",
    )
