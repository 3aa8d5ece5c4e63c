"""A fetched model that takes prompts as a segmenter: `--segmenter NAME`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from r2seg_agent.errors import InputError
from r2seg_agent.segment.catalogue.entries import Entry
from r2seg_agent.segment.catalogue.store import require_entry, require_module, verify_entry
from r2seg_agent.segment.catalogue.units import models_root
from r2seg_agent.segment.nninteractive.segmenter import NnInteractiveSegmenter
from r2seg_agent.segment.protocol import Segmenter
from r2seg_agent.segment.voxtell.segmenter import VoxTellSegmenter


def prompted_segmenter(entry: Entry, parts: str) -> Segmenter:
    """The segmenter for an entry of `PROMPTED_KINDS`; its files are compared with their hashes at every run.

    Raises `MissingDependencyError`, with the command that gets it, for a package or a model that is not on this
    machine; `InputError` for `parts`, which such a model has none of.
    """
    if parts:
        raise InputError(f"`{entry.name}` takes no parts, `{parts}` was given", f"Use `--segmenter {entry.name}`.")
    require_module(entry)
    require_entry(entry)
    return _made(entry, models_root() / entry.name, lambda: verify_entry(entry))


def check_prompted(entry: Entry, folder: Path) -> None:
    """Load the network in `folder` once. Raises what loading raises for files that are no such model."""
    _made(entry, folder, lambda: None).load()


def _made(entry: Entry, folder: Path, check_files: Callable[[], None]) -> NnInteractiveSegmenter | VoxTellSegmenter:
    made = VoxTellSegmenter if entry.kind == "voxtell" else NnInteractiveSegmenter
    return made(folder, entry.licence, check_files)
