"""What is on the table: the findings, targets and level that a message of the user can speak of."""

from __future__ import annotations

from dataclasses import dataclass

from r2seg_agent.imaging.volume import Modality


@dataclass(frozen=True, slots=True)
class FindingRow:
    """A finding as users refer to it. `target` is the number of its target, `place` is in patient terms."""

    number: int
    target: int
    concept: str
    name: str
    place: str
    size: str
    volume_ml: float


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A rejected candidate; `number` counts in the order in which the user is shown them."""

    number: int
    id: str
    target: int
    volume_ml: float
    why: str


@dataclass(frozen=True, slots=True)
class TargetRow:
    """A target of the search. `outcome` is "" while its search is under way."""

    number: int
    concept: str
    name: str
    anchors: tuple[str, ...]
    outcome: str = ""
    rounds: int = 0


@dataclass(frozen=True, slots=True)
class Table:
    """Everything that "it", "the second one" or "the liver" may mean. `focus` is the finding spoken of last."""

    modality: Modality = "unknown"
    targets: tuple[TargetRow, ...] = ()
    findings: tuple[FindingRow, ...] = ()
    rejected: tuple[RejectedRow, ...] = ()
    focus: int | None = None
