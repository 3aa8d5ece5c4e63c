"""The files of a model on this machine: downloaded or in the user's folder, and their hashes compared."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection
from pathlib import Path
from urllib.parse import urlsplit

from r2seg_agent.data.download import BytesProgress, Source, Wait, download, forget
from r2seg_agent.errors import InputError, MissingDependencyError
from r2seg_agent.files import file_sha256
from r2seg_agent.progress import Progress
from r2seg_agent.segment.catalogue.entries import Entry, RemoteFile
from r2seg_agent.segment.catalogue.store import parts_folder, pins_of
from r2seg_agent.segment.catalogue.units import Unit


def is_folder(origin: str | None) -> bool:
    """True where `--from` names a folder, not an address."""
    return origin is not None and "://" not in origin


def bring(entry: Entry, unit: Unit, file: RemoteFile, origin: str | None, progress: Progress, wait: Wait) -> Path:
    """The file on this machine: in the user's folder, or downloaded as far as it was not yet.

    Raises `InputError` for a folder without it, and what `download` raises.
    """
    if origin is not None and is_folder(origin):
        return _in_folder(Path(origin).expanduser(), file, unit.files)
    address = (origin or entry.address).rstrip("/")
    hosts = entry.hosts if origin is None else (urlsplit(origin).hostname or "", *entry.hosts)
    path = parts_folder(unit) / file.source.replace("/", "__")
    source = Source(f"{address}/{file.source}", hosts, file.limit_bytes, entry.page)
    download(source, path, _bytes_progress(progress, f"fetch {file.source}", file.size_bytes), wait)
    return path


def checked_sha256(entry: Entry, unit: Unit, file: RemoteFile, path: Path) -> str:
    """The file's sha256, after its size, every published hash and the one pinned earlier have been compared.

    Raises `MissingDependencyError` for another file; a wrong download is deleted, a file of the user's never.
    """
    size = path.stat().st_size
    if size > file.limit_bytes:
        raise MissingDependencyError(
            f"`{file.source}` of `{entry.name}` has {size / 1e6:.0f} MB, about {file.size_bytes / 1e6:.0f} MB are "
            "expected: another file.",
            f"Nothing was installed. Look at {entry.page}.",
        )
    found = file_sha256(path)
    for kind, expected in (("sha256", file.sha256), ("sha1", file.sha1), ("md5", file.md5)):
        if expected is not None and expected != (found if kind == "sha256" else _digest(path, kind)):
            _drop(unit, path)
            raise MissingDependencyError(
                f"`{file.source}` of `{entry.name}` is damaged or another file: its {kind} is not {expected[:12]}…, "
                "which the catalogue has.",
                "Nothing was installed. Run the same command again, or name another place with `--from`.",
            )
    pinned = pins_of(unit).get(file.source)
    if pinned is not None and pinned != found:
        _drop(unit, path)
        raise MissingDependencyError(
            f"`{file.source}` of `{entry.name}` has changed: sha256 {found[:12]}…; when it was first fetched here it "
            f"was {pinned[:12]}….",
            "Nothing was installed. If its authors published new weights and you want them, run "
            f"`r2seg models remove {entry.name} --forget` and fetch again.",
        )
    return found


def time_left(seconds: float) -> str:
    """ "40 s", "12 min", "1 h 40 min"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:.0f} MB" if n_bytes >= 10_000_000 else f"{n_bytes / 1e3:.0f} kB"


def _in_folder(folder: Path, file: RemoteFile, files: Collection[RemoteFile]) -> Path:
    """A file of the user's folder: at its path on the server or in the model, or by its bare name where one has it."""
    if not folder.is_dir():
        raise InputError(f"`--from {folder}` is no folder", "Name a folder with the model's files, or an address.")
    bare = Path(file.source).name
    alone = sum(Path(other.source).name == bare for other in files) == 1
    for relative in (file.source, str(file.place), *([bare] if alone else [])):
        if (folder / relative).is_file():
            return folder / relative
    raise InputError(
        f"`{folder}` has no `{file.source}`", f"It must hold {', '.join(f'`{other.source}`' for other in files)}."
    )


def _drop(unit: Unit, path: Path) -> None:
    if path.parent == parts_folder(unit):
        forget(path)


def _digest(path: Path, kind: str) -> str:
    """md5 and sha1 find damage, no forgery: they are what some authors publish."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()


def _bytes_progress(progress: Progress, stage: str, expected: int) -> BytesProgress:
    """Megabytes and the time that is left, from the speed so far."""
    begun: list[tuple[float, int]] = []

    def report(there: int, total: int | None) -> None:
        if not begun:
            begun.append((time.monotonic(), there))
        passed, new = time.monotonic() - begun[0][0], there - begun[0][1]
        whole = total or max(expected, there)
        note = f"{_size(there)} of {'' if total else 'about '}{_size(whole)}"
        if new and passed > 1.0 and there < whole:
            note += f", {time_left((whole - there) * passed / new)} left"
        progress(stage, there, whole, note)

    return report
