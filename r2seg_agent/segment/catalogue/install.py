"""A checked model folder from the files that arrived: placed, unpacked, looked at, then put in its place as a whole."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from r2seg_agent.data.unpack import Limits, unpack, unpack_member
from r2seg_agent.errors import InputError, MissingDependencyError, R2SegError, RunFailedError
from r2seg_agent.files import file_sha256, write_text_atomic
from r2seg_agent.reason.anchors.totalseg.weights import check_weights
from r2seg_agent.segment.catalogue.entries import PROMPTED_KINDS, Entry, RemoteFile
from r2seg_agent.segment.catalogue.prompted import check_prompted
from r2seg_agent.segment.catalogue.store import FilePin, Record, clear_leftovers, scratch_prefix, write_record
from r2seg_agent.segment.catalogue.units import Unit
from r2seg_agent.segment.folders.bundle import Bundle
from r2seg_agent.segment.folders.bundle_manifest import MANIFEST_NAME
from r2seg_agent.segment.folders.nnunet import NnUNetFolder
from r2seg_agent.segment.folders.side_file import FILE_NAME
from r2seg_agent.segment.folders.spec import ModelSpec

UNPACKED: Final = 4
"""An archive may unpack to this many times its own size."""
SPARE_BYTES: Final = 200_000_000


def check_space(unit: Unit) -> None:
    """Raise `InputError` where the disk cannot hold the files twice, as they arrive and as they are installed."""
    needed = 2 * sum(file.size_bytes for file in unit.files) + SPARE_BYTES
    place = next(path for path in unit.folder.parents if path.exists())
    free = shutil.disk_usage(place).free
    if free < needed:
        raise InputError(
            f"`{unit.name}` needs {needed / 1e9:.1f} GB while it is installed, the disk has {free / 1e9:.1f} GB free",
            "Make room, or set R2SEG_CACHE (TOTALSEG_WEIGHTS_PATH for TotalSegmentator) to another disk.",
        )


def install(entry: Entry, unit: Unit, arrived: Mapping[RemoteFile, Path], origin: str) -> None:
    """Make the folder beside its place and rename it. `origin` goes into the record.

    Raises `MissingDependencyError` for files that are no such model, `InputError` where the place cannot be written,
    `RunFailedError` when the disk is full. Whatever goes wrong, what was installed before is still there.
    """
    with disk_errors(unit.folder.parent):
        unit.folder.parent.mkdir(parents=True, exist_ok=True)
        clear_leftovers(unit)
        with tempfile.TemporaryDirectory(dir=unit.folder.parent, prefix=scratch_prefix(unit)) as scratch:
            folder = Path(scratch) / unit.folder.name
            folder.mkdir()
            for file, path in arrived.items():
                _place(unit, file, path, folder)
            _write_side_files(entry, folder)
            _check_usable(entry, unit, folder)
            write_record(
                folder, Record(name=entry.name, licence=entry.licence, origin=origin, files=_file_pins(folder))
            )
            if unit.folder.exists():
                unit.folder.replace(Path(scratch) / "before")
            folder.replace(unit.folder)


@contextmanager
def disk_errors(place: Path) -> Iterator[None]:
    """Errors of the disk, for the person who can change the place or make room."""
    try:
        yield
    except PermissionError as error:
        raise InputError(
            f"cannot write into `{place}`: {error.strerror}",
            "Set R2SEG_CACHE (TOTALSEG_WEIGHTS_PATH for TotalSegmentator) to a folder of yours.",
        ) from error
    except OSError as error:
        raise RunFailedError(
            f"cannot write into `{place}`: {error.strerror or error}",
            "Check the free space of the disk, then run again: downloads are kept.",
        ) from error


def _file_pins(folder: Path) -> dict[str, FilePin]:
    return {
        path.relative_to(folder).as_posix(): FilePin(sha256=file_sha256(path), size_bytes=path.stat().st_size)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _place(unit: Unit, file: RemoteFile, path: Path, folder: Path) -> None:
    """Put one file where it belongs in the new folder."""
    target = folder / file.place
    limits = Limits(UNPACKED * file.limit_bytes)
    if unit.weights is not None:
        _unpack_set(path, folder, limits)
    elif file.member is not None:
        unpack_member(path, file.member, target, limits)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def _unpack_set(path: Path, folder: Path, limits: Limits) -> None:
    """An archive of TotalSegmentator's holds the folder itself."""
    scratch = folder.with_name(folder.name + ".unpacked")
    unpack(path, scratch, limits)
    if not (scratch / folder.name).is_dir():
        raise MissingDependencyError(
            f"the archive `{path.name}` does not hold the folder `{folder.name}`",
            "Nothing was installed. Look at the page of the model for a new place of its weights.",
        )
    folder.rmdir()
    (scratch / folder.name).replace(folder)


def _write_side_files(entry: Entry, folder: Path) -> None:
    """What the weights do not say about themselves."""
    if entry.side_file is not None:
        write_text_atomic(folder / FILE_NAME, entry.side_file.model_dump_json(indent=1, exclude_defaults=True) + "\n")
    if entry.kind == "bundle":
        manifest = entry.manifest_for(file_sha256(folder / str((entry.manifest or {})["file"])))
        write_text_atomic(folder / MANIFEST_NAME, manifest.model_dump_json(indent=1) + "\n")


def _check_usable(entry: Entry, unit: Unit, folder: Path) -> None:
    """Raise `MissingDependencyError` for files that are no such model: a login page, a cut-off checkpoint."""
    try:
        if unit.weights is not None:
            check_weights(folder.parent, [unit.weights])
        elif entry.kind == "nnunet":
            network = NnUNetFolder(ModelSpec(place=str(folder)))
            network.check()
            if not network.table.wanted:
                raise MissingDependencyError(f"none of its classes stands for a lesion ({network.table.label})")
        elif entry.kind in PROMPTED_KINDS:
            check_prompted(entry, folder)
        else:
            bundle = Bundle(ModelSpec(place=str(folder), trust=True))
            bundle.check()
            if bundle.manifest.format == "vista3d":  # no hash is published: a login page has one too
                bundle.load()
    except R2SegError as error:
        raise MissingDependencyError(
            f"what arrived for `{entry.name}` cannot be used: {error.message.replace(str(folder), entry.name)}",
            f"Nothing was installed. Look at {entry.page}: its authors may have changed the files.",
        ) from error
