"""Where a finding lies, in patient terms: "right lung, upper third, posterior, 6 mm from its surface"."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.imaging.geometry import Box, Geometry
from r2seg_agent.imaging.volume import Mask, Volume
from r2seg_agent.reason.anatomy import organs
from r2seg_agent.reason.anchors.protocol import AnchorSet
from r2seg_agent.reason.plan import AnatomyPlan
from r2seg_agent.report.organ_index import organ_index
from r2seg_agent.report.planes import axial_axis, is_picture

WHOLE_BODY = frozenset({"body", "body_trunc", "body_extremities", "trunk", "skin"})
"""Organs that say nothing about a place; named only when no other organ is near."""
ALIKE_OVERLAP = 0.9
"""Organs that hold at least this share of what the best one holds are equally good: the smallest names the place."""
SECOND_ORGAN = 0.25
"""Share of the finding in a second organ from which that one is named too."""
INSIDE, EDGE = 0.5, 0.05
"""Share of the finding inside an organ from which it lies "in" it, and from which it lies "on its edge"."""
SEARCH_RADII_MM = (10.0, 30.0, 60.0)
"""How far surfaces are looked for, in growing steps, so that a large scan costs no more than a small one."""


class _Organ(NamedTuple):
    name: str
    share: float
    """Share of the finding's voxels in the organ (or of the shell around it, for a hole in an organ mask)."""
    n_voxels: int


def place(mask: Mask, box: Box, volume: Volume, anchors: AnchorSet | None, plan: AnatomyPlan) -> str:
    """Describe where `mask` (z, y, x), which covers `box`, lies.

    Side and directions are the patient's, from LPS positions and so also right on oblique images. The organ is the
    most specific one of `anchors` that holds the finding (organs of `plan.anchors` first where they are alike); a
    finding in a hole of an organ mask counts as inside. Thirds are of the organ's extent along each patient axis,
    at the finding's centroid; the middle third of front–back and side–side is not named. The distance is the
    smallest from a voxel of the finding to a surface voxel of the organ, between voxel centres (0: "at its surface").
    Where the organ leaves the image, thirds are of the part in view, and the text says so.

    A picture has no patient: thirds of the picture and pixels instead.
    """
    geometry = volume.geometry
    if is_picture(volume):
        where = _place_in_picture(mask, box, geometry)
        found = _organs(mask, box, anchors, plan) if anchors else []
        return f"{organ_name(found[0].name)}, {where}" if found and found[0].share >= INSIDE else where
    if anchors is None:
        return _place_in_image(mask, box, geometry)
    found = _organs(mask, box, anchors, plan)
    if not found or found[0].name in WHOLE_BODY:
        return _nearest(mask, box, anchors, plan) or _place_in_image(mask, box, geometry)
    best = found[0]
    parts = [*_thirds(mask, box, anchors, best.name), _depth(mask, box, anchors, best.name)]
    name = " and ".join(organ_name(organ.name) for organ in found)
    if best.share < INSIDE:
        name = f"edge of {name}"
    return ", ".join([name, *parts])


def organ_name(canonical: str) -> str:
    """An organ's name for people, from the organ table; a name that is not in it is only made readable."""
    known = organs().get(canonical)
    return known.display if known else canonical.replace("_", " ")


def _organs(mask: Mask, box: Box, anchors: AnchorSet, plan: AnatomyPlan) -> list[_Organ]:
    """The organ that holds the finding and, where it spans two, the second; empty when none touches it."""
    wide = box.dilated((2, 2, 2), anchors.geometry.shape)
    inner = box.within(wide)
    finding = np.zeros(wide.shape, dtype=bool)
    finding[inner.slices] = mask
    labels = anchors.labels[wide.slices]
    size = int(np.iinfo(anchors.labels.dtype).max) + 1
    inside = np.bincount(labels[finding], minlength=size)
    shell = np.bincount(labels[_shell(finding)], minlength=size)
    index = organ_index(anchors)
    found: list[_Organ] = []
    for name, values in anchors.names.items():
        share = float(inside[list(values)].sum()) / float(finding.sum())
        around = float(shell[list(values)].sum()) / max(1.0, float(shell.sum()))
        if around > INSIDE and name not in WHOLE_BODY:
            share = max(share, around)  # a hole that an organ model left out around a lesion
        if share >= EDGE:
            found.append(_Organ(name, share, index.n_voxels(name)))
    specific = [organ for organ in found if organ.name not in WHOLE_BODY]
    if not specific:
        return found[:1]
    most = max(organ.share for organ in specific)
    alike = [organ for organ in specific if organ.share >= ALIKE_OVERLAP * most]
    if most < INSIDE:  # on an edge between organs the one that was searched is what the reader asked about
        alike = [organ for organ in specific if organ.name in plan.anchors] or alike
    best = min(alike, key=lambda organ: (organ.n_voxels, organ.name not in plan.anchors, organ.name))
    own = set(anchors.names[best.name])
    second = [
        organ
        for organ in specific
        if not own & set(anchors.names[organ.name])
        and inside[list(anchors.names[organ.name])].sum() >= SECOND_ORGAN * finding.sum()
    ]
    second.sort(key=lambda organ: (-organ.share, organ.n_voxels, organ.name))
    return [best, *second[:1]]


def _shell(finding: Mask) -> Mask:
    from scipy import ndimage

    grown: Mask = ndimage.binary_dilation(finding, iterations=2)
    return grown & ~finding


