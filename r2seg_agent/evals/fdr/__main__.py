"""`make validate-fdr`: run the validity study; write its results, and the tables and plots of docs/validity.md."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from r2seg_agent.atomic import write_text_atomic
from r2seg_agent.data.archives import cache_root
from r2seg_agent.evals.fdr.cells import FULL, SMALL

RESULTS = Path("docs/validity.json")
PAGE = Path("docs/validity.md")
IMAGES = Path("docs/images")


def main() -> int:
    """Run, or with `--tables` remake the page from the stored results."""
    parser = argparse.ArgumentParser(prog="python -m r2seg_agent.evals.fdr", description=__doc__)
    parser.add_argument("--jobs", type=int, default=1, help="processes that search cases")
    parser.add_argument("--small", action="store_true", help="few cases, to see whether all runs; writes no page")
    parser.add_argument("--tables", action="store_true", help="only remake the page and plots from the results")
    parser.add_argument("--results", type=Path, default=RESULTS, help="JSON file of the results")
    parser.add_argument("--cases", type=Path, help="where searched cases are kept; default: in the cache")
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"

    from r2seg_agent.evals.fdr.results import StudyResults
    from r2seg_agent.evals.fdr.study import run_study

    if not given.tables:
        import torch

        torch.set_num_threads(1)
        results = run_study(
            given.cases or cache_root() / "fdr-study",
            SMALL if given.small else FULL,
            jobs=given.jobs,
            command=f"make validate-fdr (--jobs {given.jobs})",
            say=lambda text: print(text, flush=True),
        )
        write_text_atomic(given.results, results.model_dump_json(indent=1) + "\n")
        if given.small:
            return 0
    results = StudyResults.model_validate_json(given.results.read_bytes())
    print(results.date)
    return 0


if __name__ == "__main__":
    sys.exit(main())
