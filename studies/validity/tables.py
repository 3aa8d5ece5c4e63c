"""The tables of docs/evidence/validity.md, made from the study's results and put between their markers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from r2seg_agent.errors import InputError
from r2seg_agent.files import write_text_atomic
from studies.validity.cells import SHIFT_NAMES
from studies.validity.results import Level, Mixed, Power, StudyResults
from studies.validity.search import GATES, GateChoice
from studies.validity.volumes import LesionKind

GATE_WORDS: Mapping[GateChoice, str] = {"L2": "L2 gates", "conformal": "conformal gates", "all": "all gates"}
TARGETS = (("FWHM 2", 3.0, 0.9), ("FWHM 3", 3.0, 0.9), ("FWHM 4", 3.0, 0.78), ("FWHM 3", 2.0, 0.44))
"""Scanner, contrast to noise, and the power that sharp lesions of 1 ml must reach or beat (method.md §4)."""
MARK = re.compile(r"<!-- (?P<name>[a-z-]+) -->\n.*?<!-- /(?P=name) -->", re.DOTALL)


def write_page(page: Path, results: StudyResults) -> None:
    """The study's tables into `page`; raises as `replace_tables`."""
    replace_tables(page, {name: table(results) for name, table in TABLES.items()})


def replace_tables(page: Path, tables: Mapping[str, str]) -> None:
    """Replace what stands between `<!-- name -->` and `<!-- /name -->` in `page` by the table of that name.

    Raises `InputError` for a marker without a table and for a table without a marker.
    """
    text = page.read_text(encoding="utf-8")
    named = {match["name"] for match in MARK.finditer(text)}
    if named != tables.keys():
        raise InputError(
            f"`{page.name}` has markers for {sorted(named)}, the study has tables for {sorted(tables)}",
            "Give every table a place: `<!-- name -->` and `<!-- /name -->` on lines of their own.",
        )
    text = MARK.sub(lambda m: f"<!-- {m['name']} -->\n{tables[m['name']]}\n<!-- /{m['name']} -->", text)
    write_text_atomic(page, text)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def _run(r: StudyResults) -> str:
    return (
        f"`{r.command}`, {r.machine}. {r.n_lesion_free:,} lesion-free cases and {r.n_lesion:,} with a "
        f"lesion, α = {r.alpha:g}, default score `{r.default_score}`."
    )


def _verdict(row: Level | Mixed, alpha: float, value: float) -> str:
    text = f"{value:.3f} ± {row.se:.3f}"
    return text if row.held(alpha) else f"**{text} FAILED**"


def _levels(r: StudyResults) -> str:
    rows = []
    for gates in GATES:
        for score in dict.fromkeys(level.score for level in r.levels):
            own = {level.scanner: level for level in r.levels if (level.gates, level.score) == (gates, score)}
            rows.append(
                [f"`{score}`", GATE_WORDS[gates], *(_verdict(item, r.alpha, item.level) for item in own.values())]
            )
    return markdown_table(["score", "gates", *(_scanner_head(name, r) for name in own)], rows)


def _scanner_head(name: str, r: StudyResults) -> str:
    one = next(row for row in r.levels if row.scanner == name)
    return f"{name} ({one.calibrations} × {one.n_calibration} calibration, {one.n_test} test)"


def _fdr(r: StudyResults) -> str:
    rows = [
        [row.scanner, _lesion(row.lesion), f"{row.prevalence:.0%}", _verdict(row, r.alpha, row.fdr)] for row in r.mixed
    ]
    return markdown_table(["scanner", "lesion", "cases with a lesion", "false discovery rate"], rows)


def _lesion(lesion: LesionKind) -> str:
    return f"{lesion.volume_ml:g} ml, CNR {lesion.cnr:g}, {lesion.edge}"


def _find(r: StudyResults, scanner: str, volume_ml: float, cnr: float, edge: str) -> Power:
    return next(
        p
        for p in r.powers
        if (p.scanner, p.lesion.volume_ml, p.lesion.cnr, p.lesion.edge) == (scanner, volume_ml, cnr, edge)
    )


def _targets(r: StudyResults) -> str:
    rows = []
    for scanner, cnr, wanted in TARGETS:
        sharp, blurred = (_find(r, scanner, 1.0, cnr, edge) for edge in ("sharp", "blurred"))
        reached = sharp.power[r.study_gates][r.default_score]
        ok = reached.value >= wanted if wanted == 0.9 else reached.value > wanted
        best = max(sharp.power[r.study_gates].items(), key=lambda item: item[1].value)
        rows.append(
            [
                f"{scanner}, CNR {cnr:g}",
                f"≥ {wanted:g}" if wanted == 0.9 else f"> {wanted:g}",
                f"{reached} {'reached' if ok else '**missed**'}",
                f"{sharp.power['all'][r.default_score]}",
                f"{sharp.proposed}",
                f"`{best[0]}` {best[1].value:.2f}",
                f"{blurred.power[r.study_gates][r.default_score]}",
                f"{blurred.power['all'][r.default_score]}",
            ]
        )
    gates = GATE_WORDS[r.study_gates]
    header = ["1 ml lesion", "wanted", f"sharp, {gates}", "sharp, all gates", "sharp, proposed at all"]
    return markdown_table([*header, f"best score there ({gates})", f"blurred, {gates}", "blurred, all gates"], rows)


