"""The key: requests with every answer that counts as right, in two halves, one of which nobody tunes on."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from importlib.resources import files
from typing import Literal

from pydantic import TypeAdapter

from r2seg_agent.frozen import Frozen
from r2seg_agent.imaging.volume import Modality
from r2seg_agent.reason.plan import Side

Half = Literal["held_out", "tuned"]
"""`held_out`: its failures are never read while the planner is changed. `tuned`: free to learn from."""

SPLIT_SEED = 3


class Wanted(Frozen):
    """One plan that a right answer has: concept id, side, and organ names (a group stands for its members)."""

    target: str
    laterality: Side | None
    anchors: tuple[str, ...]


class Case(Frozen):
    """One request about an image of this modality.

    `accept` are the right answers: each a set of plans, or None for a question back. `excluded` names what the request
    rules out, in plain words; an answer need not repeat it, but planning for it is wrong.
    """

    id: str
    category: str
    half: Half
    modality: Modality
    request: str
    accept: tuple[tuple[Wanted, ...] | None, ...]
    excluded: tuple[str, ...] = ()

    @property
    def asks(self) -> bool:
        """Whether a question back is among the right answers."""
        return None in self.accept


_CASES = TypeAdapter(tuple[Case, ...])


def load() -> tuple[Case, ...]:
    """All requests, in the order of the file."""
    return _CASES.validate_json((files(__package__) / "requests.json").read_bytes())


def assign_halves(categories: Sequence[str], seed: int = SPLIT_SEED) -> list[Half]:
    """The half of each request, at random within its category: as many held out as tuned, or one more."""
    places: dict[str, list[int]] = defaultdict(list)
    for i, category in enumerate(categories):
        places[category].append(i)
    halves: list[Half] = ["tuned"] * len(categories)
    rng = random.Random(seed)  # a split, no secret
    for category in sorted(places):
        for i in rng.sample(places[category], (len(places[category]) + 1) // 2):
            halves[i] = "held_out"
    return halves
