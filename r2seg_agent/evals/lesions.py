"""Lesions: which findings are lesions, and which lesions were found."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.evals.models import FindingMatch, LesionMatch, SizeClass
from r2seg_agent.evals.overlap import Shared
from r2seg_agent.imaging.masks import Labels
from r2seg_agent.segment.candidates import CONNECTIVITY


def label_lesions(truth: Labels, *, values: Sequence[int] = (), instances: bool = False) -> NDArray[Any]:
    """The lesions of a truth map (z, y, x), numbered from 1; `values` are the truth's lesion values (empty: all).

    A lesion is a 26-connected component (8-connected in one slice) of one value, or with `instances` a whole value.
    """
    import cc3d

    chosen = truth if not values else np.where(np.isin(truth, values), truth, 0).astype(truth.dtype)
    if instances:
        present = np.unique(chosen)
        numbers = np.zeros(int(present.max()) + 1, dtype=np.uint16)
        numbers[present[present > 0]] = np.arange(1, np.count_nonzero(present) + 1)
        numbered: NDArray[Any] = numbers[chosen]
        return numbered
    components: NDArray[Any] = cc3d.connected_components(np.ascontiguousarray(chosen), connectivity=CONNECTIVITY)
    return components


def size_class(volume_ml: float, bounds_ml: Sequence[float]) -> SizeClass:
    """The class of a volume in words: "< 0.1 ml", "0.1–1 ml", …, "≥ 10 ml"; the lower bound belongs to the class."""
    return size_classes(bounds_ml)[int(np.searchsorted(bounds_ml, volume_ml, side="right"))]


def size_classes(bounds_ml: Sequence[float]) -> tuple[SizeClass, ...]:
    """The names of all classes, smallest first."""
    if not bounds_ml:
        return ("all sizes",)
    between = [f"{a:g}–{b:g} ml" for a, b in pairwise(bounds_ml)]
    return (f"< {bounds_ml[0]:g} ml", *between, f"≥ {bounds_ml[-1]:g} ml")


def greedy_matches(shared: Shared, least_iou: float) -> dict[int, int]:
    """Lesion → finding, one to one: pairs by falling IoU while both are free, down to `least_iou`.

    Ties go to the lower lesion number, then the lower finding number.
    """
    ranked = sorted((-shared.iou(*pair), pair) for pair in shared.common)
    matched: dict[int, int] = {}
    taken: set[int] = set()
    for negative, (lesion, finding) in ranked:
        if -negative < least_iou:
            break
        if lesion not in matched and finding not in taken:
            matched[lesion] = finding
            taken.add(finding)
    return matched


def match_lesions(
    shared: Shared, voxel_ml: float, *, least_iou: float, bounds_ml: Sequence[float]
) -> tuple[tuple[LesionMatch, ...], tuple[FindingMatch, ...]]:
    """Every lesion and every finding of a scan with what it was matched to; `voxel_ml` is the volume of a voxel."""
    matched = greedy_matches(shared, least_iou)
    by_finding = {finding: lesion for lesion, finding in matched.items()}
    overlaps: dict[int, list[tuple[int, int]]] = {}
    touching: set[int] = set()
    for (lesion, finding), count in shared.common.items():
        overlaps.setdefault(lesion, []).append((-count, finding))
        touching.add(finding)
    lesions = []
    for lesion, size in sorted(shared.lesions.items()):
        volume = size * voxel_ml
        given = matched.get(lesion)
        dice = 0.0
        if lesion in overlaps:
            negative, best = min(overlaps[lesion])
            dice = -2 * negative / (size + shared.findings[best])
        lesions.append(
            LesionMatch(
                label=lesion,
                volume_ml=volume,
                size=size_class(volume, bounds_ml),
                finding=given,
                iou=0.0 if given is None else shared.iou(lesion, given),
                found_ml=None if given is None else shared.findings[given] * voxel_ml,
                overlapped=lesion in overlaps,
                dice=dice,
            )
        )
    findings = tuple(
        FindingMatch(
            number=number, volume_ml=size * voxel_ml, lesion=by_finding.get(number), touches=number in touching
        )
        for number, size in sorted(shared.findings.items())
    )
    return tuple(lesions), findings
