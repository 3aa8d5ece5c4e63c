"""Products with weights as the processor does them fastest: packed and in blocks of rows on CPU, plain elsewhere.

Two things make the difference on CPU (docs/evidence/performance.md, "Segmenters"). oneDNN multiplies by weights that
are packed once for many blocks, adds the bias and applies GELU on the way, where `functional.linear` fills its result
with the bias first. And results of a few MB are reused by the allocator, where larger ones come as fresh pages, each
of which the kernel clears.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

BLOCK_BYTES = 8 * 10**6
"""Size of the widest intermediate result of a block of rows."""
MAP_BYTES = 13 * 10**6
"""Size of the maps that are worked on at once: a third of what glibc's allocator at most keeps for reuse."""

RowProduct = Callable[[Tensor], Tensor]
"""(rows, inputs) → (rows, outputs)."""


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """The type that autocast multiplies in on `device`, None when it is off."""
    kind = device.type
    if not torch.amp.autocast_mode.is_autocast_available(kind) or not torch.is_autocast_enabled(kind):
        return None
    return torch.get_autocast_dtype(kind)


def rows_at_once(rows: int, widest: int, device: torch.device) -> int:
    """How many rows go through a chain of products together, when its widest result has `widest` columns."""
    if device.type != "cpu":
        return rows
    fitting = max(1, BLOCK_BYTES // (4 * widest))
    return min(rows, 1 << (fitting.bit_length() - 1))


def row_product(weight: Tensor, bias: Tensor | None, rows: int, *, gelu: bool = False) -> RowProduct:
    """x ↦ x · weightᵀ + bias, then exact GELU if wanted; prepared for many calls with `rows` rows each.

    Follows autocast. The packed copy of the weights lives as long as the returned function: make it where it is used.
    """
    dtype = _packable(weight)
    if dtype is None:
        return lambda x: _plain(x, weight, bias, gelu)
    packed = torch.ops.mkldnn._reorder_linear_weight(weight.to(dtype), rows)
    small_bias = None if bias is None else bias.to(dtype)
    activation, variant = ("gelu", "none") if gelu else ("none", "")

    def product(x: Tensor) -> Tensor:
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x.to(dtype), packed, small_bias, activation, [], variant)
        return out

    return product


def by_blocks(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """One product of many rows (n, inputs) → (n, outputs), block by block on CPU."""
    step = rows_at_once(len(x), len(weight), x.device)
    product = row_product(weight, bias, step)
    if step >= len(x):
        return product(x)
    out = None
    for start in range(0, len(x), step):
        block = product(x[start : start + step])
        if out is None:
            out = block.new_empty((len(x), len(weight)))
        out[start : start + step] = block
    assert out is not None
    return out


def _plain(x: Tensor, weight: Tensor, bias: Tensor | None, gelu: bool) -> Tensor:
    out = functional.linear(x, weight, bias)
    return functional.gelu(out) if gelu else out


def _packable(weight: Tensor) -> torch.dtype | None:
    """The type to multiply in, if this build of torch can pack such weights for this processor."""
    if weight.device.type != "cpu" or not torch._C._has_mkldnn or torch.compiler.is_compiling():
        return None
    if not hasattr(torch.ops.mkldnn, "_reorder_linear_weight") or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return None
    dtype = autocast_dtype(weight.device) or weight.dtype
    if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return None
    return dtype if dtype in (torch.float32, torch.bfloat16) else None
