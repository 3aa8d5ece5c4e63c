"""ROC over scans: does a scan with a lesion score higher than one without?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.evals.bootstrap import Weights
from r2seg_agent.evals.froc import LOWEST, rank_value
from r2seg_agent.evals.models import CaseEvaluation, CurvePoint, Rank


@dataclass(frozen=True, eq=False)
class Roc:
    """Scans in groups of equal score, rising: `group` (n,) of each case, −1 for a case that is left out."""

    group: NDArray[np.intp]
    groups: int
    bearing: NDArray[np.bool_]

    def auc(self, weights: Weights) -> NDArray[np.float64]:
        """(b, 1): chance that a bearing scan scores above a free one, ties half (Mann-Whitney); NaN without both."""
        free, bearing = self._sums(weights)
        below = np.cumsum(free, axis=1) - free
        with np.errstate(invalid="ignore", divide="ignore"):
            won = (bearing * (below + free / 2)).sum(axis=1)
            area: NDArray[np.float64] = won / (free.sum(axis=1) * bearing.sum(axis=1))
        return area[:, None]

    def points(self) -> tuple[CurvePoint, ...]:
        """The curve from (0, 0) to (1, 1) as thresholds fall; empty without both kinds of scan."""
        free, bearing = (sums[0, ::-1] for sums in self._sums(np.ones((1, len(self.group)))))
        if free.sum() == 0 or bearing.sum() == 0:
            return ()
        x = np.concatenate([[0], np.cumsum(free) / free.sum()])
        y = np.concatenate([[0], np.cumsum(bearing) / bearing.sum()])
        return tuple(CurvePoint(x=float(a), y=float(b)) for a, b in zip(x, y, strict=True))

    def _sums(self, weights: Weights) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Weight of the free and of the bearing scans in each group, each (b, groups)."""
        used = np.flatnonzero(self.group >= 0)
        order = used[np.argsort(self.group[used], kind="stable")]
        starts = np.flatnonzero(np.diff(self.group[order], prepend=-1))
        sums = []
        for kind in (~self.bearing, self.bearing):
            held = weights[:, order] * kind[order]
            sums.append(np.add.reduceat(held, starts, axis=1) if len(starts) else np.zeros((len(weights), 0)))
        return sums[0], sums[1]


def roc_of(cases: Sequence[CaseEvaluation], rank: Rank) -> Roc:
    """Scans by the largest value of their candidates; one with no candidate stands below all others.

    Cases whose candidates are not there are left out.
    """
    scores = np.array(
        [max((rank_value(c, rank) for c in case.candidates or ()), default=2 * LOWEST) for case in cases], np.float64
    )
    used = np.array([case.candidates is not None for case in cases], bool)
    values, inverse = np.unique(scores[used], return_inverse=True)
    group = np.full(len(cases), -1, np.intp)
    group[used] = inverse
    return Roc(group=group, groups=len(values), bearing=np.array([case.bearing for case in cases], bool))
