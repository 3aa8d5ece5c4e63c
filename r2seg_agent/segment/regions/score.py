"""`RegionScore`: the frozen score that ranks regions, kept as plain numbers in `score.json`.

Boosted trees on the features of `describe`, and a logistic regression on the same, each standardised by its values on
the regions that it was fitted on, and added. It was fitted once, on images of other patients (`studies.finder.fit`);
which, and where it fails, stands in the file's own `card`. A score orders regions: it is no probability and no p-value.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError, model_validator

from r2seg_agent.errors import InputError
from r2seg_agent.frozen import Frozen
from r2seg_agent.segment.regions.describe import FEATURE_VERSION, FEATURES

Numbers = tuple[float, ...]
MAX_BYTES = 200_000


class Trees(Frozen):
    """Boosted trees as flat columns, one entry a node, all trees in a row; `roots` are the first nodes.

    A node without children (`left` 0) adds its `value`; else the region goes left where its `feature` is at most
    `threshold`. The sum over trees and `baseline` is standardised by `mean` and `sd`.
    """

    baseline: float
    roots: tuple[int, ...]
    feature: tuple[int, ...]
    threshold: Numbers
    left: tuple[int, ...]
    right: tuple[int, ...]
    value: Numbers
    mean: float
    sd: Annotated[float, Field(gt=0)]

    @model_validator(mode="after")
    def _check(self) -> Self:
        n = len(self.feature)
        if not all(len(column) == n for column in (self.threshold, self.left, self.right, self.value)):
            raise ValueError("the columns of the trees have different lengths")
        for k, (left, right) in enumerate(zip(self.left, self.right, strict=True)):
            if left and not (k < left < n and k < right < n):  # children lie behind: no circle
                raise ValueError(f"node {k} has children {left} and {right} of {n}")
        if any(not 0 <= root < n for root in self.roots) or any(not 0 <= f < len(FEATURES) for f in self.feature):
            raise ValueError("a root or a feature that is not there")
        return self

    def __call__(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n, features) to (n,)."""
        feature, threshold = np.asarray(self.feature), np.asarray(self.threshold)
        left, right, leaf = np.asarray(self.left), np.asarray(self.right), np.asarray(self.value)
        total = np.full(len(values), self.baseline)
        rows = np.arange(len(values))
        for root in self.roots:
            at = np.full(len(values), root)
            while (inner := left[at] > 0).any():
                goes_left = values[rows, feature[at]] <= threshold[at]
                at = np.where(inner, np.where(goes_left, left[at], right[at]), at)
            total += leaf[at]
        standard: NDArray[np.float64] = (total - self.mean) / self.sd
        return standard


class Logistic(Frozen):
    """A logistic regression on features that are first standardised by `centre` and `scale`, then cut at ± `limit`."""

    centre: Numbers
    scale: Numbers
    weights: Numbers
    intercept: float
    limit: float
    mean: float
    sd: Annotated[float, Field(gt=0)]

    def __call__(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n, features) to (n,)."""
        standard = np.clip((values - np.asarray(self.centre)) / np.asarray(self.scale), -self.limit, self.limit)
        logit = standard @ np.asarray(self.weights) + self.intercept
        out: NDArray[np.float64] = (1.0 / (1.0 + np.exp(-logit)) - self.mean) / self.sd
        return out


class ReferenceBin(Frozen):
    """Of `n` findings of the reference set that scored in [`low`, `high`), `lesions` hit a lesion.

    Each was scored by a fit that saw no image of its patient. `group` is a group of organs, or "all".
    """

    group: str
    low: float
    high: float
    n: Annotated[int, Field(ge=0)]
    lesions: Annotated[int, Field(ge=0)]


class ReferenceShare(Frozen):
    """The measured share of lesions among findings of such a score in the reference set, with its 95 % interval.

    It is a figure of that set of images and no guarantee for another one. Interval: Wilson's, findings as independent.
    """

    group: str
    share: float
    low: float
    high: float
    n: int


class RegionScore(Frozen):
    """The whole file. `cuts`: the lowest score at so many false findings an image of the reference set."""

    kind: Literal["r2seg-region-score"] = "r2seg-region-score"
    feature_version: int
    features: tuple[str, ...]
    trees: Trees
    logistic: Logistic
    cuts: Mapping[str, float]
    reference: tuple[ReferenceBin, ...]
    card: Mapping[str, str | int | float | tuple[str, ...]]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.feature_version != FEATURE_VERSION or self.features != FEATURES:
            raise ValueError(
                f"fitted on features of version {self.feature_version}, this r2seg describes regions by version "
                f"{FEATURE_VERSION}"
            )
        if not len(self.logistic.centre) == len(self.logistic.scale) == len(self.logistic.weights) == len(FEATURES):
            raise ValueError("the logistic regression has another number of features")
        return self

    def __call__(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n, len(FEATURES)) to (n,): the larger, the more like a lesion."""
        if not len(values):
            return np.zeros(0)
        total: NDArray[np.float64] = self.trees(values) + self.logistic(values)
        return np.round(total, 6)

    def share(self, score: float, group: str) -> ReferenceShare | None:
        """What such a score was worth in the reference set; all groups where `group` has too few findings."""
        for name in (group, "all"):
            for row in self.reference:
                if row.group == name and row.low <= score < row.high and row.n >= MIN_BIN:
                    return _share(row)
        return None


MIN_BIN = 8
"""Findings that a bin needs before its share is told."""


def _share(row: ReferenceBin) -> ReferenceShare:
    z = 1.959964
    p, n = row.lesions / row.n, row.n
    centre, spread = p + z * z / (2 * n), z * ((p * (1 - p) + z * z / (4 * n)) / n) ** 0.5
    low, high = (centre - spread) / (1 + z * z / n), (centre + spread) / (1 + z * z / n)
    return ReferenceShare(group=row.group, share=round(p, 3), low=round(low, 3), high=round(high, 3), n=n)


def read_score(data: bytes) -> RegionScore:
    """A score from the bytes of its file. Raises `InputError` for another feature version or a file of another kind."""
    if len(data) > MAX_BYTES:
        raise InputError(f"a score has at most {MAX_BYTES // 1000} kB, this file has {len(data) // 1000} kB")
    try:
        return RegionScore.model_validate(json.loads(data))
    except (ValueError, ValidationError) as error:
        raise InputError(
            f"this is no score that r2seg can use: {error}",
            "Fit it again with this version of r2seg: `python -m studies.finder.fit`.",
        ) from error


@lru_cache(maxsize=1)
def shipped() -> tuple[RegionScore, str]:
    """The score that comes with r2seg, and the sha256 of its file."""
    data = resources.files(__package__ or "").joinpath("score.json").read_bytes()
    return read_score(data), hashlib.sha256(data).hexdigest()
