"""Which voxels and which bodies two label maps have in common."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.evals.models import VoxelCounts
from r2seg_agent.imaging.geometry import Box, bounding_box


class Shared(NamedTuple):
    """Voxels per lesion, per finding, and in common, with label values as keys."""

    lesions: dict[int, int]
    findings: dict[int, int]
    common: dict[tuple[int, int], int]
    """(lesion, finding) → shared voxels; pairs that share none are not there."""

    def iou(self, lesion: int, finding: int) -> float:
        """|L ∩ F| / |L ∪ F|."""
        both = self.common.get((lesion, finding), 0)
        return both / (self.lesions[lesion] + self.findings[finding] - both)


def shared_voxels(lesions: NDArray[Any], findings: NDArray[Any]) -> Shared:
    """Count what two label maps (z, y, x) of one grid share; 0 is background. One pass over the foreground only."""
    if lesions.shape != findings.shape:
        raise ValueError(f"lesions {lesions.shape} and findings {findings.shape} differ (z, y, x)")
    foreground = np.flatnonzero((lesions != 0) | (findings != 0))
    a = lesions.reshape(-1)[foreground].astype(np.int64)
    b = findings.reshape(-1)[foreground].astype(np.int64)
    step = int(b.max(initial=0)) + 1
    pairs, counts = np.unique(a * step + b, return_counts=True)
    found = Shared({}, {}, {})
    for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True):
        lesion, finding = divmod(pair, step)
        if lesion:
            found.lesions[lesion] = found.lesions.get(lesion, 0) + count
        if finding:
            found.findings[finding] = found.findings.get(finding, 0) + count
        if lesion and finding:
            found.common[lesion, finding] = count
    return found


def voxel_counts(shared: Shared, n_voxels: int) -> VoxelCounts:
    """The confusion matrix of the voxels of a grid with `n_voxels`."""
    tp = sum(shared.common.values())
    fp = sum(shared.findings.values()) - tp
    fn = sum(shared.lesions.values()) - tp
    return VoxelCounts(tp=tp, fp=fp, fn=fn, tn=n_voxels - tp - fp - fn)


def union_box(first: NDArray[Any], second: NDArray[Any]) -> Box | None:
    """The smallest box around the foreground of both label maps; None where both are empty."""
    boxes = [box for labels in (first, second) if (box := bounding_box(np.asarray(labels != 0))) is not None]
    if not boxes:
        return None
    return boxes[0] if len(boxes) == 1 else boxes[0].union(boxes[1])
