"""False discovery rate: step-up adjusted p-values (q-values) over the candidates of a case."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

PValues = Sequence[float] | NDArray[np.float64]


def benjamini_hochberg(p: PValues) -> NDArray[np.float64]:
    """q_(i) = min over j ≥ i of p_(j)·K / j, at most 1, in the order of `p` (Benjamini and Hochberg 1995, JRSS B 57).

    Rejecting where q ≤ α keeps the FDR at α for independent or positively dependent (PRDS) valid p-values.
    Raises ValueError for values outside [0, 1].
    """
    values = np.asarray(p, dtype=np.float64)
    if values.ndim != 1 or not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"p-values are a list of numbers in [0, 1], got {p}")
    order = np.argsort(values, kind="stable")
    ranks = np.arange(1, values.size + 1)
    stepped = np.minimum.accumulate((values[order] * (1.0 * values.size) / ranks)[::-1])[::-1]
    q = np.empty_like(values)
    q[order] = np.minimum(stepped, 1.0)
    return q
