"""Encoded slices within a memory budget: at 1024² one takes about 220 MB, and a volume has hundreds."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from r2seg_agent.segment.biomedparse.decoder import ImageFeatures


class FeatureCache:
    """Least recently used first out; holds at least the newest entry."""

    def __init__(self, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self._kept: OrderedDict[Hashable, ImageFeatures] = OrderedDict()

    def find(self, key: Hashable) -> ImageFeatures | None:
        """What is kept under `key`, which then counts as just used."""
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
        return found

    def make_room(self, n: int = 1) -> None:
        """Drop what `n` further entries leave no room for: before they are made, so that memory never holds both."""
        size = max((_bytes(kept) for kept in self._kept.values()), default=0)
        while self._kept and self.used_bytes + n * size > self.budget_bytes:
            self._kept.popitem(last=False)

    def keep(self, key: Hashable, features: ImageFeatures) -> None:
        """Keep a new entry and what the budget allows besides it."""
        self._kept[key] = features
        while len(self._kept) > 1 and self.used_bytes > self.budget_bytes:
            self._kept.popitem(last=False)

    @property
    def used_bytes(self) -> int:
        """Memory of all kept features."""
        return sum(_bytes(kept) for kept in self._kept.values())


def _bytes(features: ImageFeatures) -> int:
    return sum(t.nbytes for t in (features.finest, *features.scales, *features.small))
