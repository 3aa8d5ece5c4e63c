"""What target-decoy competition holds on data sets of synthetic scans with decoy organs (docs/decoy.md).

A scan is a target organ, lesion-free or with a lesion, and decoy organs; each is worth its largest score. Three
readings of the same scores are compared with each other and with a calibration on lesion-free cases: the target
against its own decoys (`competition.py`), against the decoys of all scans pooled, and one scan alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.evals.fdr.competition import decoy_q
from r2seg_agent.evals.fdr.intervals import Mean
from r2seg_agent.evals.fdr.levels import maxima, scored
from r2seg_agent.evals.fdr.search import GateChoice, SearchedCase
from r2seg_agent.evals.fdr.store import SyntheticCell, searched
from r2seg_agent.evals.fdr.volumes import LesionKind, Scanner
from r2seg_agent.reject.fdr import benjamini_hochberg
from r2seg_agent.reject.scores import ScoreName

Maxima = NDArray[np.float64]
"""(n,) largest score of each case, −inf without a candidate."""
Keep = Callable[[Maxima, NDArray[np.float64]], NDArray[np.bool_]]
"""(targets (n,), decoys (n, m)) → which scans are called findings."""

ALPHA = 0.05
GATES: GateChoice = "L2"
"""The paper's gates alone: most lesion-free organs then have a candidate, so that scores are compared at all."""
ORGANS: Mapping[str, Scanner] = {
    "plain": Scanner(name="plain", fwhm_vox=3.0),
    "finer noise": Scanner(name="finer noise", fwhm_vox=2.0),
    "coarser noise": Scanner(name="coarser noise", fwhm_vox=4.0),
    "1.5 times the noise": Scanner(name="1.5 times the noise", fwhm_vox=3.0, sd_hu=22.5),
    "half the size": Scanner(name="half the size", fwhm_vox=3.0, shape=(10, 48, 48)),
    "twice the size": Scanner(name="twice the size", fwhm_vox=3.0, shape=(40, 48, 48)),
    "vessels": Scanner(name="vessels", fwhm_vox=3.0, vessels_hu=45.0),
}
"""What an organ looks like; noise in FWHM of 2, 3 (plain) and 4 voxels."""
LESION = LesionKind(volume_ml=1.0, cnr=3.0, edge="sharp")
WITH_LESIONS = ("plain", "finer noise", "coarser noise", "vessels")
FREE_CASES, LESION_CASES = 500, 200
SCANS, PREVALENCE, DATA_SETS, BOOTSTRAPS = 100, 0.3, 60, 12
CALIBRATION_CASES = 99


class Pool(NamedTuple):
    """Largest scores of one kind of organ: two lesion-free sets that share no case, and with a lesion."""

    targets: Maxima
    decoys: Maxima
    lesions: Maxima


class Held(NamedTuple):
    """False discoveries and power over data sets, with the standard error from resampling the searched cases."""

    fdr: Mean
    power: Mean


def search_organs(
    folder: Path, *, jobs: int = 1, free: int = FREE_CASES, ill: int = LESION_CASES
) -> dict[tuple[str, bool], list[SearchedCase]]:
    """(kind of organ, with a lesion?) → searched cases, which are kept in `folder`."""
    kinds = [(name, False, free) for name in ORGANS] + [(name, True, ill) for name in WITH_LESIONS]
    cells = [(SyntheticCell(scanner=ORGANS[name], lesion=LESION if has else None), n) for name, has, n in kinds]
    return {(name, has): cases for (name, has, _), cases in zip(kinds, searched(cells, folder, jobs=jobs), strict=True)}


