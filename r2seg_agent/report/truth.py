"""Findings against a reference mask (`--truth`)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.imaging.geometry import Geometry, bounding_box
from r2seg_agent.imaging.volume import Mask
from r2seg_agent.report.models import LesionTruth, TruthEvaluation


def evaluate(findings: NDArray[Any], truth: NDArray[Any], geometry: Geometry) -> TruthEvaluation:
    """Compare two label maps (z, y, x) on the same grid, 0 = background.

    `findings` holds one value per finding, as in `lesions.*`. `truth` with a single value is a binary mask whose
    26-connected components (8-connected in 2D) are the reference lesions, numbered from 1 in scan order; with
    several values each value is one lesion. Over all voxels: Dice = 2|F∩T|/(|F|+|T|), sensitivity = |F∩T|/|T|,
    precision = |F∩T|/|F|, None where the denominator is 0. Per lesion the same against the whole finding that
    shares most voxels with it (ties: the lower number). A false finding shares no voxel with any lesion.

    Raises `ValueError` when the shapes differ (`imaging/masks.py` checks the grids before).
    """
    if findings.shape != truth.shape or findings.shape != geometry.shape:
        raise ValueError(f"findings {findings.shape}, truth {truth.shape}, grid {geometry.shape} differ (z, y, x)")
    found, reference = np.asarray(findings != 0), np.asarray(truth != 0)
    sizes = _counts(findings, found)
    n_found, n_true = int(found.sum()), int(reference.sum())
    shared = int((found & reference).sum())
    hit = {int(v) for v in np.unique(findings[found & reference])}
    return TruthEvaluation(
        dice=2 * shared / (n_found + n_true) if n_found + n_true else None,
        sensitivity=shared / n_true if n_true else None,
        precision=shared / n_found if n_found else None,
        lesions=_lesions(findings, truth, reference, sizes, geometry),
        false_findings=tuple(sorted(set(sizes) - hit)),
    )


def _lesions(
    findings: NDArray[Any], truth: NDArray[Any], reference: Mask, sizes: dict[int, int], geometry: Geometry
) -> tuple[LesionTruth, ...]:
    box = bounding_box(reference)
    if box is None:
        return ()
    lesions = _reference_lesions(truth[box.slices], reference[box.slices])
    nearby = findings[box.slices]
    rows: list[LesionTruth] = []
    for label, n_lesion in _counts(lesions, lesions != 0).items():
        overlaps = _counts(nearby, (lesions == label) & (nearby != 0))
        best = min(overlaps, key=lambda number: (-overlaps[number], number), default=None)
        shared = overlaps[best] if best is not None else 0
        n_finding = sizes[best] if best is not None else 0
        rows.append(
            LesionTruth(
                label=label,
                volume_ml=n_lesion * geometry.voxel_volume_mm3 / 1000.0,
                finding=best,
                dice=2 * shared / (n_lesion + n_finding),
                sensitivity=shared / n_lesion,
                precision=shared / n_finding if n_finding else None,
            )
        )
    return tuple(rows)


def _reference_lesions(truth: NDArray[Any], reference: Mask) -> NDArray[Any]:
    values = np.unique(truth[reference])
    if values.size > 1:
        return truth
    import cc3d

    components: NDArray[Any] = cc3d.connected_components(np.ascontiguousarray(reference, dtype=np.uint8))
    return components


def _counts(labels: NDArray[Any], where: Mask) -> dict[int, int]:
    values, counts = np.unique(labels[where], return_counts=True)
    return {int(v): int(n) for v, n in zip(values, counts, strict=True)}
