"""`make lesion-bench`: search images with lesion masks, print the tables of `bench`. Nothing of the images is kept."""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from studies.finder.bench import Searched, report, search
from studies.finder.cases import read_cases
from studies.measure import machine_line


def main() -> int:
    """Search every case, print the tables."""
    parser = argparse.ArgumentParser(prog="python -m studies.finder", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("cases", type=Path, help="CSV: name, image, request, anchors, modality, truth, patient")
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    print(machine_line(), flush=True)
    found: list[Searched] = []
    with ProcessPoolExecutor(given.jobs, mp_context=get_context("spawn")) as pool:
        for searched in pool.map(search, read_cases(given.cases)):
            found.append(searched)
            print(f"{len(found)}: {searched.request}, {len(searched.iou)} candidates", file=sys.stderr, flush=True)
    print(report([case for case in found if len(case.iou)]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
