"""Segmenters by name: what `--segmenter` takes and `r2seg doctor` lists."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Final

from r2seg_agent.errors import InputError, MissingDependencyError
from r2seg_agent.plugins import SEGMENTER_GROUP, made_by_plugin, plugins
from r2seg_agent.segment.protocol import Segmenter


def _contrast() -> Segmenter:
    from r2seg_agent.segment.contrast import ContrastSegmenter

    return ContrastSegmenter()


def _biomedparse() -> Segmenter:
    from r2seg_agent.segment.biomedparse.segmenter import BiomedParseSegmenter
    from r2seg_agent.segment.slices import SliceBySlice

    return SliceBySlice(BiomedParseSegmenter.from_environment())


def _lite_medsam() -> Segmenter:
    from r2seg_agent.segment.lite_medsam.segmenter import LiteMedSamVolumeSegmenter

    return LiteMedSamVolumeSegmenter()


SEGMENTERS: Mapping[str, Callable[[], Segmenter]] = {
    "contrast": _contrast,
    "lite-medsam": _lite_medsam,
    "biomedparse": _biomedparse,
}


def _nnunet(text: str) -> Segmenter:
    from r2seg_agent.segment.folders.nnunet import NnUNetFolder
    from r2seg_agent.segment.folders.segmenter import ClassSegmenter
    from r2seg_agent.segment.folders.spec import parse_spec

    return ClassSegmenter(NnUNetFolder(parse_spec(text, "nnunet")))


def _bundle(text: str) -> Segmenter:
    from r2seg_agent.segment.folders.bundle import Bundle
    from r2seg_agent.segment.folders.segmenter import ClassSegmenter
    from r2seg_agent.segment.folders.spec import parse_spec

    return ClassSegmenter(Bundle(parse_spec(text, "bundle")))


def _totalseg(text: str) -> Segmenter:
    from r2seg_agent.segment.catalogue.entries import fetch_command_of_task
    from r2seg_agent.segment.folders.segmenter import ClassSegmenter
    from r2seg_agent.segment.folders.spec import parse_spec
    from r2seg_agent.segment.folders.totalseg_task import TotalSegTask

    spec = parse_spec(text, "totalseg")
    return ClassSegmenter(TotalSegTask(spec, fetch_command=fetch_command_of_task(spec.place)))


FOLDERS: Mapping[str, Callable[[str], Segmenter]] = {
    "nnunet": _nnunet,
    "bundle": _bundle,
    "totalseg": _totalseg,
}
"""Kinds of model folder: each takes a path or a task behind a colon."""
FOLDER_FORMS: Mapping[str, str] = {
    "nnunet": "nnunet:PATH",
    "bundle": "bundle:PATH",
    "totalseg": "totalseg:TASK",
}


AUTO: Final = "auto"
"""Chosen by target and scan (`segment/auto.py`)."""
DEFAULT_VARIABLE: Final = "R2SEG_SEGMENTER"
"""Environment variable that names the segmenter which `auto` means, for those who always want the same one."""


def default_segmenter() -> str:
    """What a run without `--segmenter` uses: `$R2SEG_SEGMENTER`, else `auto`."""
    return os.environ.get(DEFAULT_VARIABLE, "").strip() or AUTO


def segmenter(spec: str) -> Segmenter:
    """The segmenter for `--segmenter`: a name, `KIND:WHAT` for a model folder, or `NAME[:OPTION]` of a plug-in.

    A name may be one of the catalogue (`r2seg models list`), with parts as a model folder has them: `panther#0`.
    `auto` is none: what it means depends on target and scan. A plug-in for single slices is lifted to volumes. Raises
    `InputError` that lists what there is, `MissingDependencyError` for a model of the catalogue that is not on this
    machine, and what the folder or plug-in itself raises.
    """
    from r2seg_agent.segment.catalogue.entries import PROMPTED_KINDS, catalogue, find_entry

    if spec == AUTO:
        raise InputError("what `auto` means depends on the scan and on what is searched for", "Name a segmenter.")
    name, colon, what = spec.partition(":")
    if spec in SEGMENTERS:
        return SEGMENTERS[spec]()
    if colon and name in FOLDERS:
        return FOLDERS[name](what)
    listed, hash_mark, parts = spec.partition("#")
    entry = find_entry(listed)
    if entry is not None and entry.kind in PROMPTED_KINDS:
        from r2seg_agent.segment.catalogue.prompted import prompted_segmenter

        return prompted_segmenter(entry, hash_mark + parts)
    if entry is not None and entry.is_segmenter:
        from r2seg_agent.segment.catalogue.network import fetched_segmenter

        return fetched_segmenter(entry, hash_mark + parts)
    if name not in SEGMENTERS and name not in FOLDERS:
        found = made_by_plugin(SEGMENTER_GROUP, name, what)
        if found is not None:
            return _checked(name, found)
    if entry is not None:
        raise InputError(f"`{entry.name}` is no segmenter of r2seg: {entry.about}. {entry.unproven}", entry.page)
    fetched = [entry.name for entry in catalogue().entries if entry.is_segmenter]
    brought = [plugin.name for plugin in plugins(SEGMENTER_GROUP)]
    raise InputError(
        f"there is no segmenter `{spec}`; there are: "
        f"{', '.join([*sorted(SEGMENTERS), *fetched, *FOLDER_FORMS.values(), *brought])}",
        "Run `r2seg doctor` to see what each one needs, `r2seg models list` for models to fetch.",
    )


def _checked(name: str, found: object) -> Segmenter:
    """A plug-in's product, if it is a segmenter; a 2D one lifted."""
    if not isinstance(found, Segmenter):
        lacking = [m for m in ("info", "check", "encode", "segment") if not hasattr(found, m)]
        raise MissingDependencyError(
            f"the plug-in `{name}` made a {type(found).__name__}, which is no segmenter: it lacks {', '.join(lacking)}",
            "See the protocol `Segmenter` and the template in docs/guide/models.md.",
        )
    if found.info.ndim == 2:
        from r2seg_agent.segment.slices import SliceBySlice

        return SliceBySlice(found)
    return found
