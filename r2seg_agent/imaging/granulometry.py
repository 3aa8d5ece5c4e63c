"""Cut a mask where it is thin: blobs of a size of their own, by the distance to the mask's edge.

A tumour grows against vessels, the heart, the diaphragm or the chest wall at the same grey value, so a threshold joins
them. What still tells them apart is thickness: between two bodies the mask has a neck. Openings of growing radius (a
granulometry) show every neck as a level of the distance transform at which one component becomes two.
"""

from __future__ import annotations

from dataclasses import dataclass

import cc3d
import numpy as np
from numpy.typing import NDArray

from r2seg_agent.imaging.geometry import Float3
from r2seg_agent.imaging.volume import FloatArray, Mask

NECK_RATIO = 0.75
"""Two bodies count as two when the neck between them is thinner than this share of the thinner body's radius."""
OPENING_SHARE = 0.5
"""A body is opened by this share of its radius: what hangs on it and is thinner (vessels, spicules) is cut off."""
LEVEL_STEP = 1.2
"""Ratio of neighbouring levels of the granulometry: a neck is measured to within this factor."""
REGROWTH = 0.25
"""After the opening, a body may grow back into the mask by this share of the opening radius (its own corners)."""


@dataclass(frozen=True)
class Blob:
    """One body: `radius_mm` of its largest inscribed ball, `opening_mm` the radius it was opened with."""

    radius_mm: float
    opening_mm: float


@dataclass(frozen=True, eq=False)
class Split:
    """`labels` int32 (z, y, x): 0 = outside the mask or too thin, k = `blobs[k - 1]`; thickest blob first."""

    labels: NDArray[np.int32]
    blobs: tuple[Blob, ...]


@dataclass
class _Core:
    radius: float
    level: int
    component: int


def split_by_thickness(
    mask: Mask,
    spacing_mm: Float3,
    min_radius_mm: float,
    neck_ratio: float = NECK_RATIO,
) -> Split:
    """Bodies of `mask` (z, y, x) that hold a ball of `min_radius_mm`; thinner parts get label 0.

    Levels r₀ = `min_radius_mm`, r₁ = 1.2 r₀, … of the Euclidean distance transform D (to the nearest voxel outside the
    mask) form a tree of components {D ≥ r}. A node with two or more descendants of radius ρ ≥ r / `neck_ratio` is cut
    there; else it stays whole, down to half its radius. Each core {D ≥ r} is grown back by r(1 + 0.25) inside the mask;
    where two would overlap, the voxel goes to the core that is nearer relative to its r.
    """
    from scipy import ndimage

    distance: FloatArray = ndimage.distance_transform_edt(mask, sampling=spacing_mm).astype(np.float32)
    thickest = float(distance.max(initial=0.0))
    if thickest < min_radius_mm:
        return Split(labels=np.zeros(mask.shape, dtype=np.int32), blobs=())
    levels = [min_radius_mm]
    while levels[-1] * LEVEL_STEP <= thickest:
        levels.append(levels[-1] * LEVEL_STEP)
    components = [_components(distance >= level) for level in levels]
    cores = _cores(distance, levels, components, neck_ratio)
    cores.sort(key=lambda core: (-core.radius, core.level, core.component))
    labels = _grow_back(mask, spacing_mm, levels, components, cores)
    return Split(labels=labels, blobs=tuple(Blob(core.radius, levels[core.level]) for core in cores))


def _components(mask: Mask) -> NDArray[np.int32]:
    labels: NDArray[np.int32] = cc3d.connected_components(mask, connectivity=6, out_dtype=np.uint32).astype(np.int32)
    return labels


def _cores(
    distance: FloatArray, levels: list[float], components: list[NDArray[np.int32]], neck_ratio: float
) -> list[_Core]:
    """Walk the tree of level sets from the thickest level down and decide at each node: one body or several."""
    below: list[list[_Core]] = [[]]
    above_parents: NDArray[np.int32] | None = None
    for level in range(len(levels) - 1, -1, -1):
        inside = np.flatnonzero(components[level])
        values = components[level].ravel()[inside]
        n = int(values.max(initial=0))
        radius = np.zeros(n + 1, dtype=np.float32)
        np.maximum.at(radius, values, distance.ravel()[inside])
        found: list[list[_Core]] = [[] for _ in range(n + 1)]
        if above_parents is not None:
            for child, cores in enumerate(below):
                if child:
                    found[above_parents[child]].extend(c for c in cores if c.radius * neck_ratio >= levels[level])
        for node in range(1, n + 1):
            if not found[node]:
                found[node] = [_Core(float(radius[node]), level, node)]
            elif len(found[node]) == 1 and levels[level] >= OPENING_SHARE * found[node][0].radius:
                found[node] = [_Core(found[node][0].radius, level, node)]
        below = found
        if level:
            first = np.zeros(n + 1, dtype=np.int64)
            first[values[::-1]] = inside[::-1]
            above_parents = components[level - 1].ravel()[first]
    return [core for cores in below[1:] for core in cores]


def _grow_back(
    mask: Mask, spacing_mm: Float3, levels: list[float], components: list[NDArray[np.int32]], cores: list[_Core]
) -> NDArray[np.int32]:
    from scipy import ndimage

    labels = np.zeros(mask.shape, dtype=np.int32)
    nearest = np.full(mask.shape, np.inf, dtype=np.float32)
    boxes = {level: ndimage.find_objects(components[level]) for level in {core.level for core in cores}}
    for number, core in enumerate(cores, start=1):
        opening = levels[core.level]
        reach = opening * (1.0 + REGROWTH)
        pad = [int(np.ceil(reach / step)) + 1 for step in spacing_mm]
        tight = boxes[core.level][core.component - 1]
        crop = tuple(slice(max(0, s.start - p), s.stop + p) for s, p in zip(tight, pad, strict=True))
        away = ndimage.distance_transform_edt(components[core.level][crop] != core.component, sampling=spacing_mm)
        relative = (away / opening).astype(np.float32)
        take = mask[crop] & (away <= reach) & (relative < nearest[crop])
        labels[crop][take] = number
        nearest[crop][take] = relative[take]
    return labels


def contact_areas_mm2(codes: NDArray[np.int32], n_codes: int, spacing_mm: Float3) -> NDArray[np.float64]:
    """Area of the voxel faces shared by each pair of codes: symmetric (n_codes, n_codes) in mm², zero diagonal.

    `codes` (z, y, x) holds 0 … n_codes − 1.
    """
    areas = np.zeros((n_codes, n_codes), dtype=np.float64)
    voxel_mm3 = float(np.prod(spacing_mm))
    for axis in range(3):
        first = codes[(slice(None),) * axis + (slice(0, -1),)]
        second = codes[(slice(None),) * axis + (slice(1, None),)]
        differ = first != second
        pairs = first[differ].astype(np.int64) * n_codes + second[differ]
        counts = np.bincount(pairs, minlength=n_codes * n_codes).reshape(n_codes, n_codes)
        areas += counts * (voxel_mm3 / spacing_mm[axis])
    return areas + areas.T
