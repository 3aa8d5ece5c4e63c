"""A score that ranks candidates, learned with patients apart: boosted trees and a logistic regression, averaged.

The target is the largest intersection over union with a lesion, each case weighted alike. Scores of a case come from
models that saw no image of its patient.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FOLDS = 10
LESION_IOU = 0.3
"""From here on a candidate counts as a lesion for the logistic regression."""


def cross_validated(
    features: NDArray[np.float64], iou: NDArray[np.float64], case_of: NDArray[np.intp], patients: Sequence[str]
) -> NDArray[np.float64]:
    """A score for every candidate, (n,); `case_of` (n,) is the index of its case, `patients` one name a case."""
    from sklearn.ensemble import HistGradientBoostingRegressor
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    names = sorted(set(patients))
    fold = dict(zip(names, np.random.default_rng(0).permutation(len(names)) % FOLDS, strict=True))
    folds = np.asarray([fold[patient] for patient in patients])[case_of]
    scores = np.zeros(len(iou))
    for k in range(FOLDS):
        train, test = folds != k, folds == k
        if not test.any():
            continue
        weights = 1.0 / np.bincount(case_of[train], minlength=len(patients))[case_of[train]]
        weights /= weights.mean()
        trees = HistGradientBoostingRegressor(
            max_depth=4, max_iter=150, learning_rate=0.06, min_samples_leaf=60, l2_regularization=1.0, random_state=0
        ).fit(features[train], iou[train], sample_weight=weights)
        parts = [trees.predict(features[train]), trees.predict(features[test])]
        total = (parts[1] - parts[0].mean()) / (parts[0].std() + 1e-9)
        lesion = iou[train] > LESION_IOU
        if lesion.any() and not lesion.all():
            scale = StandardScaler().fit(features[train])
            logistic = LogisticRegression(C=0.1, max_iter=500, class_weight="balanced").fit(
                scale.transform(features[train]), lesion, sample_weight=weights
            )
            seen, new = (logistic.predict_proba(scale.transform(features[rows]))[:, 1] for rows in (train, test))
            total = total + (new - seen.mean()) / (seen.std() + 1e-9)
        scores[test] = total
    return scores
