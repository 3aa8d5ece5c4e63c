"""`make validate-fdr`: run the validity study; write its results, tables and plots (docs/evidence/validity.md)."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from r2seg_agent.files import cache_root, write_text_atomic
from studies.validity.cells import Counts

RESULTS = Path("docs/evidence/validity.json")
PAGE = Path("docs/evidence/validity.md")
IMAGES = Path("docs/images")


def main() -> int:
    """Run, or with `--tables` remake the page from the stored results."""
    parser = argparse.ArgumentParser(prog="python -m studies.validity", description=__doc__)
    parser.add_argument("--jobs", type=int, default=1, help="processes that search cases")
    parser.add_argument("--share", type=float, default=1.0, help="share of the full number of cases")
    parser.add_argument("--tables", action="store_true", help="only remake the page and plots from the results")
    parser.add_argument("--results", type=Path, default=RESULTS, help="JSON file of the results")
    parser.add_argument("--cases", type=Path, help="where searched cases are kept; default: in the cache")
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"

    from studies.validity.plots import draw_all
    from studies.validity.results import StudyResults
    from studies.validity.study import run_study
    from studies.validity.tables import write_page

    if not given.tables:
        import torch

        torch.set_num_threads(1)
        results = run_study(
            given.cases or cache_root() / "fdr-study",
            Counts().scaled(given.share),
            jobs=given.jobs,
            command="make validate-fdr" + (f" SHARE={given.share:g}" if given.share != 1.0 else ""),
            say=lambda text: print(text, flush=True),
        )
        write_text_atomic(given.results, _rounded(results.model_dump_json()) + "\n")
    results = StudyResults.model_validate_json(given.results.read_bytes())
    write_page(PAGE, results)
    draw_all(results, IMAGES)
    return 0


def _rounded(text: str) -> str:
    """The same JSON, one top-level field a line, floats to six digits: a file that is read in a diff."""
    tree = json.loads(text, parse_float=lambda number: float(f"{float(number):.6g}"))
    return "{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in tree.items()) + "\n}"


if __name__ == "__main__":
    sys.exit(main())
