"""Surface distances and panoptic counts by MONAI (extra `eval`), on the smallest box that holds everything."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.errors import MissingDependencyError
from r2seg_agent.evals.models import PanopticCounts, SurfaceDistances
from r2seg_agent.evals.overlap import union_box
from r2seg_agent.imaging.geometry import Float3

PANOPTIC_IOU = 0.5
"""Above one half a match is unique (Kirillov et al. 2019)."""


def require_monai() -> None:
    """Raises `MissingDependencyError` in words where MONAI is not installed; call it before long work."""
    try:
        import monai.metrics  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            "surface distances and panoptic quality need MONAI, which is not installed",
            "Install it with `pip install 'r2seg-agent[eval]'`, or evaluate without them: --no-surface.",
        ) from error


def surface_distances(
    lesions: NDArray[Any], findings: NDArray[Any], spacing_mm: Float3, tolerance_mm: float
) -> SurfaceDistances | None:
    """HD95, ASSD and normalised surface Dice of all findings against all lesions; None where one of them is empty.

    Label maps (z, y, x). Surfaces are the voxels of a mask that have a face neighbour outside it, distances those of
    their centres in mm, in the plane for one slice. HD95 is the larger of the two 95th percentiles, ASSD the mean over
    both surfaces, the surface Dice the share of both that lies within the tolerance (Nikolov et al. 2021).
    """
    import torch
    from monai.metrics.hausdorff_distance import compute_hausdorff_distance
    from monai.metrics.surface_dice import compute_surface_dice
    from monai.metrics.surface_distance import compute_average_surface_distance

    pair = _cropped(lesions, findings)
    if pair is None:
        return None
    true, found = (mask != 0 for mask in pair)
    if not (true.any() and found.any()):
        return None
    spacing: tuple[float, ...] = spacing_mm
    if true.shape[0] == 1 and lesions.shape[0] == 1:
        true, found, spacing = true[0], found[0], spacing_mm[1:]
    # A border of background: MONAI takes the rim of the array for no surface.
    y, y_pred = (torch.from_numpy(np.pad(mask, 1)[None, None].astype(np.float32)) for mask in (true, found))
    common: dict[str, Any] = {"include_background": True, "spacing": spacing}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # MONAI 1.6 calls its own deprecated arguments
        hd95 = compute_hausdorff_distance(y_pred, y, percentile=95, **common)
        assd = compute_average_surface_distance(y_pred, y, symmetric=True, **common)
        nsd = compute_surface_dice(y_pred, y, class_thresholds=[tolerance_mm], **common)
    values = [float(value) for value in (hd95, assd, nsd)]
    if not all(math.isfinite(value) for value in values):
        return None
    return SurfaceDistances(hd95_mm=values[0], assd_mm=values[1], nsd=values[2])


def panoptic_counts(lesions: NDArray[Any], findings: NDArray[Any]) -> PanopticCounts:
    """Matches, misses and the sum of IoU at IoU > 0.5 of two label maps (z, y, x), one label per body."""
    import torch
    from monai.metrics.panoptic_quality import compute_panoptic_quality

    used = (lesions != 0) | (findings != 0)
    n_lesions, n_findings = (np.count_nonzero(np.unique(labels[used])) for labels in (lesions, findings))
    if n_lesions == 0 or n_findings == 0:
        return PanopticCounts(tp=0, fp=n_findings, fn=n_lesions, iou_sum=0.0)
    # MONAI makes a whole mask for every body and wants two axes: it gets the voxels of bodies alone, in one row.
    gt, pred = (torch.from_numpy(labels[used].astype(np.int32)[None]) for labels in (lesions, findings))
    counts = compute_panoptic_quality(
        pred, gt, remap=True, match_iou_threshold=PANOPTIC_IOU, output_confusion_matrix=True
    )
    tp, fp, fn, iou_sum = (float(value) for value in counts)
    return PanopticCounts(tp=round(tp), fp=round(fp), fn=round(fn), iou_sum=iou_sum)


def _cropped(lesions: NDArray[Any], findings: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]] | None:
    box = union_box(lesions, findings)
    return None if box is None else (lesions[box.slices], findings[box.slices])
