"""Candidates from component trees: connected parts of thresholds of the smoothed grey values, bright and dark.

At each smoothing and sign the parts of rising thresholds form a tree (a max-tree with quantised levels). A part is
kept when it is much smaller than the last kept one above it, so a lesion is kept once for each size that it has,
whatever its grey value is relative to the organ's: nothing hangs on one global reference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from studies.finder.cases import Case, Mask

SIGMAS = (0.7, 1.5, 3.0)
"""Smoothings in voxels of the working grid."""
LEVELS = np.concatenate([np.linspace(0.03, 0.97, 20), [0.985, 0.993]])
"""Thresholds as quantiles of the searched grey values."""
KEPT_SHRINKAGE = 0.82
"""A part is kept when it has at most this share of the kept part that holds it."""
LARGEST_SHARE = 0.9
"""Of the searched region: what is larger is the organ itself."""
LEAST_VOXELS = {2: 10, 3: 14}
OPENED_FROM = {2: 60, 3: 120}
"""Parts of more voxels lose their thin bridges (binary opening), unless that takes more than half of them."""
REACH = 3
"""Voxels around the organ that are searched too."""


@dataclass(frozen=True, eq=False)
class Proposal:
    """A candidate: `mask` covers `box` of the working grid. `life`: over how many thresholds it kept its size."""

    box: tuple[slice, ...]
    mask: Mask
    sigma: float
    sign: int
    life: int


def propose(case: Case) -> list[Proposal]:
    """All candidates of a case, in the order of smoothing, sign and threshold."""
    searched = ndimage.binary_dilation(case.organ, iterations=REACH)
    found: list[Proposal] = []
    for sigma in SIGMAS:
        smooth = ndimage.gaussian_filter(case.grey, sigma)
        for sign in (1, -1):
            found += _tree(smooth * sign, searched, sigma, sign)
    return found


def _tree(values: NDArray[np.float32], searched: Mask, sigma: float, sign: int) -> list[Proposal]:
    n_searched, least = int(np.count_nonzero(searched)), LEAST_VOXELS[values.ndim]
    parts: list[tuple[tuple[slice, ...], Mask]] = []
    lives: list[int] = []
    labels_above: NDArray[Any] | None = None
    kept_above: dict[int, tuple[float, int]] = {}
    for level in np.unique(np.quantile(values[searched], LEVELS)):
        labels: NDArray[Any] = cc3d.connected_components(
            (values > level) & searched, connectivity=8 if values.ndim == 2 else 26
        )
        if not labels.any():
            continue
        statistics = cc3d.statistics(labels)
        kept: dict[int, tuple[float, int]] = {}
        for label, size in enumerate(statistics["voxel_counts"].tolist()):
            if label == 0 or size < least:
                continue
            box = tuple(statistics["bounding_boxes"][label])
            part = labels[box] == label
            parent = 0 if labels_above is None else int(labels_above[box][part][0])
            above, index = kept_above.get(parent, (np.inf, -1))
            if size <= LARGEST_SHARE * n_searched and size < KEPT_SHRINKAGE * above:
                parts.append((box, part))
                lives.append(0)
                kept[label] = (size, len(parts) - 1)
            else:
                kept[label] = (above, index)
                if index >= 0:
                    lives[index] += 1
        labels_above, kept_above = labels, kept
    return [
        Proposal(box=box, mask=_solid(part), sigma=sigma, sign=sign, life=life)
        for (box, part), life in zip(parts, lives, strict=True)
    ]


def _solid(part: Mask) -> Mask:
    """Without thin bridges, holes and loose bits; on the same box."""
    padded: Mask = np.pad(part, 1)
    if np.count_nonzero(part) > OPENED_FROM[part.ndim]:
        opened = ndimage.binary_opening(padded)
        if np.count_nonzero(opened) > 0.5 * np.count_nonzero(part):
            padded = opened
    padded = ndimage.binary_fill_holes(padded)
    labels: NDArray[Any] = cc3d.connected_components(padded, connectivity=4 if part.ndim == 2 else 6)
    if int(labels.max()) > 1:
        padded = labels == 1 + int(np.bincount(labels.ravel())[1:].argmax())
    solid: Mask = padded[(slice(1, -1),) * part.ndim]
    return solid
