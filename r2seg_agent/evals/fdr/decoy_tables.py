"""`python -m r2seg_agent.evals.fdr.decoy_tables`: the tables of docs/decoy.md."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from r2seg_agent.data.archives import cache_root
from r2seg_agent.data.fetch import fetch
from r2seg_agent.evals.fdr.competition import decoys_needed
from r2seg_agent.evals.fdr.decoy_organs import (
    PHANTOM_PAIRS,
    PHANTOMS,
    TISSUE_PAIRS,
    compare_phantoms,
    compare_tissues,
    search_phantom,
)
from r2seg_agent.evals.fdr.decoys import (
    ALPHA,
    ORGANS,
    Pool,
    beats_mean,
    competition_holds,
    conformal_holds,
    pool,
    pooled_holds,
    search_organs,
)
from r2seg_agent.evals.fdr.real_tissue import SearchedTissue, search_tissue
from r2seg_agent.evals.fdr.search import GateChoice, SearchedCase
from r2seg_agent.evals.fdr.tissue import DECOYS, TISSUES
from r2seg_agent.evals.measure import machine_line
from r2seg_agent.imaging.masks import read_label_map
from r2seg_agent.imaging.read import read_image
from r2seg_agent.reject.scores import ScoreName

SHOWN: tuple[ScoreName, ...] = ("contrast_log_volume", "scan_statistic")
"""The plain score, and the one in units of the organ's own noise, its spread and its correlation."""
SEED = 5
SCANNERS = ("finer noise", "plain", "coarser noise")
"""A data set of several scanners: each scan has one of these, and its decoys have the same."""
SOFT_ORGANS: Mapping[str, tuple[int, ...]] = {
    "liver": (5,), "spleen": (1,), "kidney_right": (2,), "kidney_left": (3,), "pancreas": (7,),
    "urinary_bladder": (21,), "gluteus_maximus_left": (80,), "gluteus_maximus_right": (81,),
    "gluteus_medius_left": (82,), "gluteus_medius_right": (83,), "autochthon_left": (86,), "autochthon_right": (87,),
    "iliopsoas_left": (88,), "iliopsoas_right": (89,),
}  # fmt: skip
"""Organs without gas or bone of the scan `abdomen`, by TotalSegmentator's class numbers."""


def organ_table(organs: Mapping[tuple[str, bool], Sequence[SearchedCase]], score: ScoreName) -> None:
    """Every kind of decoy beside a plain target, and a target with vessels beside plain decoys."""
    rng = np.random.default_rng(SEED)
    pools = {name: pool(organs, name, score) for name in ORGANS}
    print(f"\n### `{score}`\n")
    print(
        "| target | decoy | wins against one | against all of 19 | FDR, one decoy | power | FDR, four decoys | power |"
    )
    print("|---|---|---|---|---|---|---|---|")
    plain = pools["plain"]
    pairs = [("plain", name, plain, own) for name, own in pools.items()]
    pairs.append(("vessels", "plain", pools["vessels"], plain))
    for target, decoy, first, second in pairs:
        # The plain organs' first half are targets, so that no case is target and decoy at once.
        both = Pool(first.targets, np.concatenate([second.decoys, second.targets]), first.lesions)
        own = both if decoy != target else Pool(first.targets, first.decoys, first.lesions)
        one, four = (competition_holds([(own, own)], decoys=m, rng=rng) for m in (1, 4))
        wins = [beats_mean(own.targets, own.decoys, m, rng) for m in (1, decoys_needed(ALPHA))]
        print(
            f"| {target} | {decoy} | {wins[0]} | {wins[1]} | {one.fdr} | {one.power.value:.2f} "
            f"| {four.fdr} | {four.power.value:.2f} |",
            flush=True,
        )


