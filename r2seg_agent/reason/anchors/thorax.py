"""Lung fields on a coarse CT grid: air of the lungs, closed over whatever solid stands in them.

Everything here works on a grid of about 3 mm, axis 0 along the body, values in HU. The hard part is a tumour on the
pleura: it is as grey as the chest wall and the heart, so no closing radius gets it without getting them. The field is
instead the convex hull of each lung in each axial slice (a chest wall is convex seen from inside), and every solid body
inside the hull is then kept or given back by what it touches: a lesion borders on lung and chest wall, while the heart,
the great vessels and the diaphragm continue into soft tissue outside the hull.
"""

from __future__ import annotations

from dataclasses import dataclass

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError

from r2seg_agent.imaging.geometry import Float3
from r2seg_agent.imaging.granulometry import contact_areas_mm2, split_by_thickness
from r2seg_agent.imaging.volume import FloatArray, Mask

AIR_HU = -400.0
"""Below: air or aerated lung (half way between lung, about −850 HU, and soft tissue)."""
SOFT_HU = -250.0
"""Above: solid tissue rather than fat's or the pleura's partial volume with air."""
BONE_HU = 180.0
"""Above, on the coarse grid: bone (or dense contrast medium)."""
LUNG_MEDIAN_HU = (-950.0, -500.0)
"""The median of an air region inside which it is lung; gas in bowel and room air lie below."""
ROOM_AIR_P10_HU = -975.0
"""An air region that touches the picture's rim and whose 10th percentile is below is room air, not lung."""
MIN_LUNG_ML = 20.0
MIN_BONE_ML = 1.0
AIRWAY_HU = -930.0
"""Below: the lumen of trachea and main bronchi (and bullae); they must not widen the hull to the midline."""
COSTAL_BARRIER_MM = 12.0
"""Soft tissue outside the hull and this near to bone is chest wall; farther it is mediastinum, abdomen or muscle."""
MIN_SOLID_RADIUS_MM = 4.0
"""Solid bodies thinner than twice this stay in the field unquestioned: vessels, small nodules."""
MAX_OPEN_SHARE = 0.3
"""A solid body is given back when more than this share of its free surface continues into soft tissue."""
HULL_BRIDGE_MM = 25.0
"""Half the gap along the body over which neighbouring slices' hulls complete each other."""
GIVE_BACK_MM = 10.0
"""Thin solid remains this near to a body that was given back go with it."""
MIN_VERTEBRA_RADIUS_MM = 8.0
RIB_SLAB_MM = 9.0
"""Ribs this far above and below a slice count as its wall."""
RIB_GAP_MM = 8.0
"""Half the widest gap between hull and ribs that is filled; see `_gap_to_ribs`."""
PLEURA_TO_RIB_MM = 3.0
"""Muscle and fat between pleura and rib, left out of the gap."""
MIN_CORE_SHARE = 0.1
"""A part of the lungs is one side's core when it holds at least this share of all lung voxels."""


@dataclass(frozen=True, eq=False)
class LungFields:
    """`side` uint8 (z, y, x): 0 none, 1 left, 2 right, lesions included; `solid` marks the bodies that stayed in."""

    side: NDArray[np.uint8]
    solid: Mask


def find_air_of_lungs(hu: FloatArray, spacing_mm: Float3) -> Mask:
    """Aerated lung by the grey values of each air region; room air and bowel gas stay out even when they are large."""
    air = hu < AIR_HU
    labels, n = cc3d.connected_components(air, connectivity=6, return_N=True)
    counts = np.bincount(labels.ravel(), minlength=n + 1)
    counts[0] = 0
    inner = ndimage.binary_erosion(air)
    lungs = np.zeros(hu.shape, dtype=bool)
    min_voxels = MIN_LUNG_ML * 1000.0 / float(np.prod(spacing_mm))
    boxes = ndimage.find_objects(labels)
    for number in np.flatnonzero(counts >= min_voxels):
        box = boxes[number - 1]
        region = labels[box] == number
        core = region & inner[box]
        p10, median = np.percentile(hu[box][core if core.any() else region], [10, 50])
        rim = any(s.start == 0 or s.stop == size for s, size in zip(box[1:], hu.shape[1:], strict=True))
        if LUNG_MEDIAN_HU[0] < median < LUNG_MEDIAN_HU[1] and not (rim and p10 < ROOM_AIR_P10_HU):
            lungs[box] |= region
    return lungs


