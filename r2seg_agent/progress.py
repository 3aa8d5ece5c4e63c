"""How long work reports that it is alive, without knowing who listens (terminal, graph stream, nobody)."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called as `progress("anchors", 3, 10, "tile")`: stage name, steps done, steps in all, what now."""

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Report that `done` of `total` steps of `stage` are finished."""
        ...


def silent(stage: str, done: int, total: int, note: str = "") -> None:
    """A `Progress` that tells nobody."""
