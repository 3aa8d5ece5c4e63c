"""`python -m r2seg_agent.evals.fdr.decoys`: what target-decoy competition holds, and where it breaks (docs/decoy.md).

A scan is a lesion-free or lesion-bearing target organ and decoy organs, all synthetic volumes searched by the real
pieces; what a case is worth is its largest score. Three readings of the same scores are compared with each other and
with a calibration on lesion-free cases: the target against its own decoys (`reject/decoy.py`), against all decoys of
the data set pooled, and one scan alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.evals.fdr.intervals import Mean
from r2seg_agent.evals.fdr.search import GateChoice, SearchedCase, search_case
from r2seg_agent.evals.fdr.volumes import LesionKind, Scanner, case_stream, make_scene
from r2seg_agent.reject.decoy import decoy_q, decoys_needed
from r2seg_agent.reject.fdr import benjamini_hochberg
from r2seg_agent.reject.scores import SCORES, ScoreName

Maxima = NDArray[np.float64]
"""(n,) largest score of each case, −inf without a candidate."""
Keep = Callable[[Maxima, NDArray[np.float64]], NDArray[np.bool_]]
"""(targets (n,), decoys (n, m)) → which scans are called findings."""

ALPHA = 0.05
ORGANS: Mapping[str, Scanner] = {
    "plain": Scanner(name="plain", fwhm_vox=3.0),
    "finer noise": Scanner(name="finer noise", fwhm_vox=2.0),
    "coarser noise": Scanner(name="coarser noise", fwhm_vox=4.0),
    "1.5 times the noise": Scanner(name="1.5 times the noise", fwhm_vox=3.0, sd_hu=22.5),
    "half the size": Scanner(name="half the size", fwhm_vox=3.0, shape=(10, 48, 48)),
    "twice the size": Scanner(name="twice the size", fwhm_vox=3.0, shape=(40, 48, 48)),
    "vessels": Scanner(name="vessels", fwhm_vox=3.0, vessels_hu=45.0),
}
"""What an organ looks like; `plain` is the target of most cells."""
LESION = LesionKind(volume_ml=1.0, cnr=3.0, edge="sharp")
SIZES: Mapping[str, int] = {"plain": 800}
DEFAULT_SIZE = 400
LESION_CASES = 250
SCANNERS = ("finer noise", "plain", "coarser noise")
"""A data set of several scanners: each scan has one of these, and its decoys have the same."""
SCANS, PREVALENCE, DATA_SETS, BOOTSTRAPS = 100, 0.3, 60, 12
CALIBRATION_CASES = 99


class Pool(NamedTuple):
    """Searched cases of one kind of organ, as largest scores: two lesion-free halves, and with a lesion."""

    targets: Maxima
    decoys: Maxima
    lesions: Maxima


class Held(NamedTuple):
    """False discoveries and power over data sets, with the standard error from resampling the searched cases."""

    fdr: Mean
    power: Mean


def search_organ(name: str, *, lesion: bool, cases: int, first: int = 0) -> list[SearchedCase]:
    """Cases `first` … of the organ called `name`; a case depends on nothing but its number and name."""
    found = []
    for number in range(first, first + cases):
        rng = case_stream(f"decoy-{name}-{'lesion' if lesion else 'free'}", number)
        scene = make_scene(ORGANS[name], LESION if lesion else None, rng)
        found.append(search_case(scene.volume, scene.organ, scene.truth, permutations=1))
    return found


def maxima_of(cases: Iterable[SearchedCase], score: ScoreName, gates: GateChoice) -> Maxima:
    """The largest score of each case among the candidates that pass their gates."""
    function = SCORES[score]
    return np.asarray(
        [
            max(
                (
                    function(f, 0.0 if m is None else m)
                    for f, m, ok in zip(case.features, case.mmd2, case.passed[gates], strict=True)
                    if ok
                ),
                default=-math.inf,
            )
            for case in cases
        ],
        dtype=np.float64,
    )


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
    pools: Sequence[tuple[Pool, Pool]],
    *,
    decoys: int,
    prevalence: float,
    rng: np.random.Generator,
    alpha: float = ALPHA,
) -> Held:
    """Data sets of `SCANS` scans, each with one of `pools` (target's, decoys') by chance, kept by `decoy_q`."""

    def keep(targets: Maxima, own: NDArray[np.float64]) -> NDArray[np.bool_]:
        kept: NDArray[np.bool_] = decoy_q(targets, own) <= alpha
        return kept

    return _over_data_sets(pools, decoys, prevalence, rng, keep)


def pooled_holds(
    pools: Sequence[tuple[Pool, Pool]],
    *,
    decoys: int,
    prevalence: float,
    rng: np.random.Generator,
    alpha: float = ALPHA,
) -> Held:
    """The same scans, each target against the decoys of all scans, then Benjamini-Hochberg."""

    def keep(targets: Maxima, own: NDArray[np.float64]) -> NDArray[np.bool_]:
        return _beyond(targets, own.ravel(), alpha)

    return _over_data_sets(pools, decoys, prevalence, rng, keep)


def conformal_holds(
    pools: Sequence[tuple[Pool, Pool]],
    lesion_free: Sequence[Maxima],
    *,
    prevalence: float,
    rng: np.random.Generator,
    alpha: float = ALPHA,
) -> Held:
    """The reference: `CALIBRATION_CASES` lesion-free target organs, of one of `lesion_free` each by chance."""

    def keep(targets: Maxima, own: NDArray[np.float64]) -> NDArray[np.bool_]:
        of = rng.integers(len(lesion_free), size=CALIBRATION_CASES)
        return _beyond(targets, np.asarray([rng.choice(lesion_free[k]) for k in of]), alpha)

    return _over_data_sets(pools, 1, prevalence, rng, keep)


def _beyond(targets: Maxima, null: Maxima, alpha: float) -> NDArray[np.bool_]:
    reached = len(null) - np.searchsorted(np.sort(null), targets, side="left")
    kept: NDArray[np.bool_] = benjamini_hochberg((1.0 + reached) / (len(null) + 1.0)) <= alpha
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


def _resampled(pool: Pool, rng: np.random.Generator) -> Pool:
    return Pool(*(rng.choice(part, len(part)) if len(part) else part for part in pool))
