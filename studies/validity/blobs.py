"""Regions of lesion-free noise, tested as `paper` mode does and by placements: the canary of both.

A *blind* region is a ball drawn without looking at the data; a *proposed* one is the segmenter's first candidate,
chosen because it looks abnormal. Two tests of a region against the organ, by the same statistic MMD²:

- permutation of voxels (paper mode): needs exchangeable voxels; voxels of any compact region resemble each other;
- placement: p = (1 + #{placements with MMD² at least as large}) / (placements + 1) over the region's own shape, put at
  random places of the organ. Valid for a region drawn without looking, not for a chosen one. A study mode only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.imaging.geometry import Index3
from r2seg_agent.imaging.volume import FloatArray, Mask
from r2seg_agent.reject.mmd import mmd_permutation_test
from studies.validity.search import propose_regions
from studies.validity.volumes import Scanner, case_stream, make_scene

BLOB_RADIUS_VOX = 4.0
SAMPLE = 200
PERMUTATIONS = 199
PLACEMENTS = 99


@dataclass(frozen=True)
class BlobCase:
    """p-values of one lesion-free case; those of the proposed region are None when nothing was proposed."""

    blind_permutation: float
    blind_placement: float
    proposed_permutation: float | None
    proposed_placement: float | None


def blob_case(scanner: Scanner, index: int) -> BlobCase:
    """Case `index` of `scanner`, a stream of its own."""
    rng = case_stream(f"blobs {scanner.model_dump_json()}", index)
    scene = make_scene(scanner, None, rng)
    field = scene.volume.array.astype(np.float32)
    blind = np.argwhere(_ball(scanner.shape, rng))
    regions = propose_regions(scene.volume, scene.organ)
    chosen = None
    if regions:
        chosen = np.argwhere(regions[0].mask) + np.asarray(regions[0].box.start)
    return BlobCase(
        blind_permutation=permutation_p(field, blind, rng),
        blind_placement=placement_p(field, blind, rng),
        proposed_permutation=None if chosen is None else permutation_p(field, chosen, rng),
        proposed_placement=None if chosen is None else placement_p(field, chosen, rng),
    )


def permutation_p(field: FloatArray, region: NDArray[np.int64], rng: np.random.Generator) -> float:
    """Paper mode's p of the voxels `region` (k, 3) against voxels from anywhere in `field` (z, y, x)."""
    x, y = _sample(field[tuple(region.T)], rng), _sample(field.ravel(), rng)
    (test,) = mmd_permutation_test([x], y, permutations=PERMUTATIONS, seed=int(rng.integers(2**31)))
    return test.p


def placement_p(field: FloatArray, region: NDArray[np.int64], rng: np.random.Generator) -> float:
    """Placement p of `region` (k, 3): the same shape at `PLACEMENTS` random places that hold all of it."""
    if len(region) > SAMPLE:
        region = region[np.sort(rng.choice(len(region), SAMPLE, replace=False))]
    shape = region - region.min(axis=0)
    room = np.asarray(field.shape) - shape.max(axis=0)
    places = rng.integers(0, room, size=(PLACEMENTS, 3))
    xs = [field[tuple(region.T)], *(field[tuple((shape + place).T)] for place in places)]
    y = _sample(field.ravel(), rng)
    tests = mmd_permutation_test([x.astype(np.float64) for x in xs], y, permutations=1, seed=0)
    own, *others = (test.mmd2 for test in tests)
    return (1 + sum(other >= own for other in others)) / (PLACEMENTS + 1)


def _sample(values: FloatArray, rng: np.random.Generator) -> NDArray[np.float64]:
    picked: NDArray[np.float64] = rng.choice(values, min(SAMPLE, values.size), replace=False).astype(np.float64)
    return picked


def _ball(shape: Index3, rng: np.random.Generator) -> Mask:
    margin = int(BLOB_RADIUS_VOX) + 1
    centre = [int(rng.integers(margin, n - margin)) for n in shape]
    grid = np.indices(shape)
    ball: Mask = np.asarray(sum((grid[axis] - centre[axis]) ** 2 for axis in range(3)) <= BLOB_RADIUS_VOX**2)
    return ball
