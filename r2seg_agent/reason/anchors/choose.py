"""Which anchor source a run uses: by name, by path, or `auto`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from r2seg_agent.errors import InputError, MissingDependencyError
from r2seg_agent.imaging.volume import Modality, Volume
from r2seg_agent.progress import Progress, silent
from r2seg_agent.reason.anchors.protocol import AnchorSet, AnchorSource, AnchorSourceInfo

Quality = Literal["full", "fast", "fastest"]
SOURCE_NAMES = ("auto", "totalsegmentator", "hounsfield")


def anchor_source(spec: str) -> AnchorSource:
    """The source for `--anchors`: `auto`, `totalsegmentator[:full|fast|fastest]`, `hounsfield`, or a path
    (label map with names, folder of masks, or `MASK=ORGAN`).

    Raises `InputError` for what is neither a name nor an existing path.
    """
    name, _, option = spec.partition(":")
    if name == "totalsegmentator":
        return _totalsegmentator(option or "fast")
    if spec == "hounsfield":
        from r2seg_agent.reason.anchors.hounsfield import HounsfieldSource

        return HounsfieldSource()
    if spec == "auto":
        return AutoSource()
    if Path(spec).exists() or Path(spec.rpartition("=")[0] or spec).exists():
        from r2seg_agent.reason.anchors.masks import MaskSource

        return MaskSource(spec)
    raise InputError(
        f"`--anchors {spec}` is neither an existing file or folder nor one of: {', '.join(SOURCE_NAMES)}",
        "Give a label map with names, a folder of organ masks, MASK=ORGAN, or the name of a source.",
    )


class AutoSource:
    """TotalSegmentator where its weights are present, else HU anchors where they can give the wanted organs.

    Decides at the first `check`, by the plan's organs; from then on it is that source.
    """

    def __init__(self) -> None:
        self._chosen: AnchorSource | None = None

    @property
    def info(self) -> AnchorSourceInfo:
        """The chosen source's info."""
        return (self._chosen or _totalsegmentator("fast")).info

    def organs(self, modality: Modality) -> frozenset[str]:
        """What any of the sources can find."""
        if self._chosen is not None:
            return self._chosen.organs(modality)
        return _totalsegmentator("fast").organs(modality) | anchor_source("hounsfield").organs(modality)

    def check(self, modality: Modality, organs: Sequence[str]) -> None:
        """Choose a source that can find `organs`; raise the better source's error when none can."""
        if self._chosen is not None:
            self._chosen.check(modality, organs)
            return
        model, simple = _totalsegmentator("fast"), anchor_source("hounsfield")
        try:
            model.check(modality, organs)
            self._chosen = model
        except MissingDependencyError:
            if not set(organs) <= simple.organs(modality):
                raise
            self._chosen = simple

    def locate(self, volume: Volume, organs: Sequence[str], progress: Progress = silent) -> AnchorSet:
        """Locate with the chosen source."""
        self.check(volume.modality, organs)
        assert self._chosen is not None
        return self._chosen.locate(volume, organs, progress)


def _totalsegmentator(quality: str) -> AnchorSource:
    from r2seg_agent.reason.anchors.totalsegmentator import TotalSegmentatorSource

    if quality not in get_args(Quality):
        raise InputError(f"`totalsegmentator:{quality}` is unknown; there are: {', '.join(get_args(Quality))}")
    return TotalSegmentatorSource(quality=quality)  # type: ignore[arg-type] # checked just above