def _power(r: StudyResults) -> str:
    rows = []
    for p in r.powers:
        cells = [f"{p.power[gates][r.default_score].value:.2f} of {p.passed[gates].value:.2f}" for gates in GATES]
        rows.append([p.scanner, _lesion(p.lesion), f"{p.proposed}", *cells])
    header = ["scanner", "lesion", "proposed [95 %]", *(f"found of passed, {GATE_WORDS[g]}" for g in GATES)]
    return markdown_table(header, rows)


def _scores(r: StudyResults) -> str:
    rows = [
        [
            f"`{item.score}`" + (" (default)" if item.score == r.default_score else ""),
            GATE_WORDS[item.gates],
            f"{item.mean_power:.3f}",
            f"{item.sharp:.3f}",
            f"{item.blurred:.3f}",
            f"{item.held} of {item.cells}" if item.held == item.cells else f"**{item.held} of {item.cells}**",
        ]
        for item in r.ranking
    ]
    return markdown_table(["score", "gates", "mean power", "sharp", "blurred", "cells that hold the level"], rows)


def _curve(r: StudyResults) -> str:
    names = list(r.curve[0].power)
    rows = [
        [
            f"{c.n}",
            f"{c.level_mean:.3f} ({c.level_5:.3f}–{c.level_95:.3f})",
            f"{c.theory_mean:.3f} ({c.theory_5:.3f}–{c.theory_95:.3f})",
            *(f"{mean:.2f} ({low:.2f}–{high:.2f})" for mean, low, high in (c.power[name] for name in names)),
        ]
        for c in r.curve
    ]
    return markdown_table(["calibration cases", "level", "theory", *(f"power, 1 ml, {name}" for name in names)], rows)


def _shift(r: StudyResults) -> str:
    rows = []
    for test in SHIFT_NAMES:
        own = {s.calibration: s for s in r.shifts if s.test == test and s.gates == r.study_gates}
        cells = [f"{s.level:.2f} (warns {s.warned.value:.0%})" for s in (own[name] for name in SHIFT_NAMES)]
        rows.append([test, *cells])
    return markdown_table(["scan ↓, calibration →", *SHIFT_NAMES], rows)


def _flagged(r: StudyResults) -> str:
    rows = [[f"{f.n_calibration} ({f.fdr.n})", f"{f.prevalence:.0%}", f"{f.fdr}", f"{f.power}"] for f in r.flagged]
    return markdown_table(
        ["calibration cases (calibrations)", "scans with a lesion", "FDR of flagged scans", "share of lesions flagged"],
        rows,
    )


def _exchangeable(r: StudyResults) -> str:
    e = r.exchangeable
    rows = [
        ["exchangeable samples: share with p ≤ 0.05", f"{e.rejected}, n = {e.rejected.n}", "0.05"],
        [f"exact against low-rank, largest difference of MMD² or p, {e.pairs} pairs", f"{e.largest_difference:.1e}",
         "< 1e-5"],
    ]  # fmt: skip
    return markdown_table(["what", "figure", "expected"], rows)


def _blobs(r: StudyResults) -> str:
    rows = [
        [b.scanner, str(b.blind_permutation), str(b.blind_placement), str(b.proposed_permutation),
         f"{b.proposed_placement} (n = {b.proposed_placement.n})"]
        for b in r.blobs
    ]  # fmt: skip
    header = ["noise", "blind region, voxel permutation", "blind region, placements"]
    return markdown_table([*header, "proposed region, voxel permutation", "proposed region, placements"], rows)


def _paper(r: StudyResults) -> str:
    rows = []
    for name in dict.fromkeys(item.scanner for item in r.paper):
        own = {item.gates: item for item in r.paper if item.scanner == name}
        cells = [f"{own[g].false_positive} of {own[g].any_candidate.value:.2f} with a candidate" for g in GATES]
        rows.append([name, f"{own['L2'].false_positive.n}", *cells])
    return markdown_table(["scanner", "cases", *(f"any finding, {GATE_WORDS[g]}" for g in GATES)], rows)


TABLES: Mapping[str, Callable[[StudyResults], str]] = {
    "run": _run,
    "levels": _levels,
    "fdr": _fdr,
    "targets": _targets,
    "power": _power,
    "scores": _scores,
    "curve": _curve,
    "shift": _shift,
    "flagged": _flagged,
    "exchangeable": _exchangeable,
    "blobs": _blobs,
    "paper": _paper,
}
