"""The left and the right one of a mask that holds both, where the mask itself shows which is which."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.errors import InputError
from r2seg_agent.imaging.geometry import Geometry
from r2seg_agent.imaging.masks import Labels
from r2seg_agent.imaging.volume import Mask
from r2seg_agent.reason.anatomy import on_side, organs
from r2seg_agent.reason.anchors.label_union import LabelUnion

SMALLEST_SIDE = 0.2
"""Smallest share of a both-sided mask ("lungs") that each half must hold for it to be split into left and right; …"""
WAIST = 0.5
"""… and the largest share that its section at the cut may have of the largest section of either half. Two kidneys have
empty columns between them and two lungs that touch a waist; one kidney has neither, and is not cut through."""


def halves(mask: Mask, geometry: Geometry) -> tuple[Mask, Mask] | None:
    """(left, right) of the patient, each (z, y, x); None where the mask does not show two sides.

    The profile of the mask (voxels by left–right position in LPS mm, in steps of a voxel) is cut where it is thinnest,
    of those places that leave `SMALLEST_SIDE` of the voxels on either side; of several in a row in the middle one.
    """
    if not mask.any():
        return None
    profile, lowest, step = _profile(mask, geometry)
    cut = _thinnest(profile)
    if cut is None:
        return None
    border = lowest + (cut + 1) * step if profile[cut] else lowest + (cut + 0.5) * step
    left = np.stack([plane & (x > border) for plane, x in zip(mask, _positions(mask, geometry), strict=True)])
    return left, mask & ~left


def split_sides(
    labels: Labels, names: dict[str, tuple[int, ...]], wanted: Sequence[str], geometry: Geometry
) -> tuple[Labels, dict[str, tuple[int, ...]]]:
    """Split a both-sided organ where its sides are `wanted` and not named.

    Raises:
        InputError: the mask does not show two sides.
    """
    for organ in wanted:
        group = organs()[organ].group if organ in organs() else None
        if organ in names or group is None or not names.get(group):
            continue
        whole: Mask = np.isin(labels, names[group])
        both = halves(whole, geometry)
        if both is None:
            raise InputError(
                f"The mask of `{group}` does not show two sides, and the plan needs `{organ}`.",
                f"Search `{group}` without left and right, or give the mask of `{organ}` under its own name.",
            )
        union = LabelUnion(geometry.shape)
        for name, values in names.items():
            union.add(name, np.isin(labels, values))
        for member, half in zip((on_side(group, "left"), on_side(group, "right")), both, strict=True):
            if member is not None:
                union.add(member, half)
        labels, names = union.finish()
    return labels, names


def _positions(mask: Mask, geometry: Geometry) -> list[NDArray[np.float64]]:
    """For each slice, the LPS x in mm of its voxels (y, x). Slice by slice, so that no large array is held."""
    rows, columns = np.indices(mask.shape[1:], dtype=np.float64)
    first = geometry.to_lps_mm(np.stack((np.zeros_like(rows), rows, columns), axis=-1))[..., 0]
    step = float(geometry.direction_matrix[0, 2]) * geometry.spacing_mm[0]
    return [first + z * step for z in range(mask.shape[0])]


def _profile(mask: Mask, geometry: Geometry) -> tuple[NDArray[np.int64], float, float]:
    """(voxels in each step, lower edge of the first step in mm, width of a step in mm), from right to left."""
    across = np.abs(geometry.direction_matrix[0]) * np.asarray(geometry.spacing_mm[::-1])
    step = float(across.max())
    inside = [x[plane] for plane, x in zip(mask, _positions(mask, geometry), strict=True) if plane.any()]
    lowest = min(float(x.min()) for x in inside) - step / 2
    steps = [((x - lowest) / step).astype(np.int64) for x in inside]
    size = max(int(s.max()) for s in steps) + 1
    counts = np.sum([np.bincount(s, minlength=size) for s in steps], axis=0)
    return counts.astype(np.int64), lowest, step


def _thinnest(profile: NDArray[np.int64]) -> int | None:
    """The step to cut at, None where neither a gap nor a waist parts two sides."""
    below = np.cumsum(profile) - profile
    above = profile.sum() - below - profile
    enough = SMALLEST_SIDE * profile.sum()
    allowed = np.flatnonzero((below + profile >= enough) & (above >= enough))
    if allowed.size == 0:
        return None
    thin = allowed[profile[allowed] == profile[allowed].min()]
    first = int(thin[0])
    last = first
    while last + 1 in thin:
        last += 1
    cut = (first + last) // 2
    thickest = min(int(profile[: cut + 1].max()), int(profile[cut + 1 :].max()))
    return cut if profile[cut] <= WAIST * thickest else None
