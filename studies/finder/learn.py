"""Fitting the frozen score: boosted trees on the overlap with a lesion, and a logistic regression, added.

Every case counts about alike: of each, all regions that overlap a lesion take part and `MOST_OTHERS` of the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.segment.regions.score import Logistic, Trees
from studies.finder.search import Searched

Values = NDArray[np.float64]
FOLDS = 10
LESION_IOU = 0.3
"""From here on a region counts as a lesion for the logistic regression."""
TOUCH_IOU = 0.05
MOST_OTHERS = 150
LIMIT = 4.0
"""Standardised features beyond ± this are cut for the logistic regression: no image may pull it by an outlier."""
DIGITS = 6


def fit(cases: Sequence[Searched]) -> tuple[Trees, Logistic]:
    """The score's two parts, from all `cases`; equal cases give equal numbers."""
    from sklearn.ensemble import HistGradientBoostingRegressor
    from sklearn.linear_model import LogisticRegression

    values, iou = _training(cases)
    boosted = HistGradientBoostingRegressor(
        max_depth=4, max_iter=150, learning_rate=0.06, min_samples_leaf=60, l2_regularization=1.0, random_state=0
    ).fit(values, iou)
    trees = _as_numbers(boosted)
    seen = trees(values)
    trees = trees.model_copy(update={"mean": _rounded(seen.mean()), "sd": _rounded(seen.std() + 1e-9)})

    centre, scale = values.mean(axis=0), values.std(axis=0) + 1e-9
    standard = np.clip((values - centre) / scale, -LIMIT, LIMIT)
    logistic = LogisticRegression(C=0.1, max_iter=500, class_weight="balanced").fit(standard, iou > LESION_IOU)
    numbers = Logistic(
        centre=_all_rounded(centre),
        scale=_all_rounded(scale),
        weights=_all_rounded(logistic.coef_[0]),
        intercept=_rounded(logistic.intercept_[0]),
        limit=LIMIT,
        mean=0.0,
        sd=1.0,
    )
    seen = numbers(values)
    return trees, numbers.model_copy(update={"mean": _rounded(seen.mean()), "sd": _rounded(seen.std() + 1e-9)})


def cross_validated(cases: Sequence[Searched], seed: int = 0) -> list[Values]:
    """The scores of each case's regions, from a fit that saw no image of its patient."""
    names = sorted({case.patient for case in cases})
    fold = dict(zip(names, np.random.default_rng(seed).permutation(len(names)) % FOLDS, strict=True))
    scores: list[Values] = [np.zeros(0)] * len(cases)
    for k in range(FOLDS):
        held_out = [i for i, case in enumerate(cases) if fold[case.patient] == k]
        if not held_out:
            continue
        trees, logistic = fit([case for case in cases if fold[case.patient] != k])
        for i in held_out:
            values = cases[i].described.values
            scores[i] = trees(values) + logistic(values)
    return scores


def _training(cases: Sequence[Searched]) -> tuple[Values, Values]:
    rows, targets = [], []
    for n, case in enumerate(cases):
        touching = np.flatnonzero(case.iou >= TOUCH_IOU)
        others = np.flatnonzero(case.iou < TOUCH_IOU)
        if len(others) > MOST_OTHERS:
            others = np.random.default_rng(n).choice(others, MOST_OTHERS, replace=False)
        kept = np.sort(np.concatenate([touching, others]))
        rows.append(case.described.values[kept])
        targets.append(case.iou[kept])
    return np.concatenate(rows), np.concatenate(targets)


def _as_numbers(boosted: Any) -> Trees:
    """scikit-learn's trees as flat columns."""
    columns: dict[str, list[Any]] = {"feature": [], "threshold": [], "left": [], "right": [], "value": []}
    roots = []
    for (predictor,) in boosted._predictors:
        root = len(columns["feature"])
        roots.append(root)
        for node in predictor.nodes:
            leaf = bool(node["is_leaf"])
            columns["feature"].append(0 if leaf else int(node["feature_idx"]))
            columns["threshold"].append(0.0 if leaf else _rounded(node["num_threshold"]))
            columns["left"].append(0 if leaf else root + int(node["left"]))
            columns["right"].append(0 if leaf else root + int(node["right"]))
            columns["value"].append(_rounded(node["value"]) if leaf else 0.0)
    baseline = _rounded(np.ravel(boosted._baseline_prediction)[0])
    return Trees(baseline=baseline, roots=tuple(roots), mean=0.0, sd=1.0, **{k: tuple(v) for k, v in columns.items()})


def _rounded(value: float) -> float:
    return float(f"{float(value):.{DIGITS}g}")


def _all_rounded(values: Values) -> tuple[float, ...]:
    return tuple(_rounded(value) for value in values)