def find_bone(hu: FloatArray, spacing_mm: Float3) -> Mask:
    """Voxels above `BONE_HU` in connected pieces of at least `MIN_BONE_ML`."""
    labels, n = cc3d.connected_components(hu > BONE_HU, connectivity=26, return_N=True)
    keep = np.bincount(labels.ravel(), minlength=n + 1) * float(np.prod(spacing_mm)) >= MIN_BONE_ML * 1000.0
    keep[0] = False
    bone: Mask = keep[labels]
    return bone


def find_body(hu: FloatArray, lungs: Mask) -> Mask:
    """The patient without table and blankets: the largest solid pieces after an opening, with all that they enclose."""
    solid = ndimage.binary_opening(hu > AIR_HU) | lungs
    labels, n = cc3d.connected_components(solid, connectivity=6, return_N=True)
    counts = np.bincount(labels.ravel(), minlength=n + 1)
    counts[0] = 0
    if n == 0:
        return solid
    body: Mask = (counts >= 0.1 * counts.max())[labels]
    for z in range(body.shape[0]):
        body[z] = ndimage.binary_fill_holes(body[z])
    return body


def spine_position(bone: Mask, spacing_mm: Float3, left_mm: NDArray[np.float32]) -> float | None:
    """Left coordinate in mm of the vertebral column: the thickest bone of an axial slice, closed over its marrow, in
    the median over the slices that have thick bone (shoulders and hips fill few of them); None without any.
    """
    positions: list[float] = []
    for z in range(bone.shape[0]):
        if not bone[z].any():
            continue
        closed = ndimage.binary_fill_holes(ndimage.binary_closing(np.pad(bone[z], 3), iterations=2))
        thickness = ndimage.distance_transform_edt(closed[3:-3, 3:-3], sampling=spacing_mm[1:])
        thickest = int(thickness.argmax())
        if thickness.flat[thickest] >= MIN_VERTEBRA_RADIUS_MM:
            positions.append(float(left_mm[z].flat[thickest]))
    return float(np.median(positions)) if positions else None


def lung_fields(
    hu: FloatArray, spacing_mm: Float3, lungs: Mask, bone: Mask, left_mm: NDArray[np.float32]
) -> LungFields:
    """Left and right field. `left_mm` (z, y, x) is how far each voxel lies to the patient's left (any origin)."""
    if not lungs.any():
        return LungFields(side=np.zeros(hu.shape, dtype=np.uint8), solid=np.zeros(hu.shape, dtype=bool))
    air_side = _sides(lungs, spacing_mm, bone, left_mm)
    lumen = ndimage.binary_dilation(ndimage.binary_opening(lungs & (hu < AIRWAY_HU)))
    hulls = np.zeros(hu.shape, dtype=bool)
    for side in (1, 2):
        hulls |= np.stack([_hull_2d(section) for section in (air_side == side) & ~lumen])
    hulls |= lungs
    hulls |= _gap_to_ribs(hulls, bone, spacing_mm)
    soft_outside = (hu > SOFT_HU) & ~bone
    soft_outside &= ndimage.distance_transform_edt(~bone, sampling=spacing_mm) > COSTAL_BARRIER_MM
    solid = hulls & ~lungs & ~bone & (hu > AIR_HU)
    given_back, lesions = _judge(solid, hulls, lungs, soft_outside, spacing_mm)
    field = (hulls & ~bone & ~given_back) | lungs
    nearest = ndimage.distance_transform_edt(
        air_side == 0, sampling=spacing_mm, return_distances=False, return_indices=True
    )
    side_map = np.where(field, air_side[tuple(nearest)], 0).astype(np.uint8)
    return LungFields(side=side_map, solid=lesions & field)


def _judge(solid: Mask, hulls: Mask, lungs: Mask, soft_outside: Mask, spacing_mm: Float3) -> tuple[Mask, Mask]:
    """(solid to give back, solid bodies that stay). A body's free surface borders on lung or is open: it continues into
    soft tissue outside the hulls, into the picture's rim, or into a body that was itself given back (so this repeats).
    """
    split = split_by_thickness(solid, spacing_mm, MIN_SOLID_RADIUS_MM)
    n = len(split.blobs)
    lung_code, open_code, wall_code = n + 1, n + 2, n + 3
    codes = np.where(hulls, split.labels, np.where(soft_outside, open_code, wall_code)).astype(np.int32)
    codes[lungs] = lung_code
    areas = contact_areas_mm2(np.pad(codes, 1, constant_values=open_code), n + 4, spacing_mm)
    between = areas[1 : n + 1, 1 : n + 1]
    lung_area, open_area = areas[1 : n + 1, lung_code], areas[1 : n + 1, open_code]
    back = np.zeros(n, dtype=bool)
    while True:
        opened = open_area + between @ back
        worse = back | (opened > MAX_OPEN_SHARE * np.maximum(opened + lung_area, 1e-9))
        if (worse == back).all():
            break
        back = worse
    lookup = np.concatenate([[False], back])
    stay = np.concatenate([[False], ~back])
    gone: Mask = lookup[split.labels]
    if gone.any() and n:
        near, index = ndimage.distance_transform_edt(split.labels == 0, sampling=spacing_mm, return_indices=True)
        gone |= solid & (near <= GIVE_BACK_MM) & lookup[split.labels[tuple(index)]]
    return gone, stay[split.labels]


