"""Which anchor source a run uses: by name, by path, or `auto`."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from typing import Literal, TypeAlias, get_args

from r2seg_agent.errors import InputError, MissingDependencyError, R2SegError
from r2seg_agent.imaging.files import file_of
from r2seg_agent.imaging.volume import Modality, Volume
from r2seg_agent.plugins import ANCHOR_GROUP, made_by_plugin, plugins
from r2seg_agent.progress import Progress, silent
from r2seg_agent.reason.anchors.protocol import AnchorSet, AnchorSource, AnchorSourceInfo

Quality = Literal["full", "fast", "fastest"]
PREFERRED: tuple[Quality, ...] = ("fast", "full", "fastest")
"""What `auto` tries, the one with the best accuracy for its time first."""
SOURCE_NAMES = ("auto", "totalsegmentator", "hounsfield", "whole")

KeptSources: TypeAlias = MutableMapping[Quality, AnchorSource]
"""TotalSegmentator sources with the networks that they have loaded: handed on from case to case."""


def anchor_source(spec: str, kept: KeptSources | None = None, further: Sequence[str] = ()) -> AnchorSource:
    """The source for `--anchors`: `auto`, `totalsegmentator[:full|fast|fastest]`, `hounsfield`, `whole`, a path
    (label map with names, folder of masks, or `MASK=ORGAN`), or `NAME[:OPTION]` of a plug-in. Networks are taken from
    `kept`, and left there. `further` are forms that the caller knows besides (`segment/anchor_sources.py`), for errors.

    Raises `InputError` for what is neither a name nor an existing path, `MissingDependencyError` for a plug-in that
    fails.
    """
    name, _, option = spec.partition(":")
    if name == "totalsegmentator":
        return _totalsegmentator(option or "fast", kept)
    if spec == "hounsfield":
        from r2seg_agent.reason.anchors.hounsfield import HounsfieldSource

        return HounsfieldSource()
    if spec == "whole":
        from r2seg_agent.reason.anchors.whole_image import WholeImage

        return WholeImage()
    if spec == "auto":
        return AutoSource(kept)
    if any(file_of(path).exists() for path in (spec, spec.rpartition("=")[0] or spec)):
        from r2seg_agent.reason.anchors.masks import MaskSource

        return MaskSource(spec)
    if name not in SOURCE_NAMES and (found := made_by_plugin(ANCHOR_GROUP, name, option)) is not None:
        return _checked(name, found)
    known = [*SOURCE_NAMES, *further, *(plugin.name for plugin in plugins(ANCHOR_GROUP))]
    raise InputError(
        f"`--anchors {spec}` is neither an existing file or folder nor one of: {', '.join(known)}",
        "Give a label map with names, a folder of organ masks, MASK=ORGAN, or the name of a source.",
    )


def _checked(name: str, found: object) -> AnchorSource:
    """A plug-in's product, if it is an anchor source."""
    if not isinstance(found, AnchorSource):
        lacking = [m for m in ("info", "info_for", "organs", "check", "locate") if not hasattr(found, m)]
        raise MissingDependencyError(
            f"the plug-in `{name}` made a {type(found).__name__}, no anchor source: it lacks {', '.join(lacking)}",
            "See the protocol `AnchorSource` and the template in docs/guide/models.md.",
        )
    return found


class AutoSource:
    """TotalSegmentator where its weights are present, else HU anchors where they can give the wanted organs.

    Decides at the first `check` of organs that one of them can give; from then on it is that source.
    """

    def __init__(self, kept: KeptSources | None = None) -> None:
        self._chosen: AnchorSource | None = None
        self._kept: KeptSources = {} if kept is None else kept
        self.settled = ""

    def settle_on(self, spec: str) -> None:
        """Be the source that an earlier process settled on (`settled`)."""
        self._chosen, self.settled = anchor_source(spec, self._kept), spec

    @property
    def info(self) -> AnchorSourceInfo:
        """The chosen source's info."""
        return (self._chosen or _totalsegmentator(PREFERRED[0], self._kept)).info

    def info_for(self, modality: Modality, organs: Sequence[str]) -> AnchorSourceInfo:
        """The chosen source's info for these organs."""
        return self._source(modality, organs).info_for(modality, organs)

    def organs(self, modality: Modality) -> frozenset[str]:
        """What any of the sources can find."""
        if self._chosen is not None:
            return self._chosen.organs(modality)
        rough = _totalsegmentator(PREFERRED[0], self._kept)
        return rough.organs(modality) | anchor_source("hounsfield").organs(modality)

    def check(self, modality: Modality, organs: Sequence[str]) -> None:
        """Choose a source that can find `organs`; raise the best source's error when none can."""
        self._source(modality, organs).check(modality, organs)

    def locate(self, volume: Volume, organs: Sequence[str], progress: Progress = silent) -> AnchorSet:
        """Locate with the chosen source."""
        return self._source(volume.modality, organs).locate(volume, organs, progress)

    def _source(self, modality: Modality, organs: Sequence[str]) -> AnchorSource:
        if self._chosen is not None:
            return self._chosen
        for spec in (*(f"totalsegmentator:{quality}" for quality in PREFERRED), "hounsfield"):
            source = anchor_source(spec, self._kept)
            try:
                source.check(modality, organs)
            except R2SegError:
                continue
            self._chosen, self.settled = source, spec
            return source
        return _totalsegmentator(PREFERRED[0], self._kept)


def _totalsegmentator(quality: str, kept: KeptSources | None) -> AnchorSource:
    from r2seg_agent.reason.anchors.totalseg.source import TotalSegmentatorSource

    known: tuple[Quality, ...] = get_args(Quality)
    wanted = next((entry for entry in known if entry == quality), None)
    if wanted is None:
        raise InputError(f"`totalsegmentator:{quality}` is unknown; there are: {', '.join(known)}")
    kept = {} if kept is None else kept
    if wanted not in kept:
        kept[wanted] = TotalSegmentatorSource(quality=wanted)
    return kept[wanted]
