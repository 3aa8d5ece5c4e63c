"""Regions of interest B_σ around the anchors (method.md §1) and the ladder that widens them (§3, Loop).

    B_σ = Square(Dilate(B₀, ⌈ρ·σ / s⌉)),  σ ∈ Σ

with B₀ the box around the anchors, ρ the padding in mm and s the spacing of each axis. Choices of ours:

- The ceiling stands outside the product and per axis, so the margin is at least ρ·σ mm and less than one voxel more on
  every axis; with ⌈ρ/s⌉·σ of the paper it would not be a whole number for σ = 1.5.
- Square means square in *pixels* of a slice, because the segmenter resizes pixels; scans whose in-plane spacing differs
  between rows and columns keep the aspect that they have.
- The square is centred on B₀. Where it leaves the image it is shifted inward; an axis shorter than the square is taken
  whole. So B_σ grows with σ and with ρ, contains B₀, and is square whenever the image is large enough.
- A slice (2D) is not dilated along z: there is nothing there.
- Anchors far apart (two kidneys) get ROIs of their own: anchors whose boxes overlap after the largest dilation of the
  plan form one group, and each group has its own B₀.

The ladder of rounds: 1. all scales of the plan, as it stands; 2. a larger ρ, with those scales only that reach further
than round 1 did; 3. the plan's neighbouring organs as further anchors, of which `segment/rois.py` takes the part that
borders on the plan's own. "Next σ" of the method is inside round 1, because all scales are segmented together and
merged. Without neighbours the ladder ends after round 2: a still larger margin adds only voxels that the overlap gate
(L2) would reject.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping

from r2seg_agent.frozen import Frozen
from r2seg_agent.imaging.geometry import Box, Geometry, Index3, bounding_box
from r2seg_agent.reason.anchors.protocol import AnchorSet
from r2seg_agent.reason.plan import DEFAULT_PADDING_MM, AnatomyPlan

MAX_ROUNDS = 3
"""Rounds of one search, the first included (method.md §3)."""
WIDEN_PADDING_FACTOR = 2.0
"""Round 2 multiplies ρ by this; ours."""
MIN_WIDENED_PADDING_MM = DEFAULT_PADDING_MM
"""Round 2 pads by at least this, so that a plan with almost no padding recovers; ours."""
_ROUNDING = 1e-6
"""Voxels by which ρ·σ/s may exceed a whole number before it is rounded up: float noise, not distance."""


class ROI(Frozen):
    """One box to segment in: `box` on the image grid, grown from `anchors` by `padding_mm * scale`."""

    box: Box
    scale: float
    padding_mm: float
    square: bool
    anchors: tuple[str, ...]


class WidenStep(Frozen):
    """What one round searches: `plan` has this round's padding, scales and anchors; `why` says it in words."""

    round: int
    plan: AnatomyPlan
    why: str


def build_rois(anchors: AnchorSet, plan: AnatomyPlan) -> tuple[ROI, ...]:
    """B_σ of the plan around those of its anchors that are in view; () when none is."""
    return rois_around(
        anchors.geometry,
        anchor_boxes(anchors, plan.anchors),
        padding_mm=plan.padding_mm,
        scales=plan.scales,
        square=plan.square,
    )


def whole_image(geometry: Geometry) -> tuple[ROI, ...]:
    """One region that is all of the image, around no organ."""
    return (ROI(box=geometry.full_box, scale=1.0, padding_mm=0.0, square=False, anchors=()),)


def anchor_boxes(anchors: AnchorSet, organs: Iterable[str]) -> dict[str, Box]:
    """Boxes around the masks of the organs that are in view, in the order given."""
    found: dict[str, Box] = {}
    for organ in organs:
        box = bounding_box(anchors.mask(organ))
        if box is not None:
            found[organ] = box
    return found


def rois_around(
    geometry: Geometry,
    boxes: Mapping[str, Box],
    *,
    padding_mm: float,
    scales: Iterable[float],
    square: bool = True,
    limit: Box | None = None,
) -> tuple[ROI, ...]:
    """B_σ of every group of anchors and every scale, by group and then by rising scale; () without anchors.

    `boxes` holds B₀ of each anchor in view (`anchor_boxes`). ROIs stay inside `limit` (the whole image by default) as
    far as the anchors do. Scales whose boxes are equal after clipping are merged, the smallest scale stays.
    """
    wanted = sorted(set(scales))
    inside = limit or geometry.full_box
    rois: list[ROI] = []
    for names, b0 in _groups(geometry, boxes, padding_mm * wanted[-1]) if wanted else ():
        seen: list[Box] = []
        for scale in wanted:
            box = _grown(b0, _margin_vox(geometry, padding_mm * scale), square, inside.union(b0))
            if box not in seen:
                seen.append(box)
                rois.append(ROI(box=box, scale=scale, padding_mm=padding_mm, square=square, anchors=names))
    return tuple(rois)


