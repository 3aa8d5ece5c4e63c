"""A fixed random projection: many features to few, the same for every scan, candidate and machine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PROJECTED = 24
"""Features after the projection. By Johnson and Lindenstrauss (1984) distances survive up to a few tenths, which is
all that a kernel with a median bandwidth asks."""
PROJECTION_SEED = 251112691
"""Fixed for good (the paper's arXiv number), part of a calibration's identity: never drawn again, never fitted to a
scan. Fitting it (principal components of the scan, say) would let the candidates choose what they are judged by."""


def projection(n_features: int, n_projected: int = PROJECTED, seed: int = PROJECTION_SEED) -> NDArray[np.float64]:
    """(n_features, n_projected): independent N(0, 1 / n_projected) entries, so that mean squared lengths stay.

    Not random when there is nothing to save: the identity for `n_features` ≤ `n_projected`.
    """
    if n_features <= n_projected:
        return np.eye(n_features)
    entries = np.random.Generator(np.random.PCG64(seed)).standard_normal((n_features, n_projected))
    scaled: NDArray[np.float64] = entries / np.sqrt(n_projected)
    return scaled
