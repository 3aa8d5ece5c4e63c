"""One case through the product's own proposals and features, compared with its truth on the working grid."""

from __future__ import annotations

import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.imaging.geometry import bounding_box
from r2seg_agent.imaging.volume import Mask, Modality
from r2seg_agent.segment.regions.describe import FEATURES, Described, describe
from r2seg_agent.segment.regions.grid import WorkingGrid, working_grid
from r2seg_agent.segment.regions.tree import propose
from studies.finder.cases import Case, demo_rows, read_case, rows_of


@dataclass(frozen=True, eq=False)
class Searched:
    """A case with its regions. `iou` (n,): with the lesion that fits best; `lesion_iou`: of each lesion the best
    region's; `touches` (n,): any voxel of a lesion is in it."""

    name: str
    request: str
    patient: str
    licence: str
    modality: Modality
    lesions: int
    described: Described
    iou: NDArray[np.float64]
    lesion_iou: tuple[float, ...]
    touches: NDArray[np.bool_]


def search_all(table: Path | None, jobs: int, *, demo: bool) -> list[Searched]:
    """Every case of `table` searched, in its order, `jobs` at a time, then the demo scans where `demo`.

    Those without a region are left out.
    """
    rows = (*(() if table is None else rows_of(table)), *(demo_rows() if demo else ()))
    folder = Path() if table is None else table.parent
    found: list[Searched] = []
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for searched in pool.map(partial(search_row, folder), rows):
            found.append(searched)
            print(f"{len(found)}: {searched.request}, {len(searched.iou)} regions", file=sys.stderr, flush=True)
    return [case for case in found if len(case.iou)]


def search_row(folder: Path, row: dict[str, str]) -> Searched:
    """One row of a table whose paths are relative to `folder`."""
    return search(read_case(folder, row))


def search(case: Case) -> Searched:
    """Propose, describe and compare with the truth."""
    grid = working_grid(case.volume, case.organ)
    if grid is None:
        described = Described(np.zeros((0, len(FEATURES))), (), ())
        table, truth = np.zeros((0, 1)), None
    else:
        described = describe(grid, propose(grid), case.prior)
        lesions = [_placed(grid, lesion) for lesion in case.lesions]
        truth = _placed(grid, case.truth)
        wholes = (*lesions, truth) if lesions else ()
        table = np.zeros((len(described.masks), max(1, len(wholes))))
        for k, whole in enumerate(wholes):
            size = int(np.count_nonzero(whole))
            table[:, k] = [
                iou(box, mask, whole, size) for box, mask in zip(described.boxes, described.masks, strict=True)
            ]
    return Searched(
        name=case.name,
        request=case.request,
        patient=case.patient,
        licence=case.licence,
        modality=case.volume.modality,
        lesions=len(case.lesions),
        described=described,
        iou=table.max(axis=1, initial=0.0),
        lesion_iou=tuple(table[:, k].max(initial=0.0) for k in range(len(case.lesions))),
        touches=np.asarray(
            [
                truth is not None and bool(truth[box][mask].any())
                for box, mask in zip(described.boxes, described.masks, strict=True)
            ],
            dtype=bool,
        ),
    )


def _placed(grid: WorkingGrid, mask: Mask) -> Mask:
    """A mask of the image on the working grid; blocks that it covers by half."""
    out = np.zeros(grid.grey.shape, dtype=bool)
    box = bounding_box(mask)
    placed = None if box is None else grid.of_image(box, mask[box.slices])
    if placed is not None:
        out[placed[0]] = placed[1]
    return out


def iou(box: tuple[slice, ...], mask: Mask, lesion: Mask, size: int) -> float:
    """Of a region, `mask` inside `box`, with a `lesion` of `size` voxels on the grid of the box."""
    shared = int(np.count_nonzero(mask & lesion[box]))
    return shared / max(1, int(np.count_nonzero(mask)) + size - shared)
