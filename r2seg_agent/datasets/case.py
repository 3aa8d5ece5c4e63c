"""One scan of a data set, and a data set as it was recognised."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import model_validator

from r2seg_agent.datasets.layouts import LAYOUT_WORDS, LayoutName
from r2seg_agent.frozen import Frozen
from r2seg_agent.names import utf8_paths

IMAGE_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd", ".dcm", ".png", ".jpg", ".jpeg", ".tif", ".tiff")
"""File names in a folder that are taken for scans."""


class Case(Frozen):
    """One scan of a data set. Paths are as the user gave them, those of a table relative to the table's folder.

    `patient` groups scans of one person; without it each scan counts as a person of its own. `anchors` and `truth` are
    what `find --anchors` and `--truth` take; `channels` are further images of the case, name → file. `further` holds
    other columns of the user's table: they change nothing and stand in the results again.
    """

    image: str
    patient: str
    request: str | None = None
    anchors: str | None = None
    truth: str | None = None
    modality: str | None = None
    series: str | None = None
    channels: Mapping[str, str] = {}
    further: Mapping[str, str] = {}

    @model_validator(mode="before")
    @classmethod
    def _in_utf8(cls, value: object) -> object:
        """Files in the folder of a data set may have names that no table can hold."""
        return utf8_paths(value)


class Dataset(Frozen):
    """What `read_dataset` found: the layout that it recognised, the cases, and what the user must know of both."""

    layout: LayoutName
    cases: tuple[Case, ...]
    notes: tuple[str, ...] = ()

    @property
    def layout_words(self) -> str:
        """The layout in words."""
        return LAYOUT_WORDS[self.layout]


class Wanted(Frozen):
    """What the user asks of a data set. `request` and `lesion_labels` decide which labels are the lesion; `only` are
    file name patterns; `anchors` and `modality` are false where the user has named them for all cases."""

    request: str | None = None
    lesion_labels: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    anchors: bool = True
    modality: bool = True


def case_name(path: Path) -> str:
    """The file's name without its ending: "a.nii.gz" → "a"."""
    lower = path.name.lower()
    longest = max((suffix for suffix in IMAGE_SUFFIXES if lower.endswith(suffix)), key=len, default="")
    return path.name[: len(path.name) - len(longest)]
