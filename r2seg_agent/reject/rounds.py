"""One p-value over all search rounds: a scan is compared with lesion-free cases round by round.

Each round of widening searches other tissue, so its scores are on a scale of their own: at the border of a stomach a
largest score of 200 is normal, inside the liver one of 5 is not. A maximum over all rounds would be the border's. So
ranks are compared, not scores (min-p with ranks among exchangeable cases: Westfall and Young 1993).

With M_{i,r} the largest score of case i in round r, over n lesion-free cases and the scan,

    k_{i,r} = #{j : M_{j,r} ≥ M_{i,r}}          rank in the round, 1 = largest
    T_i     = lexicographic min over r of (w_r · k_{i,r}, r)          w = 1 in the first round, 2 in later ones
    P       = #{j : T_j ≤ T_scan} / (n + 1)

T treats all n + 1 cases alike, so for a lesion-free scan that is exchangeable with them P(P ≤ α) ≤ α, over all rounds
and candidates. Of the scan only the round at hand is known, since a search ends where something survives: in the other
rounds the calibration's ranks are taken without the scan, which can only make P larger. With one round this is
the case maximum, p = (1 + #{i : M_i ≥ s}) / (n + 1).

A level that is chosen after p was seen needs another quantity, an e-value:

    E = Σ over reached rounds r of v_r · (n + 1) · g(k_r) / (g(k_r) + Σ_i g(k_{i,r}))          g(k) = 1/k²

with v_r proportional to 1/w_r and of sum 1 over all rounds (½, ¼, ¼ of three). In each round the n + 1 values
(n + 1) · g / Σ g have the mean 1 and treat all cases alike, so the scan's has the expectation 1 when it is exchangeable
with them; rounds that were not reached count as 0. So E[1{E ≥ 1/α̂} / α̂] ≤ 1 whatever α̂ is chosen after looking, and
whenever the search stops. Ranks give every round its floor: where no case has a candidate, all have the same rank and
E_r is 1.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

LATER_ROUNDS_WEIGHT = 2
"""w_r of every round but the first: lesions mostly lie in the plan's own regions, so those pay least for the others."""


class RoundMaxima:
    """The largest scores of n counted cases in each of their rounds, ready for look-ups."""

    def __init__(self, maxima: Sequence[Sequence[float]] | NDArray[np.float64]) -> None:
        """`maxima` (rounds, n); −inf where a case had no candidate in a round."""
        self._maxima: NDArray[np.float64] = np.asarray(maxima, dtype=np.float64)
        ascending = np.sort(self._maxima, axis=1)
        self._ascending: list[list[float]] = ascending.tolist()
        # w_r · k_{j,r} without the scan.
        self._costs = np.stack(
            [
                weight(r) * (row.size - np.searchsorted(sorted_row, row, side="left"))
                for r, (row, sorted_row) in enumerate(zip(self._maxima, ascending, strict=True), start=1)
            ]
        )

    def p(self, score: float, round_index: int = 1) -> float:
        """P of a candidate with `score` in round `round_index` (1-based); NaN counts as the least score.

        Raises ValueError for a round that the calibration did not go through.
        """
        rounds, n = len(self._ascending), len(self._ascending[0])
        if not 1 <= round_index <= rounds:
            raise ValueError(f"round {round_index} of a calibration of {rounds}")
        own = self._ascending[round_index - 1]
        reached = len(own) - bisect_left(own, score)
        if rounds == 1:
            return (1 + reached) / (n + 1)
        cost = weight(round_index) * (1 + reached)
        counted = ~(self._maxima[round_index - 1] < score)
        counted |= (self._costs[: round_index - 1] <= cost).any(axis=0)
        counted |= (self._costs[round_index:] < cost).any(axis=0)
        return (1 + int(np.count_nonzero(counted))) / (n + 1)

    def e(self, reached: Sequence[float]) -> float:
        """The e-value of a scan whose largest scores in the rounds that it reached are `reached`, from the first on;
        −inf where a round had no candidate. NaN counts as the least score.

        Raises ValueError for more rounds than the calibration went through.
        """
        rounds = len(self._maxima)
        if len(reached) > rounds:
            raise ValueError(f"{len(reached)} rounds reached of a calibration of {rounds}")
        whole = sum(1 / weight(r) for r in range(1, rounds + 1))
        total = 0.0
        for index, score in enumerate(reached, start=1):
            pooled = np.append(self._maxima[index - 1], -np.inf if np.isnan(score) else score)
            ranks = pooled.size - np.searchsorted(np.sort(pooled), pooled, side="left")
            g = 1.0 / ranks.astype(np.float64) ** 2
            total += (1 / weight(index) / whole) * pooled.size * float(g[-1] / g.sum())
        return total


def least_count(round_index: int) -> int:
    """n + 1 times the smallest p that a candidate can have in the last of `round_index` rounds where the calibration's
    cases are each the largest in one round at most: 1, 3, 4.
    """
    return 1 + sum(weight(round_index) // weight(earlier) for earlier in range(1, round_index))


def weight(round_index: int) -> int:
    """w_r."""
    return 1 if round_index == 1 else LATER_ROUNDS_WEIGHT
