"""Slices: the level at which the R²-Seg paper reports, with its own rules and without their traps.

A slice is *bearing* when it holds a lesion voxel, *free* otherwise, and *marked* when it holds a finding voxel. The
rules of the paper's column names are those of the evaluation code that its group published (docs/guide/evaluation.md).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.evals.models import SliceCounts


def slice_counts(lesions: NDArray[Any], findings: NDArray[Any]) -> SliceCounts:
    """Sums over the slices along the first axis of two label maps (z, y, x).

    Per slice: Dice = 2|F∩L|/(|F|+|L|), accuracy = (TP+TN)/all, class accuracy = (TP/(TP+FN) + TN/(TN+FP))/2 with 0 for
    a term whose denominator is 0, so that it is at most 1/2 on a free slice.
    """
    true = np.count_nonzero(lesions, axis=(1, 2)).astype(np.float64)
    found = np.count_nonzero(findings, axis=(1, 2)).astype(np.float64)
    tp = np.array([np.count_nonzero((a != 0) & (b != 0)) for a, b in zip(lesions, findings, strict=True)], np.float64)
    pixels = float(lesions[0].size)
    fp, fn = found - tp, true - tp
    tn = pixels - tp - fp - fn
    bearing, marked = true > 0, found > 0
    dice = 2 * tp / np.maximum(found + true, 1)
    accuracy = (tp + tn) / pixels
    class_accuracy = (tp / np.maximum(true, 1) + tn / np.maximum(pixels - true, 1)) / 2
    return SliceCounts(
        bearing=int(bearing.sum()),
        bearing_marked=int((bearing & marked).sum()),
        bearing_hit=int((bearing & (tp > 0)).sum()),
        free=int((~bearing).sum()),
        free_marked=int((~bearing & marked).sum()),
        bearing_dice=float(dice[bearing].sum()),
        bearing_accuracy=float(accuracy[bearing].sum()),
        free_accuracy=float(accuracy[~bearing].sum()),
        bearing_class_accuracy=float(class_accuracy[bearing].sum()),
        free_class_accuracy=float(class_accuracy[~bearing].sum()),
    )
