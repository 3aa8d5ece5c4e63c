"""`python -m studies.validity.promise_page`: figures and tables of docs/evidence/validity-level.md (2 minutes)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from r2seg_agent.files import write_text_atomic
from studies.measure import machine_line
from studies.validity.promise import LATER_LEVELS, PromiseResults, measure
from studies.validity.tables import markdown_table, replace_tables

RESULTS = Path("docs/evidence/validity-level.json")
PAGE = Path("docs/evidence/validity-level.md")


def main() -> int:
    """Measure, or with `--tables` remake the page from the stored results."""
    parser = argparse.ArgumentParser(prog="python -m studies.validity.promise_page", description=__doc__)
    parser.add_argument("--tables", action="store_true", help="only remake the page from the results")
    if not parser.parse_args().tables:
        write_text_atomic(RESULTS, measure(machine_line()).model_dump_json(indent=1) + "\n")
    results = PromiseResults.model_validate_json(RESULTS.read_bytes())
    replace_tables(PAGE, {name: table(results) for name, table in TABLES.items()})
    return 0


def _failures(r: PromiseResults) -> str:
    rows = [[str(row.n), f"{row.dropped}", f"{row.kept}"] for row in r.failures]
    return markdown_table(["lesion-free cases", "failed ones left out", "failed ones count as +∞"], rows)


def _later(r: PromiseResults) -> str:
    rows = [[str(row.n), f"{row.by_p}", f"{row.by_e}", f"{row.lowest:.3f}"] for row in r.later]
    tried = ", ".join(f"{level:g}" for level in LATER_LEVELS)
    header = ["lesion-free cases", f"first of {tried} with p ≤ α̂", "first with E ≥ 1/α̂", "lowest α̂ that E can allow"]
    return markdown_table(header, rows)


def _rounds(r: PromiseResults) -> str:
    rows = [
        [
            str(row.n),
            " / ".join(f"{p:.3g}" for p in row.smallest),
            str(row.served),
            f"{row.level_three}",
            f"{row.level_served}",
            f"{row.found_three}",
            f"{row.found_served}",
        ]
        for row in r.rounds
    ]
    header = ["lesion-free cases", "smallest p in round 1 / 2 / 3", "rounds searched", "level, three rounds"]
    return markdown_table([*header, "level, those", "lesions found, three rounds", "lesions found, those"], rows)


def _calibrations(r: PromiseResults) -> str:
    rows = [
        [
            str(row.n),
            str(row.rounds),
            f"{row.mean:.3f}",
            f"{row.quantile:.3f}",
            f"{row.bound:.3f}",
            f"{row.ranks}/{row.n + 1}",
            "–" if row.held is None else f"{row.held}",
        ]
        for row in r.calibrations
    ]
    header = ["lesion-free cases", "rounds", "mean level", "95 % of calibrations are below", "U"]
    return markdown_table([*header, "`--confidence 0.9`: p at most", "share of calibrations at or below 0.05"], rows)


def _implanted(r: PromiseResults) -> str:
    rows = [[row.lesion, str(row.scans), f"{row.false_finding}", f"{row.rose}"] for row in r.implanted]
    return markdown_table(["implanted", "scans", "scans with a false finding", "largest false score rose"], rows)


TABLES: Mapping[str, Callable[[PromiseResults], str]] = {
    "machine": lambda r: f"`python -m studies.validity.promise_page`, {r.machine}. α = 0.05; ± is one standard error.",
    "failures": _failures,
    "later": _later,
    "rounds": _rounds,
    "calibrations": _calibrations,
    "implanted": _implanted,
}


if __name__ == "__main__":
    sys.exit(main())
