"""One pass of a frozen model over the ROIs of a round: probabilities per ROI, ready for `find_candidates`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from r2seg_agent.imaging.geometry import Box, Geometry
from r2seg_agent.imaging.volume import Mask, Volume
from r2seg_agent.progress import Progress, silent
from r2seg_agent.reason.anchors.protocol import AnchorSet
from r2seg_agent.reason.plan import AnatomyPlan
from r2seg_agent.reason.roi import ROI
from r2seg_agent.segment.candidates import ScaleProbability
from r2seg_agent.segment.protocol import Prompt, Segmenter, ShowsProgress
from r2seg_agent.segment.tta import with_flips

NEAR_MM = 10.0
"""How far into a neighbouring organ a widened search looks; ours."""


def union_box(rois: Sequence[ROI]) -> Box:
    """The smallest box around all ROIs of a round."""
    box = rois[0].box
    for roi in rois[1:]:
        box = box.union(roi.box)
    return box


def search_mask(anchors: AnchorSet | None, plan: AnatomyPlan, own: Sequence[str], box: Box) -> Mask:
    """M* inside `box` (z, y, x): where the lesion can lie and what counts as its normal tissue.

    The union of the target's `own` anchors; of further anchors of `plan` (neighbours that widening has added) only what
    lies within `NEAR_MM` of them: a lesion that the anchor model gave to a neighbour lies on the border. When the
    anchors are only landmarks near the target, or none was located, all of the box.
    """
    if anchors is None or plan.anchor_role == "near":
        return np.ones(box.shape, dtype=bool)
    mask = anchors.mask(own, box)
    added = [organ for organ in plan.anchors if organ not in own]
    if added:
        mask |= anchors.mask(added, box) & _grown(mask, anchors.geometry, NEAR_MM)
    return mask


def _grown(mask: Mask, geometry: Geometry, by_mm: float) -> Mask:
    """`mask` grown by `by_mm` along every axis (a box, not a ball: cheap in time and memory)."""
    from scipy.ndimage import maximum_filter1d

    grown = mask.astype(np.uint8)
    for axis, step in enumerate(geometry.spacing_mm):
        size = 2 * round(by_mm / step) + 1
        if mask.shape[axis] > 1 and size > 1:
            grown = maximum_filter1d(grown, size, axis=axis, mode="constant")
    return grown.astype(bool)


def diameters_mm(plan: AnatomyPlan) -> tuple[float, float]:
    """Diameters of the balls that have the plan's expected volumes."""
    low, high = plan.expected_volume_ml
    return (_diameter_mm(low), _diameter_mm(high))


def segment_rois(
    segmenter: Segmenter,
    volume: Volume,
    anchors: AnchorSet | None,
    plan: AnatomyPlan,
    own: Sequence[str],
    rois: Sequence[ROI],
    progress: Progress = silent,
) -> list[ScaleProbability]:
    """Ask `segmenter` for the plan's target in every ROI, with test-time flips where they can change anything.

    A segmenter whose answer does not depend on the ROI looks once into each ROI that lies in no other one; the
    inner ROIs are views of that answer. Without `anchors` it is not told where normal tissue lies; a model that is
    asked by boxes alone gets one around each whole slice.
    """
    if isinstance(segmenter, ShowsProgress):
        segmenter.progress = progress
    outer = [roi for roi in rois if not _inside_another(roi, rois)] if segmenter.info.roi_independent else list(rois)
    answers: list[ScaleProbability] = []
    kinds = segmenter.info.prompt_kinds
    by_box = "box" in kinds and "text" not in kinds
    for done, roi in enumerate(outer):
        progress("segment", done, len(outer), f"{segmenter.info.name}, scale {roi.scale:g}")
        prompt = Prompt(
            text=plan.prompt,
            target=plan.target_name,
            site=plan.site,
            modality=plan.modality,
            window=plan.window,
            contrast=plan.expected_contrast,
            diameters_mm=diameters_mm(plan),
            box=Box(start=(0, 0, 0), stop=roi.box.shape) if anchors is None and by_box else None,
            mask=None if anchors is None else search_mask(anchors, plan, own, roi.box),
            concept=plan.target,
            laterality=plan.laterality,
            hounsfield=volume.unit == "HU",
        )
        answers.append(ScaleProbability(roi.box, roi.scale, with_flips(segmenter, volume, roi.box, [prompt])[0]))
    progress("segment", len(outer), len(outer), segmenter.info.name)
    for roi in rois:
        if roi in outer:
            continue
        host = next(a for a in answers if a.box.contains(roi.box))
        answers.append(ScaleProbability(roi.box, roi.scale, host.probability[roi.box.within(host.box).slices]))
    return sorted(answers, key=lambda answer: (answer.scale, answer.box.start))


def _inside_another(roi: ROI, rois: Sequence[ROI]) -> bool:
    return any(other.box.contains(roi.box) and other.box != roi.box for other in rois)


def _diameter_mm(volume_ml: float) -> float:
    return 2.0 * math.cbrt(3.0 * volume_ml * 1000.0 / (4.0 * math.pi))