def pool(organs: Mapping[tuple[str, bool], Sequence[SearchedCase]], name: str, score: ScoreName) -> Pool:
    """The organs called `name`, as scores."""
    free = maxima(scored(organs[name, False], score, GATES))
    ill = maxima(scored(organs.get((name, True), ()), score, GATES))
    return Pool(targets=free[: len(free) // 2], decoys=free[len(free) // 2 :], lesions=ill)


def beats(targets: Maxima, decoys: Maxima, m: int = 1) -> float:
    """Chance that a target is larger than all of m decoys, over all pairs; ties count for the decoys.

    1 / (m + 1) and no more where both are exchangeable: with m = 19, the level of one scan alone at 0.05.
    """
    below = np.searchsorted(np.sort(decoys), targets, side="left") / len(decoys)
    return float(np.mean(below**m))


def beats_mean(targets: Maxima, decoys: Maxima, m: int, rng: np.random.Generator) -> Mean:
    """`beats` with its standard error by the bootstrap over targets and decoys."""
    again = [beats(rng.choice(targets, len(targets)), rng.choice(decoys, len(decoys)), m) for _ in range(200)]
    return Mean(value=beats(targets, decoys, m), se=float(np.std(again)), n=len(targets))


def competition_holds(
    pools: Sequence[tuple[Pool, Pool]], *, decoys: int, rng: np.random.Generator, prevalence: float = PREVALENCE
) -> Held:
    """Data sets of `SCANS` scans, each with one of `pools` (target's, decoys') by chance, kept by `decoy_q`."""

    def keep(targets: Maxima, own: NDArray[np.float64]) -> NDArray[np.bool_]:
        kept: NDArray[np.bool_] = decoy_q(targets, own) <= ALPHA
        return kept

    return _over_data_sets(pools, decoys, prevalence, rng, keep)


def pooled_holds(
    pools: Sequence[tuple[Pool, Pool]], *, decoys: int, rng: np.random.Generator, prevalence: float = PREVALENCE
) -> Held:
    """The same scans, each target against the decoys of all scans, then Benjamini-Hochberg over the scans."""

    def keep(targets: Maxima, own: NDArray[np.float64]) -> NDArray[np.bool_]:
        return _beyond(targets, own.ravel())

    return _over_data_sets(pools, decoys, prevalence, rng, keep)


def conformal_holds(
    pools: Sequence[tuple[Pool, Pool]],
    lesion_free: Sequence[Maxima],
    *,
    rng: np.random.Generator,
    prevalence: float = PREVALENCE,
) -> Held:
    """The reference: `CALIBRATION_CASES` lesion-free target organs, of one of `lesion_free` each by chance, then BH."""

    def keep(targets: Maxima, own: NDArray[np.float64]) -> NDArray[np.bool_]:
        of = rng.integers(len(lesion_free), size=CALIBRATION_CASES)
        return _beyond(targets, np.asarray([rng.choice(lesion_free[k]) for k in of]))

    return _over_data_sets(pools, 1, prevalence, rng, keep)


def _beyond(targets: Maxima, null: Maxima) -> NDArray[np.bool_]:
    """Case-maximum p of every scan against `null` (`calibration.case_maximum_p` for whole arrays), then BH."""
    reached = len(null) - np.searchsorted(np.sort(null), targets, side="left")
    p = np.where(np.isneginf(targets), 1.0, (1.0 + reached) / (len(null) + 1.0)).astype(np.float64)
    kept: NDArray[np.bool_] = benjamini_hochberg(p) <= ALPHA
    return kept


def _over_data_sets(
    pools: Sequence[tuple[Pool, Pool]], decoys: int, prevalence: float, rng: np.random.Generator, keep: Keep
) -> Held:
    """Means over `BOOTSTRAPS` resamplings of the pools, `DATA_SETS` data sets in each."""
    shares, powers = [], []
    for _ in range(BOOTSTRAPS):
        drawn = [(_resampled(target, rng), _resampled(decoy, rng)) for target, decoy in pools]
        own_share, own_power = [], []
        for _ in range(DATA_SETS):
            lesion = rng.random(SCANS) < prevalence
            kind = rng.integers(len(drawn), size=SCANS)
            targets = np.empty(SCANS)
            own = np.empty((SCANS, decoys))
            for k, (target, decoy) in enumerate(drawn):
                ill, well = lesion & (kind == k), ~lesion & (kind == k)
                targets[ill] = rng.choice(target.lesions, int(ill.sum()))
                targets[well] = rng.choice(target.targets, int(well.sum()))
                own[kind == k] = rng.choice(decoy.decoys, (int((kind == k).sum()), decoys))
            kept = keep(targets, own)
            own_share.append(float((kept & ~lesion).sum() / max(1, kept.sum())))
            own_power.append(float((kept & lesion).sum() / max(1, lesion.sum())))
        shares.append(float(np.mean(own_share)))
        powers.append(float(np.mean(own_power)))
    return Held(*(Mean(value=float(np.mean(v)), se=float(np.std(v, ddof=1)), n=BOOTSTRAPS) for v in (shares, powers)))


def _resampled(own: Pool, rng: np.random.Generator) -> Pool:
    return Pool(*(rng.choice(part, len(part)) if len(part) else part for part in own))
