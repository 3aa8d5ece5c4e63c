"""Embeddings that are kept for further prompts, rounds and requests, within a memory budget."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable

from torch import Tensor

BUDGET_BYTES = 256_000_000
"""Room for about 60 slices of the released network."""


class EmbeddingCache:
    """Remembers the encoder's answers by the content of its input; the ones not used for longest go first.

    By content (sha256) and not by slice number: a widened search, another target in the same window and a second look
    at a slice meet the same pixels again, and nothing can be taken for something else.
    """

    def __init__(self, budget_bytes: int = BUDGET_BYTES) -> None:
        self.budget_bytes = budget_bytes
        self.used_bytes = 0
        self._kept: OrderedDict[bytes, Tensor] = OrderedDict()

    def get(self, image: Tensor, encode: Callable[[Tensor], Tensor]) -> Tensor:
        """`encode(image)`, or what it answered before; `image` is (1, channels, size, size) float32 on the CPU."""
        # Grey slices are one channel, expanded to three: that one is enough.
        distinct = image[:, :1] if image.stride(1) == 0 else image
        key = hashlib.sha256(distinct.contiguous().numpy().tobytes()).digest()
        if (known := self._kept.get(key)) is not None:
            self._kept.move_to_end(key)
            return known
        fresh = encode(image)
        size = fresh.numel() * fresh.element_size()
        while self._kept and self.used_bytes + size > self.budget_bytes:
            _, oldest = self._kept.popitem(last=False)
            self.used_bytes -= oldest.numel() * oldest.element_size()
        if size <= self.budget_bytes:
            self._kept[key] = fresh
            self.used_bytes += size
        return fresh
