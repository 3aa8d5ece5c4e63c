"""Encoded slices within a memory budget: at 1024² one takes about 220 MB, and a volume has hundreds."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from r2seg_agent.segment.biomedparse.decoder import ImageFeatures


class FeatureCache:
    """Least recently used first out; holds at least the newest entry."""

    def __init__(self, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self._kept: OrderedDict[Hashable, ImageFeatures] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], ImageFeatures]) -> ImageFeatures:
        """What is kept under `key`, or what `make` returns, which is then kept."""
        found = self._kept.get(key)
        if found is None:
            # Room is made first, so that old and new are never in memory together beyond the budget.
            size = max((_bytes(kept) for kept in self._kept.values()), default=0)
            while self._kept and self.used_bytes + size > self.budget_bytes:
                self._kept.popitem(last=False)
            found = make()
            self._kept[key] = found
        self._kept.move_to_end(key)
        return found

    @property
    def used_bytes(self) -> int:
        """Memory of all kept features."""
        return sum(_bytes(kept) for kept in self._kept.values())


def _bytes(features: ImageFeatures) -> int:
    return sum(t.nbytes for t in (features.finest, *features.scales, *features.small))
