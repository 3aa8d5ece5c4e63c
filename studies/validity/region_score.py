"""`python -m studies.validity.region_score`: level and power of conformal mode on the learned score of regions.

Scans are those of the validity study (`volumes.py`), searched by the functions of a run (`ranked_regions`). Levels are
means over many draws of n lesion-free scans as the calibration, each judging the scans that were not drawn.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.imaging.volume import Mask
from r2seg_agent.method.round import prior_of
from r2seg_agent.reject.rounds import RoundMaxima
from r2seg_agent.segment.regions.select import RankedRegion, ranked_regions
from studies.finder.search import iou
from studies.measure import machine_line
from studies.validity.cells import scanner_named
from studies.validity.promise import level_of
from studies.validity.search import HIT_IOU, study_plan
from studies.validity.volumes import LesionKind, Scanner, case_stream, make_scene

LESION_FREE = {"small organ": 1000, "FWHM 3": 150, "vessels enhanced": 150}
"""Scans of each scanner; the small organ is quick, so that most stand there."""
CONTRASTS = (3.0, 4.0)
VOLUME_ML = 1.0
N_CALIBRATION = 99
DRAWS = 1000


class Scored(NamedTuple):
    """Of one scan: the largest score, and the largest of a region that hits the lesion (−inf where none does)."""

    largest: float
    hit: float


def search(scanner: Scanner, lesion: LesionKind | None, index: int) -> Scored:
    """Case `index` of a cell."""
    key = f"region|{scanner.name}|{lesion.model_dump_json() if lesion else ''}"
    scene = make_scene(scanner, lesion, case_stream(key, index))
    found = ranked_regions(scene.volume, scene.organ, prior_of(study_plan(), scene.volume))
    largest = max((one.score for one in found), default=-math.inf)
    hits = (one.score for one in found if scene.truth is not None and _hits(one, scene.truth))
    return Scored(largest, max(hits, default=-math.inf))


def level(maxima: NDArray[np.float64], n: int = N_CALIBRATION, *, draws: int = DRAWS) -> tuple[float, float]:
    """Share of lesion-free scans with p ≤ α, mean over draws of a calibration of `n` of them, and its standard error.

    The error is that of `len(maxima)` independent scans.
    """
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(draws):
        drawn, others = np.split(rng.permutation(maxima), [n])
        shares.append(level_of(RoundMaxima(drawn[None]), others[:, None]))
    mean = float(np.mean(shares))
    return mean, math.sqrt(mean * (1 - mean) / len(maxima))


def power(hits: NDArray[np.float64], maxima: NDArray[np.float64], n: int = N_CALIBRATION) -> tuple[float, float]:
    """Share of lesions with a region of p ≤ α that hits them, mean over draws, and its standard error."""
    rng = np.random.default_rng(0)
    shares = [level_of(RoundMaxima(rng.choice(maxima, n, replace=False)[None]), hits[:, None]) for _ in range(DRAWS)]
    mean = float(np.mean(shares))
    return mean, math.sqrt(mean * (1 - mean) / len(hits))


def main() -> int:
    """Search all cells and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--share", type=float, default=1.0, help="of the lesion-free scans")
    parser.add_argument("--lesions", type=int, default=40, help="scans with a lesion, of each scanner and contrast")
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    print(machine_line(), flush=True)
    lines = [
        "| scanner | lesion-free scans | level at α = 0.05 | with a lesion, CNR 3 | CNR 4 |",
        "|---|---|---|---|---|",
    ]
    with ProcessPoolExecutor(given.jobs, mp_context=get_context("spawn")) as pool:
        for name, count in LESION_FREE.items():
            scanner, n = scanner_named(name), max(N_CALIBRATION + 10, round(given.share * count))
            free = list(pool.map(partial(search, scanner, None), range(n), chunksize=4))
            maxima = np.asarray([one.largest for one in free])
            cells = [f"{_share(level(maxima))}"]
            for cnr in CONTRASTS:
                lesion = LesionKind(volume_ml=VOLUME_ML, cnr=cnr, edge="blurred")
                ill = list(pool.map(partial(search, scanner, lesion), range(given.lesions), chunksize=4))
                cells.append(_share(power(np.asarray([one.hit for one in ill]), maxima)))
            lines.append(f"| {name} | {len(free)} | {' | '.join(cells)} |")
            print(lines[-1], file=sys.stderr, flush=True)
    print("\n".join(lines))
    return 0


def _hits(one: RankedRegion, truth: Mask) -> bool:
    return iou(one.region.box.slices, one.region.mask, truth, int(np.count_nonzero(truth))) >= HIT_IOU


def _share(measured: Sequence[float]) -> str:
    return f"{measured[0]:.3f} ± {measured[1]:.3f}"


if __name__ == "__main__":
    sys.exit(main())
