"""Vessel trees: `grow_tree` joins scattered ends to a root, thick where many ends hang on a branch."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.phantom.solids import Bounds, Point, Solid

MURRAY = 2.7
"""Exponent of Murray's law: r^k of a parent is the sum of its children's (3 in theory, 2.7 measured in lungs)."""
Points = NDArray[np.float64]
"""(n, 3) positions (x, y, z) in mm."""


class Branch(NamedTuple):
    """A piece of a vessel between two points, its radius at each end in mm."""

    start: Point
    end: Point
    start_mm: float
    end_mm: float


def points_within(bounds: Bounds, solid: Solid, n: int, rng: np.random.Generator) -> Points:
    """Up to `n` points drawn evenly inside a solid (fewer when it fills little of its bounds)."""
    low, high = (np.asarray(b) for b in bounds)
    drawn = rng.uniform(low, high, (12 * n, 3)).astype(np.float32)
    inside = solid(drawn[:, 0], drawn[:, 1], drawn[:, 2])
    found: Points = drawn[inside][:n].astype(np.float64)
    return found


def grow_tree(
    root: list[Point], ends: Points, rng: np.random.Generator, *, tip_mm: float, root_mm: float, bend: float = 0.12
) -> list[Branch]:
    """A tree whose trunk follows `root` and that reaches every point of `ends`, the nearest first.

    Each end joins the nearest node of what has grown so far, over three pieces bent at random by `bend` of their
    length; radii follow Murray's law from `tip_mm` at the ends, at most `root_mm`.
    """
    places: list[Points] = [np.asarray(p, dtype=np.float64) for p in root]
    parent = [-1, *range(len(root) - 1)]
    tips: list[int] = []
    order = np.argsort(np.linalg.norm(ends - np.asarray(root[-1]), axis=1))
    known = np.empty((len(root) + 3 * len(ends), 3))
    known[: len(root)] = root
    for end in ends[order]:
        nearest = int(np.argmin(((known[: len(places)] - end) ** 2).sum(axis=1)))
        start = known[nearest].copy()
        length = float(np.linalg.norm(end - start))
        for share in (1 / 3, 2 / 3, 1.0):
            known[len(places)] = start + share * (end - start) + rng.normal(0, bend * length, 3) if share < 1 else end
            places.append(known[len(places)])
            parent.append(nearest if share < 0.5 else len(places) - 2)
        tips.append(len(places) - 1)
    flow = np.zeros(len(places))
    flow[tips] = tip_mm**MURRAY
    for node in range(len(places) - 1, 0, -1):
        flow[parent[node]] += flow[node]
    radius = np.minimum(flow ** (1 / MURRAY), root_mm)
    radius[: len(root)] = np.maximum(radius[: len(root)], 0.8 * root_mm)
    return [
        Branch(_point(places[parent[node]]), _point(places[node]), float(radius[parent[node]]), float(radius[node]))
        for node in range(1, len(places))
    ]


def _point(place: Points) -> Point:
    return float(place[0]), float(place[1]), float(place[2])
