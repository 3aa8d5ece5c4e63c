"""`r2seg models fetch`: licence, download, checks, installation, and hashes pinned for good."""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from r2seg_agent.data.download import Wait
from r2seg_agent.errors import InputError, MissingDependencyError
from r2seg_agent.progress import Progress, silent
from r2seg_agent.segment.catalogue.arrive import bring, checked_sha256, is_folder
from r2seg_agent.segment.catalogue.entries import Entry, entry_named
from r2seg_agent.segment.catalogue.install import check_space, disk_errors, install
from r2seg_agent.segment.catalogue.store import (
    damaged_file,
    is_ready,
    parts_folder,
    record_of,
    require_module,
    write_pins,
)
from r2seg_agent.segment.catalogue.units import Unit, models_root, units


class Fetched(NamedTuple):
    """`folders` hold the model; `new` is False when all of it was there already."""

    entry: Entry
    folders: tuple[Path, ...]
    new: bool


def check_licence(entry: Entry, accepted: Collection[str]) -> None:
    """Raise `InputError` where the licence has conditions and its name is not among those `accepted`."""
    if entry.must_accept and entry.licence.casefold() not in {name.casefold() for name in accepted}:
        given = f"; `{', '.join(accepted)}` was given" if accepted else ""
        raise InputError(
            f"the weights of `{entry.name}` have the licence {entry.licence}, which must be accepted by name{given}. "
            f"{entry.terms}".rstrip(),
            f"Read it ({entry.page}), then add `--accept '{entry.licence}'`.",
        )


def fetchable(name: str) -> Entry:
    """The entry called `name`; `InputError` for an unknown one, or one that no part of r2seg runs."""
    entry = entry_named(name)
    if not entry.fetched:
        raise InputError(
            f"`{name}` is not fetched: no part of r2seg runs it. {entry.unproven}",
            f"Its page is {entry.page}; docs/guide/models.md shows how to write a plug-in.",
        )
    return entry


def fetch_model(
    name: str,
    *,
    origin: str | None = None,
    accepted: Collection[str] = (),
    progress: Progress = silent,
    wait: Wait = time.sleep,
) -> Fetched:
    """Put the model `name` into its place, unless a good copy is there already, which needs no network.

    `origin` is a folder with its files or the address of a mirror, instead of the entry's own address.

    Raises:
        InputError: no such name, nothing to fetch, a licence that is not accepted, another process fetches a model, or
            the place cannot be written.
        MissingDependencyError: a package that the model needs is missing, a download fails, or the files are not what
            they should be; nothing is installed.
        RunFailedError: the disk is full.
    """
    entry = fetchable(name)
    check_licence(entry, accepted)
    require_module(entry)
    folders = tuple(unit.folder for unit in units(entry))
    missing = [unit for unit in units(entry) if not is_ready(unit) or damaged_file(unit) is not None]
    if missing:
        with _alone(entry):
            for unit in missing:
                _fetch_unit(entry, unit, origin, progress, wait)
    return Fetched(entry, folders, new=bool(missing))


def _fetch_unit(entry: Entry, unit: Unit, origin: str | None, progress: Progress, wait: Wait) -> None:
    if unit.folder.exists() and record_of(unit.folder) is None:
        raise InputError(
            f"`{unit.folder}` is there, but incomplete or broken, and was not fetched by r2seg",
            f"Delete that folder, then run `r2seg models fetch {entry.name}` again.",
        )
    check_space(unit)
    arrived = {file: bring(entry, unit, file, origin, progress, wait) for file in unit.files}
    pins = {file.source: checked_sha256(entry, unit, file, path) for file, path in arrived.items()}
    progress(f"install {unit.name}", 0, 1, "unpack and check")
    host = "a folder" if is_folder(origin) else urlsplit(origin or entry.address).hostname or ""
    try:
        install(entry, unit, arrived, host)
    except MissingDependencyError:  # whole downloads of something else: the next attempt begins anew
        shutil.rmtree(parts_folder(unit), ignore_errors=True)
        raise
    write_pins(unit, pins)
    shutil.rmtree(parts_folder(unit), ignore_errors=True)
    progress(f"install {unit.name}", 1, 1, "done")


@contextmanager
def _alone(entry: Entry) -> Iterator[None]:
    """One process at a time installs models; another one gets an error at once."""
    root = models_root()
    lock = FileLock(root / ".lock")
    with disk_errors(root):
        root.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise InputError(
                f"another process is fetching a model, so `{entry.name}` has to wait", "Run again when it has finished."
            ) from error
    try:
        yield
    finally:
        lock.release()
