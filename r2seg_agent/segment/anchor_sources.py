"""What `--anchors` takes: the sources of `reason/anchors`, and model folders whose classes are organs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from r2seg_agent.reason.anchors import choose
from r2seg_agent.reason.anchors.choose import KeptSources
from r2seg_agent.reason.anchors.protocol import AnchorSource
from r2seg_agent.segment.catalogue.entries import find_entry
from r2seg_agent.segment.protocol import Segmenter
from r2seg_agent.segment.registry import FOLDER_FORMS, segmenter

FOLDER_KINDS: Final = ("nnunet", "bundle")
"""Kinds of model folder that may be a source of anchors; TotalSegmentator's tasks are chosen by `totalsegmentator`."""


def anchor_source(
    spec: str, kept: KeptSources | None = None, segmenter_of: Callable[[str], Segmenter] = segmenter
) -> AnchorSource:
    """As `reason.anchors.choose.anchor_source`, and `nnunet:PATH`, `bundle:PATH` and fetched models of these kinds by
    name, with the parts that they have as segmenters; `#CLASS=ORGAN` says which organ a class is.

    `segmenter_of` gives the model of such a spec: one that is loaded already serves as both.
    """
    if is_model(spec):
        from r2seg_agent.segment.folders.anchors import FolderAnchors
        from r2seg_agent.segment.folders.segmenter import ClassSegmenter

        found = segmenter_of(spec)
        assert isinstance(found, ClassSegmenter)  # the registry makes nothing else of a folder
        return FolderAnchors(found.network)
    return choose.anchor_source(spec, kept, further=[FOLDER_FORMS[kind] for kind in FOLDER_KINDS])


def is_model(spec: str) -> bool:
    """True for `nnunet:…`, `bundle:…`, and a name of the catalogue for one of these."""
    kind, colon, _ = spec.partition(":")
    entry = find_entry(spec.partition("#")[0])
    return (bool(colon) and kind in FOLDER_KINDS) or (entry is not None and entry.kind in FOLDER_KINDS)