def _thirds(mask: Mask, box: Box, anchors: AnchorSet, organ: str) -> list[str]:
    extent = organ_index(anchors).extent(organ)
    if extent is None:
        return []
    geometry = anchors.geometry
    low, high, organ_box = extent
    size = high - low
    fraction = (_centroid_lps(mask, box, geometry) - low) / np.maximum(size, 1e-6)
    left, posterior, superior = (min(2, max(0, int(3 * f))) for f in fraction)
    words: list[str] = []
    if size[2] > 0:
        axis = axial_axis(geometry)
        cut = organ_box.start[axis] == 0 or organ_box.stop[axis] == geometry.shape[axis]
        words.append(f"{('lower', 'middle', 'upper')[superior]} third{' of the part in view' if cut else ''}")
    if size[1] > 0 and posterior != 1:
        words.append("posterior" if posterior else "anterior")
    if size[0] > 0 and left != 1:
        words.append(_side_word(organ, towards_left=left == 2))
    return words


def _side_word(organ: str, towards_left: bool) -> str:
    """Medial and lateral within an organ that has a side, the patient's left and right within one that has none."""
    known = organs().get(organ)
    side = known.side if known else next((s for s in ("left", "right") if s in organ.split("_")), None)
    if side is None:
        return "left part" if towards_left else "right part"
    return "lateral" if towards_left == (side == "left") else "medial"


def _depth(mask: Mask, box: Box, anchors: AnchorSet, organ: str) -> str:
    for radius_mm in SEARCH_RADII_MM:
        wide, finding = _widened(mask, box, anchors.geometry, radius_mm)
        inside = anchors.mask(organ, wide) | finding
        distance = _distance_mm(finding, _surface(inside), anchors.geometry)
        if distance is not None and distance <= radius_mm:
            return "at its surface" if distance == 0 else f"{distance:.0f} mm from its surface"
    return f"more than {SEARCH_RADII_MM[-1]:.0f} mm from its surface"


def _nearest(mask: Mask, box: Box, anchors: AnchorSet, plan: AnatomyPlan) -> str:
    """How far the nearest searched organ is, for a finding that lies in none; empty when all are far."""
    known = [organ for organ in plan.anchors if anchors.names.get(organ)]
    for radius_mm in SEARCH_RADII_MM:
        wide, finding = _widened(mask, box, anchors.geometry, radius_mm)
        found: list[tuple[float, str]] = []
        for organ in known:
            distance = _distance_mm(finding, _surface(anchors.mask(organ, wide)), anchors.geometry)
            if distance is not None and distance <= radius_mm:
                found.append((distance, organ))
        if found:
            distance, organ = min(found)
            return f"outside the organs located, {distance:.0f} mm from {organ_name(organ)}"
    return ""


def _widened(mask: Mask, box: Box, geometry: Geometry, radius_mm: float) -> tuple[Box, Mask]:
    dz, dy, dx = (int(np.ceil(radius_mm / s)) + 1 for s in geometry.spacing_mm)
    wide = box.dilated((dz, dy, dx), geometry.shape)
    finding = np.zeros(wide.shape, dtype=bool)
    finding[box.within(wide).slices] = mask
    return wide, finding


def _surface(inside: Mask) -> Mask:
    """Voxels with a face neighbour outside; the edge of the crop or the image is no surface."""
    from scipy import ndimage

    core: Mask = ndimage.binary_erosion(inside, border_value=1)
    return inside & ~core


def _distance_mm(finding: Mask, surface: Mask, geometry: Geometry) -> float | None:
    """Smallest distance between voxel centres of `finding` and `surface`; None when there is no surface."""
    from scipy.spatial import cKDTree

    if not surface.any():
        return None
    if (finding & surface).any():
        return 0.0
    spacing = np.asarray(geometry.spacing_mm)
    tree = cKDTree(np.argwhere(surface) * spacing)
    distances, _ = tree.query(np.argwhere(_surface(finding)) * spacing)
    return float(np.min(distances))


def _centroid_lps(mask: Mask, box: Box, geometry: Geometry) -> NDArray[np.float64]:
    return geometry.to_lps_mm(np.argwhere(mask).mean(axis=0) + np.asarray(box.start))


def _place_in_image(mask: Mask, box: Box, geometry: Geometry) -> str:
    """No organ to name: the patient's side of the image centre."""
    middle = geometry.to_lps_mm((np.asarray(geometry.shape, dtype=np.float64) - 1) / 2)
    x, y, z = (_centroid_lps(mask, box, geometry) - middle).tolist()
    words = [f"{abs(x):.0f} mm to the patient's {'left' if x > 0 else 'right'}"]
    words.append(f"{abs(y):.0f} mm {'posterior' if y > 0 else 'anterior'}")
    words.append(f"{abs(z):.0f} mm {'above' if z > 0 else 'below'}")
    return f"{', '.join(words)} of the image centre"


def _place_in_picture(mask: Mask, box: Box, geometry: Geometry) -> str:
    _, y, x = (np.argwhere(mask).mean(axis=0) + np.asarray(box.start)).tolist()
    _, height, width = geometry.shape
    row = ("upper", "middle", "lower")[min(2, int(3 * (y + 0.5) / height))]
    column = ("left", "centre", "right")[min(2, int(3 * (x + 0.5) / width))]
    where = "centre" if (row, column) == ("middle", "centre") else f"{row} {column}"
    return f"{where} of the picture, centre at x {x:.0f} px, y {y:.0f} px"
