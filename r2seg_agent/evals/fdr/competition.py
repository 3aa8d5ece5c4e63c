"""Target-decoy competition: false discoveries among target organs, estimated from organs where the target cannot be.

Each unit (a scan) brings the largest candidate score of its target organ and those of m decoy regions, all searched by
the same segmenter. The target wins its unit when its score is larger than every decoy's. If a lesion-free target is
exchangeable with its own decoys it wins with probability at most 1 / (m + 1), whatever the scan's noise, and

    F(t) = (1 + #{units won by a decoy at a score ≥ t}) / (m · #{units won by the target at a score ≥ t})

estimates the share of false discoveries among the target wins at t and above (Elias & Gygi 2007; the +1, without which
nothing is controlled: He et al. 2015, Barber & Candès 2015, knockoff+; several decoys: Emery et al. 2020, "max").
Rejecting at the smallest t where the estimate is at most α keeps the FDR at α for any number of units.

All rests on the exchangeability, which a change of scanner does not break and another organ's texture, vessels, size or
edges do: docs/decoy.md has the figures, and why no run of `r2seg` decides by this.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Scores = NDArray[np.float64]


class Competition(NamedTuple):
    """Who won each unit: `won` (n,) by the target, `score` (n,) the winner's, `decoys` m."""

    won: NDArray[np.bool_]
    score: Scores
    decoys: int


def compete(targets: ArrayLike, decoys: ArrayLike) -> Competition:
    """`targets` (n,) and `decoys` (n, m), or (n,) for one each: largest scores, −inf where nothing was proposed.

    A tie goes to the decoy, so two empty regions are never a finding. Raises ValueError for other shapes and for NaN.
    """
    t, d = np.asarray(targets, dtype=np.float64), np.asarray(decoys, dtype=np.float64)
    if d.ndim == 1:
        d = d[:, None]
    if t.ndim != 1 or d.ndim != 2 or len(d) != len(t) or d.shape[1] == 0:
        raise ValueError(f"targets are (n,) and decoys (n, m) with m >= 1, got {t.shape} and {d.shape}")
    if np.isnan(t).any() or np.isnan(d).any():
        raise ValueError("a score is NaN")
    best = d.max(axis=1)
    return Competition(won=t > best, score=np.maximum(t, best), decoys=int(d.shape[1]))


def decoy_q(targets: ArrayLike, decoys: ArrayLike) -> Scores:
    """q (n,), in the order of `targets`: the smallest FDR estimate among all thresholds t that keep this unit's target.

    1 where a decoy won. Keeping the units with q ≤ α controls the FDR at α. The smallest q is 1 / (m · target wins).
    Takes the shapes of `compete` and raises as it does.
    """
    contest = compete(targets, decoys)
    levels, rank = np.unique(-contest.score, return_inverse=True)  # highest score first; equal scores share a threshold
    wins = np.cumsum(np.bincount(rank[contest.won], minlength=levels.size))
    losses = np.cumsum(np.bincount(rank[~contest.won], minlength=levels.size))
    estimate = (1.0 + losses) / (contest.decoys * np.maximum(wins, 1))
    lowest = np.minimum.accumulate(estimate[::-1])[::-1]
    return np.where(contest.won, np.minimum(lowest[rank], 1.0), 1.0)


def wins_needed(alpha: float, decoys: int = 1) -> int:
    """Fewest target wins at which anything can be kept at level `alpha` with m decoys a unit: ⌈1 / (m α)⌉."""
    return max(1, math.ceil(1.0 / (decoys * alpha) - 1e-9))


def decoys_needed(alpha: float) -> int:
    """Fewest decoy regions, each like the whole target organ, at which one scan alone can be judged: ⌈1 / α⌉ − 1."""
    return wins_needed(alpha) - 1