def scanner_table(organs: Mapping[tuple[str, bool], Sequence[SearchedCase]], score: ScoreName) -> None:
    """Data sets of several scanners, and of one that the calibration has not seen."""
    rng = np.random.default_rng(SEED)
    pools = {name: pool(organs, name, score) for name in SCANNERS}
    mixed = [(pools[name], pools[name]) for name in SCANNERS]
    print(f"\n### `{score}`\n\n| scans | how | FDR | power |\n|---|---|---|---|")
    for words, pairs in (("three scanners", mixed), ("coarser noise", mixed[2:])):
        rows = {
            "competition, one decoy": competition_holds(pairs, decoys=1, rng=rng),
            "competition, four decoys": competition_holds(pairs, decoys=4, rng=rng),
            "decoys of all scans pooled, one each": pooled_holds(pairs, decoys=1, rng=rng),
            "lesion-free calibration, same scanners": conformal_holds(pairs, [own.decoys for own, _ in pairs], rng=rng),
            "lesion-free calibration, finer noise": conformal_holds(pairs, [pools["finer noise"].decoys], rng=rng),
        }
        for how, held in rows.items():
            print(f"| {words} | {how} | {held.fdr} | {held.power} |", flush=True)


def phantom_table(phantoms: Sequence[Mapping[str, SearchedCase]], score: ScoreName, gates: GateChoice) -> None:
    """Organs of the same lesion-free phantom."""
    print(
        f"\n### Phantoms, `{score}`\n\n| target | decoy | phantoms | target larger (ties ½) | wins where they differ |"
    )
    print("|---|---|---|---|---|")
    for target, decoy in PHANTOM_PAIRS:
        one = compare_phantoms(phantoms, target, decoy, score, gates)
        print(f"| {target} | {decoy} | {one.n[0]} | {one.larger} | {one.wins} (n = {one.wins.n if one.wins else 0}) |")


def tissue_table(tissues: Mapping[str, SearchedTissue], score: ScoreName, gates: GateChoice) -> None:
    """Blocks of two organs of one real scan."""
    rng = np.random.default_rng(SEED)
    print(f"\n### Real blocks, `{score}`\n")
    print("| target | decoy | blocks | target larger (ties ½) | called at 0.05 | called at 0.1 |")
    print("|---|---|---|---|---|---|")
    for target, decoy in TISSUE_PAIRS:
        one = compare_tissues(tissues[target], tissues[decoy], score, gates, (0.05, 0.1), rng)
        level = " | ".join(str(share or "–") for share in one.level.values())
        print(f"| {target} | {decoy} | {one.n[0]}, {one.n[1]} | {one.larger} | {level} |")


def size_table() -> None:
    """How many decoys of the target's size one abdominal scan has, and the level that they would allow."""
    data = fetch("abdomen")
    volume = read_image(data.image, modality=data.modality)
    labels = read_label_map(data.image.parent / "organs.nii.gz", volume.geometry)
    ml = volume.geometry.voxel_volume_mm3 / 1000.0
    sizes = {name: float(np.isin(labels, values).sum()) * ml for name, values in SOFT_ORGANS.items()}
    print("\n| target | ml | decoys of its size in this scan | smallest p of one scan |\n|---|---|---|---|")
    for target in ("liver", "spleen", "kidney_left", "pancreas"):
        fit = sum(int(size // sizes[target]) for name, size in sizes.items() if name != target)
        print(f"| {target} | {sizes[target]:.0f} | {fit} | {1 / (fit + 1):.3f} |")


def main() -> int:
    """Search and print."""
    parser = argparse.ArgumentParser(prog="python -m r2seg_agent.evals.fdr.decoy_tables", description=__doc__)
    parser.add_argument("--jobs", type=int, default=1, help="processes that search synthetic organs")
    parser.add_argument("--cases", type=Path, help="where searched organs are kept; default: in the cache")
    given = parser.parse_args()
    organs = search_organs(given.cases or cache_root() / "fdr-study", jobs=given.jobs)
    phantoms = [search_phantom(seed) for seed in range(PHANTOMS)]
    wanted = {name for pair in TISSUE_PAIRS for name in pair}
    tissues = {t.name: search_tissue(t, lesions=False) for t in (*TISSUES, *DECOYS) if t.name in wanted}
    print(machine_line())
    report(organs, phantoms, tissues)
    return 0


def report(
    organs: Mapping[tuple[str, bool], Sequence[SearchedCase]],
    phantoms: Sequence[Mapping[str, SearchedCase]],
    tissues: Mapping[str, SearchedTissue],
) -> None:
    """All tables to standard output."""
    size_table()
    for score in SHOWN:
        organ_table(organs, score)
    for score in SHOWN:
        scanner_table(organs, score)
    for score in SHOWN:
        phantom_table(phantoms, score, "L2")
    for score in SHOWN:
        tissue_table(tissues, score, "L2")


if __name__ == "__main__":
    sys.exit(main())
