"""What an entry installs: a folder in the cache, or weight sets in TotalSegmentator's own place."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from r2seg_agent.errors import MissingDependencyError
from r2seg_agent.files import cache_root
from r2seg_agent.reason.anchors.totalseg.tasks import WeightSet, task_spec
from r2seg_agent.reason.anchors.totalseg.weights import check_weights, default_weights_dir
from r2seg_agent.segment.catalogue.entries import Entry, RemoteFile, catalogue

ZIP_BYTES_UNKNOWN = 250_000_000


class Unit(NamedTuple):
    """One folder that is installed, and removed, as a whole. `weights` is set for a set of TotalSegmentator's, whose
    one file is an archive that holds the folder.
    """

    name: str
    folder: Path
    files: tuple[RemoteFile, ...]
    weights: WeightSet | None = None


def models_root() -> Path:
    """Where fetched models lie: `models` in the cache."""
    return cache_root() / "models"


def units(entry: Entry) -> tuple[Unit, ...]:
    """The folders of an entry that is fetched; TotalSegmentator's tasks share some."""
    if entry.task is None:
        return (Unit(entry.name, models_root() / entry.name, entry.files),)
    return tuple(_set_unit(needed) for needed in weight_sets(entry))


def weight_sets(entry: Entry) -> tuple[WeightSet, ...]:
    """TotalSegmentator's sets for the entry's task, those of its rough crop included."""
    assert entry.task is not None
    found = list(task_spec(entry.task, entry.quality).all_sets())
    if entry.kind == "anchors" and entry.quality == "full":  # `plan_runs` crops around the organs by a rough network
        rough = task_spec(entry.task, "fast" if entry.task == "total_mr" else "fastest")
        found = [*rough.all_sets(), *found]
    return tuple({needed.set_id: needed for needed in found}.values())


def entries_using(unit: Unit) -> tuple[Entry, ...]:
    """All entries that need this folder."""
    return tuple(
        entry
        for entry in catalogue().entries
        if entry.fetched and any(own.folder == unit.folder for own in units(entry))
    )


def is_whole(unit: Unit) -> bool:
    """For a set of TotalSegmentator's: it is there and can be used, whoever put it there."""
    if unit.weights is None:
        return False
    try:
        check_weights(unit.folder.parent, [unit.weights])
    except MissingDependencyError:
        return False
    return True


def _set_unit(needed: WeightSet) -> Unit:
    from totalsegmentator.map_tasks_config import TASK_ID_WEIGHTS_CONFIGS

    release = TASK_ID_WEIGHTS_CONFIGS[needed.set_id]["version"]
    archive = RemoteFile(
        source=f"{release}/{needed.folder}.zip",
        size_bytes=catalogue().totalseg_zip_bytes.get(needed.set_id, ZIP_BYTES_UNKNOWN),
    )
    return Unit(needed.folder, default_weights_dir() / needed.folder, (archive,), needed)
