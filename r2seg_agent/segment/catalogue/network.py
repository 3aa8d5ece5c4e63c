"""A fetched model as a segmenter: `--segmenter NAME`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from r2seg_agent.imaging.geometry import Box
from r2seg_agent.imaging.volume import FloatArray, Volume
from r2seg_agent.segment.catalogue.entries import Entry
from r2seg_agent.segment.catalogue.store import require_entry, require_module, verify_entry
from r2seg_agent.segment.catalogue.units import models_root
from r2seg_agent.segment.folders.classes import ClassTable
from r2seg_agent.segment.folders.segmenter import ClassNetwork, ClassSegmenter
from r2seg_agent.segment.folders.spec import parse_spec
from r2seg_agent.segment.protocol import ChecksScan, SegmenterInfo


class PinnedNetwork:
    """A `ClassNetwork` whose files are compared with the hashes that they had when they were fetched."""

    def __init__(self, entry: Entry, network: ClassNetwork) -> None:
        self._entry, self._network = entry, network

    @property
    def info(self) -> SegmenterInfo:
        """The network's own."""
        return self._network.info

    @property
    def table(self) -> ClassTable:
        """The network's own."""
        return self._network.table

    @property
    def channels(self) -> tuple[str, ...]:
        """The network's own."""
        return self._network.channels

    def check(self) -> None:
        """Raise `MissingDependencyError` for changed files, and what the network's own check raises."""
        verify_entry(self._entry)
        self._network.check()

    def check_scan(self, volume: Volume) -> None:
        """What the network's own `check_scan` raises, where it has one."""
        if isinstance(self._network, ChecksScan):
            self._network.check_scan(volume)

    def probabilities(self, volume: Volume, roi: Box, classes: Sequence[str] | None = None) -> Mapping[str, FloatArray]:
        """The network's own."""
        return self._network.probabilities(volume, roi, classes)


def fetched_segmenter(entry: Entry, parts: str) -> ClassSegmenter:
    """The segmenter for an entry; `parts` are those of a model folder ("#0,1#nomirror"), each with its `#`.

    Raises `MissingDependencyError`, with the command that gets it, when the model is not on this machine; `InputError`
    for parts that are not understood.
    """
    require_module(entry)
    require_entry(entry)
    return ClassSegmenter(PinnedNetwork(entry, _network(entry, parts)))


def _network(entry: Entry, parts: str) -> ClassNetwork:
    from r2seg_agent.segment.folders.bundle import Bundle
    from r2seg_agent.segment.folders.nnunet import NnUNetFolder
    from r2seg_agent.segment.folders.totalseg_task import TotalSegTask

    if entry.kind == "totalseg":
        return TotalSegTask(parse_spec(f"{entry.task}{parts}", "totalseg"))
    kind = "nnunet" if entry.kind == "nnunet" else "bundle"
    # Who fetched a model named it and accepted its licence; its hashes are those of that day.
    changes = {"place": str(models_root() / entry.name), "trust": True}
    spec = parse_spec(f"{entry.name}{parts}", kind).model_copy(update=changes)
    return NnUNetFolder(spec) if entry.kind == "nnunet" else Bundle(spec)
