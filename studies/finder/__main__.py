"""`make lesion-bench`: search images with lesion masks, print the tables of `bench`. Nothing of the images is kept."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from r2seg_agent.segment.regions.score import shipped
from studies.finder.bench import report
from studies.finder.learn import cross_validated
from studies.finder.search import search_all
from studies.measure import machine_line


def main() -> int:
    """Search every case, print the tables."""
    parser = argparse.ArgumentParser(prog="python -m studies.finder", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "cases",
        type=Path,
        nargs="?",
        help="none: the demo scans. CSV: name, image, request, anchors, modality, truth, patient, licence",
    )
    parser.add_argument("--demo", action="store_true", help="the demo scans as well")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument(
        "--shipped",
        action="store_true",
        help="use the score that comes with r2seg; only for images it was not fitted on",
    )
    given = parser.parse_args()
    print(machine_line(), flush=True)
    found = search_all(given.cases, given.jobs, demo=given.cases is None or given.demo)
    if given.shipped:
        print(report(found, [shipped()[0](case.described.values) for case in found]))
    else:
        print(report(found, cross_validated(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
