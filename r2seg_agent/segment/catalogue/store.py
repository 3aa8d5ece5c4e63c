"""What lies in the cache of the catalogue: a record beside each model, hashes pinned for good, and removing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal, NamedTuple

from pydantic import ValidationError

from r2seg_agent.errors import InputError, MissingDependencyError
from r2seg_agent.files import cached_file_sha256, write_text_atomic
from r2seg_agent.frozen import Frozen
from r2seg_agent.segment.catalogue.entries import Entry
from r2seg_agent.segment.catalogue.units import Unit, entries_using, is_whole, models_root, units

RECORD_NAME: Final = "r2seg-fetched.json"

State = Literal["ready", "incomplete", "absent"]


class FilePin(Frozen):
    """One installed file as it was when it was installed."""

    sha256: str
    size_bytes: int


class Record(Frozen):
    """Beside an installed folder. `origin`: the server it came from, or "a folder". `files` by relative path."""

    name: str
    licence: str
    origin: str
    files: Mapping[str, FilePin]


class Removed(NamedTuple):
    """How many bytes are free again, and folders that stay because another model needs them."""

    freed_bytes: int
    kept: tuple[str, ...]


def state_of(entry: Entry) -> State:
    """Whether the model can be used. Cheap: looks at names and sizes, not at bytes (see `verify_entry`)."""
    found = {_state(unit) for unit in units(entry)}
    if found == {"ready"}:
        return "ready"
    return "absent" if found == {"absent"} else "incomplete"


def is_ready(unit: Unit) -> bool:
    """True for a folder that need not be fetched."""
    return _state(unit) == "ready"


def _state(unit: Unit) -> State:
    record = record_of(unit.folder)
    if record is None:
        if is_whole(unit):
            return "ready"  # put there by TotalSegmentator itself, or by hand
        return "incomplete" if unit.folder.exists() else "absent"
    sizes = {path: (unit.folder / path).stat().st_size for path in record.files if (unit.folder / path).is_file()}
    return "ready" if sizes == {path: pin.size_bytes for path, pin in record.files.items()} else "incomplete"


def require_entry(entry: Entry) -> None:
    """Raise `MissingDependencyError`, with the command that gets it, for a model that is not here or not whole."""
    state = state_of(entry)
    if state != "ready":
        what = "is not on this machine" if state == "absent" else "is incomplete"
        raise MissingDependencyError(
            f"the model `{entry.name}` ({entry.size}, licence {entry.licence}) {what}.",
            f"Run `r2seg models fetch {entry.name}`.",
        )


def require_module(entry: Entry) -> None:
    """Raise `MissingDependencyError`, with the command that installs it, for a model whose package is not here."""
    if not entry.module_here:
        raise MissingDependencyError(
            f"the model `{entry.name}` needs the package `{entry.module}`, which is not installed.", entry.install
        )


def verify_entry(entry: Entry) -> None:
    """Compare every byte with what was installed.

    Raises `MissingDependencyError` for a model that is missing, incomplete or damaged.
    """
    require_entry(entry)
    for unit in units(entry):
        if (path := damaged_file(unit)) is not None:
            raise MissingDependencyError(
                f"`{path}` of the model `{entry.name}` is damaged, or another file than the one that was fetched: its "
                "sha256 differs.",
                f"Run `r2seg models fetch {entry.name}` to get it anew.",
            )


def damaged_file(unit: Unit) -> str | None:
    """The first file of a folder that this program installed whose bytes are others now; None where all are the same.

    Hashes are remembered in the process for as long as a file's time and size stay the same.
    """
    record = record_of(unit.folder)
    for path, pin in (record.files if record else {}).items():
        status = (unit.folder / path).stat()
        if cached_file_sha256(unit.folder / path, status.st_mtime_ns, status.st_size) != pin.sha256:
            return path
    return None


def remove_entry(entry: Entry, *, forget: bool = False) -> Removed:
    """Delete what was fetched of the model, unfinished downloads too; the pinned hashes stay unless `forget`.

    Raises `InputError` for a model that was not fetched by this program, or a folder that cannot be deleted.
    """
    freed, kept, foreign = 0, [], []
    for unit in units(entry):
        freed += _delete(parts_folder(unit)) + clear_leftovers(unit)
        others = [other.name for other in entries_using(unit) if other != entry and state_of(other) == "ready"]
        if record_of(unit.folder) is None:
            foreign += [unit.name] if unit.folder.exists() else []
        elif others:
            kept.append(f"{unit.name} (needed by {', '.join(others)})")
        else:
            freed += _delete(unit.folder)
        if forget:
            pins_path(unit).unlink(missing_ok=True)
    if foreign and not freed:
        raise InputError(
            f"`{', '.join(foreign)}` was not fetched by `r2seg models fetch`, so it is not removed",
            "Delete the folder by hand if you want the space.",
        )
    if not freed and not kept and not forget:
        raise InputError(
            f"nothing of the model `{entry.name}` is on this machine", "`r2seg models list` shows what is."
        )
    return Removed(freed, tuple(kept))


def record_of(folder: Path) -> Record | None:
    """The record in an installed folder; None where this program installed nothing."""
    try:
        return Record.model_validate_json((folder / RECORD_NAME).read_bytes())
    except (OSError, ValidationError):
        return None


def write_record(folder: Path, record: Record) -> None:
    """Write the record of a folder that is about to be installed."""
    write_text_atomic(folder / RECORD_NAME, record.model_dump_json(indent=1) + "\n")


def pins_of(unit: Unit) -> dict[str, str]:
    """The sha256 that each downloaded file had when it first arrived on this machine, by its source."""
    try:
        found = json.loads(pins_path(unit).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}


def write_pins(unit: Unit, pins: Mapping[str, str]) -> None:
    """Keep the hashes of the downloaded files; they outlive the model."""
    write_text_atomic(pins_path(unit), json.dumps(dict(pins), indent=1) + "\n")


def pins_path(unit: Unit) -> Path:
    """Where a folder's pinned hashes lie."""
    return models_root() / ".pins" / f"{unit.name}.json"


def parts_folder(unit: Unit) -> Path:
    """Where unfinished downloads lie."""
    return models_root() / ".parts" / unit.name


def scratch_prefix(unit: Unit) -> str:
    """How the folders begin in which a model is made, beside its place."""
    return f".part-{unit.name}-"


def clear_leftovers(unit: Unit) -> int:
    """Delete what a killed process left half made; the bytes that it held. Only while no other process installs."""
    return sum(_delete(folder) for folder in unit.folder.parent.glob(f"{scratch_prefix(unit)}*"))


def _delete(folder: Path) -> int:
    """Delete a folder; the bytes that it held."""
    if not folder.is_dir():
        return 0
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise InputError(
            f"cannot delete `{folder}`: {error.strerror or error}", "Delete it by hand, or as the user who owns it."
        ) from error
    return size
