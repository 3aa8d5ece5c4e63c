"""What a message of the user asks for: one small value per ask, in the order of the message."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Plane = Literal["axial", "coronal", "sagittal"]

Topic = Literal[
    "help", "thanks", "greeting", "bye", "diagnosis", "unknown", "missing", "alpha", "level", "organ", "exclude",
    "export",
]  # fmt: skip
"""What is answered in words alone. `alpha`: which level holds; `level`: another level is wanted but not said;
`organ`: something of an organ, not of a lesion; `missing`: no finding fits the words."""


@dataclass(frozen=True)
class Which:
    """Which findings or rejected candidates are meant.

    `numbers` are those that the words fit. `unsure`: one of several is meant and the words do not say which, so the
    user must be asked. `candidate` is an id such as t1r1c2. `missing` holds the words that no finding fits.
    """

    kind: Literal["finding", "rejected"] = "finding"
    numbers: tuple[int, ...] = ()
    unsure: bool = False
    candidate: str = ""
    missing: str = ""


@dataclass(frozen=True)
class Find:
    """Search for what `phrase` (the user's own words) names."""

    phrase: str


@dataclass(frozen=True)
class Describe:
    """How big; with no numbers, all findings."""

    which: Which


@dataclass(frozen=True)
class Locate:
    """Where in the patient."""

    which: Which


@dataclass(frozen=True)
class Explain:
    """Why kept or rejected; a rejected kind without numbers means the rejected ones as a whole."""

    which: Which


@dataclass(frozen=True)
class Show:
    """A picture. `region`: of the region that was searched for `target` (None: the last), not of one finding."""

    which: Which
    plane: Plane | None = None
    region: bool = False
    target: int | None = None


@dataclass(frozen=True)
class Same:
    """ "And the second one?": what was asked before, of something else."""

    which: Which


@dataclass(frozen=True)
class Widen:
    """Search further; `target` None: the current one."""

    target: int | None = None


@dataclass(frozen=True)
class Include:
    """Search these organs too; as canonical names, or as typed where the organ table does not know the word."""

    organs: tuple[str, ...]
    target: int | None = None


@dataclass(frozen=True)
class SetAlpha:
    """Judge by another significance level; the value may be out of range."""

    alpha: float


@dataclass(frozen=True)
class Undo:
    """Take the last turn back."""


@dataclass(frozen=True)
class Summarize:
    """What was done so far."""


@dataclass(frozen=True)
class Remark:
    """Something that is answered in words alone; `text` holds the user's words."""

    topic: Topic
    text: str = ""


Intent = Find | Describe | Locate | Explain | Show | Same | Widen | Include | SetAlpha | Undo | Summarize | Remark