def _sides(lungs: Mask, spacing_mm: Float3, bone: Mask, left_mm: NDArray[np.float32]) -> NDArray[np.uint8]:
    """1 left, 2 right, for each voxel of `lungs`: erode until the sides part, then nearest core."""
    spine = spine_position(bone, spacing_mm, left_mm)
    middle = float(left_mm[lungs].mean()) if spine is None else spine
    cores: list[Mask] = []
    for steps in range(4):
        eroded = ndimage.binary_erosion(lungs, iterations=steps) if steps else lungs
        labels, n = cc3d.connected_components(eroded, connectivity=6, return_N=True)
        counts = np.bincount(labels.ravel(), minlength=n + 1)
        counts[0] = 0
        found = [labels == k for k in np.flatnonzero(counts >= MIN_CORE_SHARE * max(1, counts.sum()))]
        if len(found) > len(cores):
            cores = found
        if len(cores) > 1:
            break
    seeds = np.zeros(lungs.shape, dtype=np.uint8)
    for core in cores:
        is_left = left_mm > middle
        share = float(is_left[core].mean())
        if 0.25 < share < 0.75 and spine is not None:
            seeds[core & is_left] = 1
            seeds[core & ~is_left] = 2
        else:
            seeds[core] = 1 if share >= 0.5 else 2
    nearest = ndimage.distance_transform_edt(
        seeds == 0, sampling=spacing_mm, return_distances=False, return_indices=True
    )
    sides: NDArray[np.uint8] = np.where(lungs, seeds[tuple(nearest)], 0).astype(np.uint8)
    return sides


def _gap_to_ribs(hulls: Mask, bone: Mask, spacing_mm: Float3) -> Mask:
    """What lies between hull and ribs where a lesion has pushed the lung off the wall: a chord of the hull cuts it off.

    Ribs run obliquely, so each slice sees them over `RIB_SLAB_MM` along the body as one wall.
    """
    reach = max(1, round(RIB_SLAB_MM / spacing_mm[0]))
    ribs = ndimage.maximum_filter(bone.view(np.uint8), size=(2 * reach + 1, 1, 1)) > 0
    in_plane = spacing_mm[1:]
    gap = np.zeros(hulls.shape, dtype=bool)
    pad = int(np.ceil(RIB_GAP_MM / min(in_plane))) + 1
    for z in np.flatnonzero(hulls.any(axis=(1, 2)) & ribs.any(axis=(1, 2))):
        grown = ndimage.distance_transform_edt(~np.pad(hulls[z] | ribs[z], pad), sampling=in_plane) <= RIB_GAP_MM
        closed = ndimage.distance_transform_edt(grown, sampling=in_plane) > RIB_GAP_MM
        between = closed[pad:-pad, pad:-pad] & ~hulls[z]
        between &= ndimage.distance_transform_edt(~ribs[z], sampling=in_plane) > PLEURA_TO_RIB_MM
        between &= ndimage.distance_transform_edt(~hulls[z], sampling=in_plane) <= 2 * RIB_GAP_MM
        between &= ndimage.binary_opening(between | hulls[z])
        pieces, _ = ndimage.label(between)
        touching = np.unique(pieces[ndimage.binary_dilation(hulls[z])])
        gap[z] = between & np.isin(pieces, touching[touching > 0])
    return gap


def _hull_2d(section: Mask) -> Mask:
    points = np.argwhere(section)
    if len(points) < 4:
        return section
    try:
        equations = ConvexHull(points).equations
    except QhullError:  # all points on one line: it is its own hull
        return section
    y, x = np.mgrid[: section.shape[0], : section.shape[1]]
    inside = np.ones(section.shape, dtype=bool)
    for a, b, offset in equations:
        inside &= a * y + b * x + offset <= 0.5
    return inside