def widen(plan: AnatomyPlan, round_index: int, available: Collection[str] | None = None) -> WidenStep | None:
    """What round `round_index` (from 1) of the original `plan` searches; None when the ladder has ended.

    `available` are the organs that the anchor source can find: neighbours outside it are left out. A pure function.
    """
    padding = max(plan.padding_mm * WIDEN_PADDING_FACTOR, MIN_WIDENED_PADDING_MM)
    reached = plan.padding_mm * max(plan.scales)
    further = tuple(s for s in plan.scales if padding * s > reached) or (max(plan.scales),)
    wider = plan.model_copy(update={"padding_mm": padding, "scales": further})
    if round_index == 1:
        why = f"First look: the plan's margin of {plan.padding_mm:g} mm at the scales {_listed(plan.scales)}."
        return WidenStep(round=1, plan=plan, why=why)
    if round_index == 2:
        why = (
            f"Nothing survived within {reached:g} mm of the anchors: the margin grows from {plan.padding_mm:g} to "
            f"{padding:g} mm (scales {_listed(further)}), for a lesion that leaves the organ."
        )
        return WidenStep(round=2, plan=wider, why=why)
    neighbours = tuple(n for n in plan.neighbours if n not in plan.anchors and (available is None or n in available))
    if round_index != MAX_ROUNDS or not neighbours:
        return None
    why = (
        f"Nothing survived around the anchors: the border of the neighbouring organs {', '.join(neighbours)} is "
        "searched too, for a lesion that the anchor model gave to them."
    )
    return WidenStep(round=3, plan=wider.model_copy(update={"anchors": (*plan.anchors, *neighbours)}), why=why)


def _listed(scales: Iterable[float]) -> str:
    return ", ".join(f"{s:g}" for s in scales)


def _margin_vox(geometry: Geometry, margin_mm: float) -> Index3:
    """⌈margin / spacing⌉ per axis (z, y, x); 0 along z for one slice."""
    z, y, x = (math.ceil(max(0.0, margin_mm / s - _ROUNDING)) for s in geometry.spacing_mm)
    return (0 if geometry.is_2d else z, y, x)


def _groups(geometry: Geometry, boxes: Mapping[str, Box], margin_mm: float) -> list[tuple[tuple[str, ...], Box]]:
    """Anchors whose boxes overlap after dilation by `margin_mm`, each group with its common box."""
    margin = _margin_vox(geometry, margin_mm)
    groups: list[tuple[tuple[str, ...], Box]] = []
    for name, box in boxes.items():
        names: tuple[str, ...] = (name,)
        union = box
        merged = True
        while merged:  # a grown union may reach a group that none of its parts did
            merged = False
            for other in groups:
                reach = union.dilated(margin, geometry.shape)
                if reach.intersection(other[1].dilated(margin, geometry.shape)) is not None:
                    groups.remove(other)
                    names, union = (*other[0], *names), other[1].union(union)
                    merged = True
                    break
        groups.append((names, union))
    return groups


def _grown(b0: Box, margin: Index3, square: bool, inside: Box) -> Box:
    """B₀ dilated by `margin` voxels, squared in-plane around its centre, shifted and clipped into `inside`."""
    lengths = [n + 2 * m for n, m in zip(b0.shape, margin, strict=True)]
    if square:
        lengths[1] = lengths[2] = max(lengths[1], lengths[2])
    start: list[int] = []
    stop: list[int] = []
    for axis in range(3):
        a, b, low, high = b0.start[axis], b0.stop[axis], inside.start[axis], inside.stop[axis]
        if square and axis > 0:
            length = min(lengths[axis], high - low)
            first = min(max((a + b - lengths[axis]) // 2, low), high - length)
            start.append(first)
            stop.append(first + length)
        else:
            start.append(max(low, a - margin[axis]))
            stop.append(min(high, b + margin[axis]))
    return Box(start=(start[0], start[1], start[2]), stop=(stop[0], stop[1], stop[2]))
