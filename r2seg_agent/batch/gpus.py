"""Which GPUs each worker of this machine may see."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

from r2seg_agent.errors import InputError

VARIABLE = "CUDA_VISIBLE_DEVICES"


def gpu_shares(gpus: Sequence[str], workers: int, gpus_per_worker: float) -> tuple[str, ...]:
    """The value of `CUDA_VISIBLE_DEVICES` for each worker; empty when no worker asks for a GPU.

    Whole numbers give each worker GPUs of its own; a part lets ⌊1/part⌋ workers share one. Raises `InputError` when
    `gpus` are too few, or for 1.5, which no one can share.
    """
    if gpus_per_worker == 0:
        return ()
    if gpus_per_worker < 0 or (gpus_per_worker > 1 and gpus_per_worker != int(gpus_per_worker)):
        raise InputError(
            f"`--gpus-per-worker {gpus_per_worker:g}` cannot be shared out",
            "Give a whole number, or a part of 1 such as 0.5: two workers then share one GPU.",
        )
    if gpus_per_worker < 1:
        sharing = math.floor(1 / gpus_per_worker + 1e-9)
        needed = math.ceil(workers / sharing)
        shares: list[tuple[int, ...]] = [(worker // sharing,) for worker in range(workers)]
    else:
        each = int(gpus_per_worker)
        needed = workers * each
        shares = [tuple(range(worker * each, (worker + 1) * each)) for worker in range(workers)]
    if needed > len(gpus):
        there = f"there {'is' if len(gpus) == 1 else 'are'} {len(gpus) or 'none'}"
        raise InputError(
            f"{workers} worker{'s' * (workers != 1)} with {gpus_per_worker:g} GPUs each need {needed}, {there}",
            "Give fewer --workers or a smaller --gpus-per-worker; 0 leaves the choice to the models.",
        )
    return tuple(",".join(gpus[index] for index in share) for share in shares)


def visible_gpus() -> tuple[str, ...]:
    """The GPUs that this process may hand on, as `CUDA_VISIBLE_DEVICES` names them (imports torch)."""
    import torch

    count = torch.cuda.device_count()
    named = [name.strip() for name in os.environ.get(VARIABLE, "").split(",") if name.strip()]
    return tuple(named[:count]) if named else tuple(str(index) for index in range(count))
