"""`python -m studies.validity.real_tissue_tables`: the tables and plots of docs/evidence/validity-real-tissue.md."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from r2seg_agent.reject.scores import OF_MASKS, ScoreName
from r2seg_agent.reject.settings import RejectSettings
from studies.measure import machine_line
from studies.validity.intervals import Share, exact_level, share_of
from studies.validity.levels import Tested, paper_tested
from studies.validity.real_tissue import (
    Lesion,
    SearchedTissue,
    Split,
    calibrations,
    judge_blocks,
    lesions_of,
    proposed,
    same_organ,
    search_tissue,
    warned,
)
from studies.validity.real_tissue_rows import LevelRow, PowerRow
from studies.validity.search import GateChoice
from studies.validity.tissue import BLOCK_MM, TISSUES

ALPHA = 0.05
SPLITS: tuple[Split, ...] = ("same scan", "other half", "other scans")
GATES: GateChoice = "conformal"
"""What a run of conformal mode applies."""
GATE_WORDS: dict[GateChoice, str] = {GATES: "the gates of a run", "L2": "the paper's gates (L2)"}
SCORE: ScoreName = RejectSettings().score


def level_rows(tissues: Sequence[SearchedTissue], score: ScoreName, gates: GateChoice) -> Iterator[LevelRow]:
    """Levels at `ALPHA`; None where a split has too few calibration blocks for it."""
    for tissue in tissues:
        level: dict[Split, Share | None] = {}
        sizes: dict[Split, int] = {}
        warnings: dict[Split, Share] = {}
        for split in SPLITS:
            by = calibrations(tissue, split, same_organ(tissue, tissues), score=score, gates=gates, profiles=True)
            sizes[split] = min(c.n_cases for c in by)
            tested = judge_blocks(tissue, by, score=score, gates=gates, alpha=ALPHA)
            level[split] = share_of([t.p <= ALPHA for t in tested]) if exact_level(ALPHA, sizes[split]) > 0 else None
            warnings[split] = share_of(warned(tissue, by))
        yield LevelRow(
            name=tissue.tissue.name,
            blocks=len(tissue.free),
            candidates=float(np.mean([sum(case.passed[gates]) for case in tissue.free])),
            paper=share_of([t.survivors > 0 for t in paper_tested(tissue.free, "all" if gates == GATES else gates)]),
            level=level,
            n=sizes,
            warned=warnings,
        )


class PairRow(NamedTuple):
    """One scan judged by the blocks of a single other one."""

    judged: str
    by: str
    level: Share
    warned: Share


def pair_rows(tissues: Sequence[SearchedTissue], score: ScoreName, gates: GateChoice) -> Iterator[PairRow]:
    """Every ordered pair of scans of one organ whose calibration serves `ALPHA`."""
    for tissue in tissues:
        for other in same_organ(tissue, tissues):
            by = calibrations(tissue, "other scans", [other], score=score, gates=gates, profiles=True)
            if exact_level(ALPHA, by[0].n_cases) > 0:
                tested = judge_blocks(tissue, by, score=score, gates=gates, alpha=ALPHA)
                yield PairRow(
                    tissue.tissue.name,
                    other.tissue.name,
                    share_of([t.p <= ALPHA for t in tested]),
                    share_of(warned(tissue, by)),
                )


class ScoreRow(NamedTuple):
    """One score over all tissues: level by split, and power for a lesion of 1 ml at the middle contrast."""

    score: ScoreName
    gates: GateChoice
    level: dict[Split, Share]
    power: dict[Split, Share]
    false_share: float


def score_row(tissues: Sequence[SearchedTissue], score: ScoreName, gates: GateChoice) -> ScoreRow:
    """Pooled over tissues; splits that cannot serve `ALPHA` are left out. `false_share`: same scan, with lesions."""
    level, power, shares = {}, {}, []
    for split in SPLITS:
        free: list[Tested] = []
        ill: list[Tested] = []
        for tissue in tissues:
            by = calibrations(tissue, split, same_organ(tissue, tissues), score=score, gates=gates)
            if exact_level(ALPHA, min(c.n_cases for c in by)) > 0:
                free += judge_blocks(tissue, by, score=score, gates=gates, alpha=ALPHA)
                ill += judge_blocks(tissue, by, score=score, gates=gates, alpha=ALPHA, lesion=middle(tissue))
        level[split], power[split] = share_of([t.p <= ALPHA for t in free]), share_of([t.hit for t in ill])
        if split == "same scan":
            shares = [t.false_share for t in ill]
    return ScoreRow(score, gates, level, power, float(np.mean(shares)))


def middle(one: SearchedTissue) -> Lesion:
    """1 ml at the middle one of the tissue's contrasts."""
    contrasts = sorted({lesion.cnr for lesion in lesions_of(one.tissue)})
    return Lesion(1.0, contrasts[len(contrasts) // 2])


def power_rows(
    tissues: Sequence[SearchedTissue], score: ScoreName, gates: GateChoice, *, all_contrasts: bool
) -> Iterator[PowerRow]:
    """Every organ and volume at `ALPHA`, with all contrasts or the middle one."""
    for organ in dict.fromkeys(tissue.tissue.organ for tissue in tissues):
        own = [tissue for tissue in tissues if tissue.tissue.organ == organ]
        by = {
            (item.tissue.name, split): calibrations(item, split, same_organ(item, tissues), score=score, gates=gates)
            for item in own
            for split in SPLITS
        }
        for lesion in lesions_of(own[0].tissue):
            if not all_contrasts and lesion.cnr != middle(own[0]).cnr:
                continue
            power = {}
            for split in SPLITS:
                hits = [
                    test.hit
                    for item in own
                    if exact_level(ALPHA, min(c.n_cases for c in by[item.tissue.name, split])) > 0
                    for test in judge_blocks(
                        item, by[item.tissue.name, split], score=score, gates=gates, alpha=ALPHA, lesion=lesion
                    )
                ]
                power[split] = share_of(hits)
            there = [hit for item in own for hit in proposed(item, lesion, gates)]
            yield PowerRow(organ, lesion, share_of(there), power)


def print_levels(rows: Sequence[LevelRow]) -> None:
    """Table of `level_rows`."""
    head = ["tissue", "blocks", "candidates per block", "`paper`", *SPLITS, "warned: other half", "warned: other scans"]
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for row in rows:
        cells = [str(share) if (share := row.level[split]) else f"– ({row.n[split]} blocks)" for split in SPLITS]
        print(
            f"| {row.name} | {row.blocks} | {row.candidates:.2f} | {row.paper} | {' | '.join(cells)} "
            f"| {row.warned['other half'].value:.2f} | {row.warned['other scans'].value:.2f} |"
        )


def main() -> int:
    """Search, judge, print, draw."""
    parser = argparse.ArgumentParser(prog="python -m studies.validity.real_tissue_tables", description=__doc__)
    parser.add_argument("--images", type=Path, default=Path("docs/images"), help="where the plots go")
    parser.add_argument("--block-mm", type=float, default=BLOCK_MM, help="edge of a block")
    parser.add_argument("--organ", action="append", choices=sorted({t.organ for t in TISSUES}), help="only this organ")
    given = parser.parse_args()
    tissues = []
    for tissue in TISSUES:
        if given.organ is None or tissue.organ in given.organ:
            print(f"searching {tissue.name}", file=sys.stderr, flush=True)
            tissues.append(search_tissue(tissue, block_mm=given.block_mm))
    given.images.mkdir(parents=True, exist_ok=True)
    print(machine_line())
    report(tissues, given.images)
    return 0


def report(tissues: Sequence[SearchedTissue], images: Path) -> None:
    """All tables to standard output, plots to `images`."""
    from studies.validity.real_tissue_plots import draw_levels, draw_power

    for gates, words in GATE_WORDS.items():
        rows = list(level_rows(tissues, SCORE, gates))
        print(f"\n### Lesion-free blocks called a finding at {ALPHA}, `{SCORE}`, {words}\n")
        print_levels(rows)
        if gates == GATES:
            draw_levels(rows, ALPHA, images / "fdr-real-level.png")
    pairs = list(pair_rows(tissues, SCORE, GATES))
    print("\n### One other scan as the calibration\n\n| judged | by | level | blocks warned about |\n|---|---|---|---|")
    for pair in sorted(pairs, key=lambda p: -p.level.value):
        print(f"| {pair.judged} | {pair.by} | {pair.level} | {pair.warned.value:.2f} |")
    print("\n### Scores, all tissues together\n")
    print(
        "| score | gates | level: same scan | other half | other scans | power: same scan | other scans | false share |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for score in OF_MASKS:
        for gates in GATE_WORDS:
            one = score_row(tissues, score, gates)
            cells = [str(one.level[split]) for split in SPLITS] + [str(one.power[s]) for s in (SPLITS[0], SPLITS[2])]
            print(f"| `{score}` | {gates} | {' | '.join(cells)} | {one.false_share:.3f} |", flush=True)
    by_score = {score: list(power_rows(tissues, score, GATES, all_contrasts=False)) for score in OF_MASKS}
    draw_power(by_score, images / "fdr-real-power.png")
    for shown in dict.fromkeys((SCORE, max(OF_MASKS, key=lambda name: _mean_power(by_score[name])))):
        print(f"\n### Lesions found, `{shown}`, the gates of a run\n")
        print("| organ | volume (ml) | contrast / sd | proposed | same scan | other half | other scans |")
        print("|---|---|---|---|---|---|---|")
        for found in power_rows(tissues, shown, GATES, all_contrasts=True):
            cells = [str(found.proposed), *(str(found.power[split]) for split in SPLITS)]
            print(f"| {found.organ} | {found.lesion.volume_ml:g} | {found.lesion.cnr:g} | {' | '.join(cells)} |")


def _mean_power(rows: Sequence[PowerRow]) -> float:
    return float(np.mean([row.power["other scans"].value for row in rows]))


if __name__ == "__main__":
    sys.exit(main())
