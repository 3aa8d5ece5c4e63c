"""The rows that the tables and the plots of docs/evidence/validity-real-tissue.md share."""

from __future__ import annotations

from typing import NamedTuple

from studies.validity.intervals import Share
from studies.validity.real_tissue import Lesion, Split


class LevelRow(NamedTuple):
    """One tissue: lesion-free blocks called a finding, and blocks that the profile diagnostic warns about."""

    name: str
    blocks: int
    candidates: float
    paper: Share
    level: dict[Split, Share | None]
    n: dict[Split, int]
    warned: dict[Split, Share]


class PowerRow(NamedTuple):
    """Lesions found in all scans of one organ: proposed by the segmenter, and surviving by split."""

    organ: str
    lesion: Lesion
    proposed: Share
    power: dict[Split, Share]
