"""Every figure of an evaluation, defined once: what it is called, what it counts, and how cases make it.

A figure is a ratio of two sums over cases wherever it can be, so that a resample of patients is a matrix product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.evals.bootstrap import Statistic, Weights
from r2seg_agent.evals.models import (
    CaseEvaluation,
    Level,
    SliceCounts,
    VoxelCounts,
)

Better = Literal["higher", "lower", "neither"]
PerCase = Callable[[CaseEvaluation], float]


@dataclass(frozen=True)
class Head:
    """What a figure is called. `share`: it lies in [0, 1] and counts yes or no. `ranked`: it compares scores between
    cases, which two methods need not share."""

    key: str
    level: Level
    name: str
    of: str
    unit: str = ""
    better: Better = "higher"
    share: bool = False
    ranked: bool = False


@dataclass(frozen=True, eq=False)
class Block:
    """Figures that are computed together: `statistic` gives (b, len(heads)); `n` what each is over; `used` (cases,
    figures) which cases it comes from."""

    heads: tuple[Head, ...]
    statistic: Statistic
    n: tuple[int, ...]
    used: NDArray[np.bool_]


@dataclass(frozen=True)
class Ratio:
    """Σ over / Σ under over the cases; `count` says how many units of `head.of` a case adds (else `under`)."""

    head: Head
    over: PerCase
    under: PerCase
    count: PerCase | None = None


def ratio_block(cases: Sequence[CaseEvaluation], ratios: Iterable[Ratio]) -> Block:
    """All ratios as one block."""
    ratios = tuple(ratios)
    over = np.array([[r.over(case) for r in ratios] for case in cases], np.float64).reshape(len(cases), len(ratios))
    under = np.array([[r.under(case) for r in ratios] for case in cases], np.float64).reshape(over.shape)
    n = tuple(int(sum((r.count or r.under)(case) for case in cases) + 0.5) for r in ratios)

    def statistic(weights: Weights) -> NDArray[np.float64]:
        below = weights @ under
        with np.errstate(invalid="ignore", divide="ignore"):
            values: NDArray[np.float64] = np.where(below > 0, (weights @ over) / below, np.nan)
        return values

    return Block(tuple(r.head for r in ratios), statistic, n, under > 0)


def median_block(
    cases: Sequence[CaseEvaluation], head: Head, values: Callable[[CaseEvaluation], float | None]
) -> Block:
    """The weighted median (lower of two) of one value per case; cases with None are left out."""
    given = [values(case) for case in cases]
    used = np.array([v is not None for v in given], bool)
    numbers = np.array([v for v in given if v is not None], np.float64)
    order = np.flatnonzero(used)[np.argsort(numbers, kind="stable")]
    rising = np.sort(numbers, kind="stable")

    def statistic(weights: Weights) -> NDArray[np.float64]:
        if not rising.size:
            return np.full((len(weights), 1), np.nan)
        sums = np.cumsum(weights[:, order], axis=1)
        first = (sums < sums[:, -1:] / 2).sum(axis=1)
        found = rising[np.minimum(first, rising.size - 1)]
        return np.where(sums[:, -1] > 0, found, np.nan)[:, None]

    return Block((head,), statistic, (int(used.sum()),), used[:, None])


def agreement_block(cases: Sequence[CaseEvaluation]) -> Block:
    """Bland and Altman (1986): bias and limits bias ± 1.96 SD of found minus true volume over the matched lesions."""
    gaps = [(i, m.found_ml - m.volume_ml) for i, c in enumerate(cases) for m in c.lesions if m.found_ml is not None]
    owner = np.array([i for i, _ in gaps], np.intp)
    gap = np.array([g for _, g in gaps], np.float64)

    def statistic(weights: Weights) -> NDArray[np.float64]:
        w = weights[:, owner]
        total = w.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = (w @ gap) / total
            sd = np.sqrt((w * (gap[None, :] - mean[:, None]) ** 2).sum(axis=1) / (total - 1))
        sd = np.where(total > 1, sd, np.nan)
        return np.stack([mean, mean - 1.96 * sd, mean + 1.96 * sd], axis=1)

    used = np.zeros((len(cases), 3), bool)
    used[owner] = True
    heads = tuple(
        Head(f"volume.agreement.{key}", "volume", name, "matched lesions", "ml", "neither")
        for key, name in (
            ("bias", "Bland-Altman bias, found − true"),
            ("low", "lower limit of agreement"),
            ("high", "upper limit of agreement"),
        )
    )
    return Block(heads, statistic, (len(gaps),) * 3, used)


def balanced_block(cases: Sequence[CaseEvaluation]) -> Block:
    """(sensitivity + specificity) / 2 of marking slices."""
    bearing, marked, free, wrong = (
        np.array([getattr(slices_of(case), name) for case in cases], np.float64)
        for name in ("bearing", "bearing_marked", "free", "free_marked")
    )

    def statistic(weights: Weights) -> NDArray[np.float64]:
        with np.errstate(invalid="ignore", divide="ignore"):
            right = (weights @ marked) / (weights @ bearing) + 1 - (weights @ wrong) / (weights @ free)
        values: NDArray[np.float64] = np.where(np.isfinite(right), right / 2, np.nan)[:, None]
        return values

    head = Head("slice.balanced_accuracy", "slice", "balanced accuracy, (sensitivity + specificity) / 2", "slices")
    return Block((head,), statistic, (int(bearing.sum() + free.sum()),), ((bearing + free) > 0)[:, None])


NO_SLICES = SliceCounts(
    bearing=0,
    bearing_marked=0,
    bearing_hit=0,
    free=0,
    free_marked=0,
    bearing_dice=0.0,
    bearing_accuracy=0.0,
    free_accuracy=0.0,
    bearing_class_accuracy=0.0,
    free_class_accuracy=0.0,
)
NO_VOXELS = VoxelCounts(tp=0, fp=0, fn=0, tn=0)


def slices_of(case: CaseEvaluation) -> SliceCounts:
    """The slice counts of a case, zeros where it was not evaluated."""
    return case.slices or NO_SLICES


def voxels_of(case: CaseEvaluation) -> VoxelCounts:
    """The voxel counts of a case, zeros where it was not evaluated."""
    return case.voxels or NO_VOXELS
