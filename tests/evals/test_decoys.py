"""The decoy study's own pieces: data sets from scores whose truth is known, and a small run of the real search."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from r2seg_agent.evals.fdr.decoy_organs import compare_phantoms
from r2seg_agent.evals.fdr.decoys import (
    ALPHA,
    Held,
    Maxima,
    Pool,
    beats,
    competition_holds,
    conformal_holds,
    pooled_holds,
)
from r2seg_agent.evals.fdr.levels import maxima, scored
from r2seg_agent.evals.fdr.search import SearchedCase, search_case
from r2seg_agent.evals.fdr.volumes import Scanner, case_stream, make_scene

SCANNER = Scanner(name="decoys", fwhm_vox=2.0, shape=(12, 36, 36))
ORGANS = 60


def scores(seed: int, scale: float = 1.0, n: int = 4000) -> Pool:
    """Chance scores of organs that all have the same scale, and lesions far beyond."""
    rng = np.random.default_rng(seed)
    return Pool(*(scale * rng.gumbel(size=(2, n))), lesions=scale * (rng.gumbel(size=n) + 12.0))


def holds(held: Held) -> bool:
    return held.fdr.value <= ALPHA + 3 * held.fdr.se + 1e-9


def test_beats_counts_pairs_and_ties_for_the_decoy() -> None:
    targets, decoys = np.asarray([3.0, 1.0, -np.inf]), np.asarray([1.0, 0.0, -np.inf, -np.inf])
    assert beats(targets, decoys) == pytest.approx((4 + 3 + 0) / 12)
    assert beats(targets, decoys, 2) == pytest.approx((1 + (3 / 4) ** 2) / 3)


def test_exchangeable_scores_hold_whatever_the_scanner_and_a_foreign_calibration_does_not() -> None:
    rng = np.random.default_rng(3)
    small, large = scores(1), scores(2, scale=3.0)
    mixed = [(small, small), (large, large)]
    for decoys in (1, 4):
        held = competition_holds(mixed, decoys=decoys, rng=rng)
        assert holds(held)
        assert held.power.value > 0.5
    assert holds(pooled_holds(mixed, decoys=2, rng=rng))
    assert holds(conformal_holds(mixed, [small.decoys, large.decoys], rng=rng))
    assert conformal_holds(mixed, [small.decoys], rng=rng).fdr.value > 0.2


def test_decoys_of_a_quieter_organ_do_not_hold() -> None:
    rng = np.random.default_rng(4)
    assert competition_holds([(scores(1, scale=3.0), scores(2))], decoys=1, rng=rng).fdr.value > 0.2


def organs(scanner: Scanner, key: str) -> list[SearchedCase]:
    scenes = [make_scene(scanner, None, case_stream(key, k)) for k in range(ORGANS)]
    return [search_case(scene.volume, scene.organ, permutations=1) for scene in scenes]


def largest(cases: list[SearchedCase]) -> Maxima:
    return maxima(scored(cases, "contrast_log_volume", "L2"))


def test_real_searches_of_like_organs_are_coins_and_vessels_are_not() -> None:
    targets, decoys = organs(SCANNER, "targets"), organs(SCANNER, "decoys")
    with_vessels = organs(SCANNER.model_copy(update={"vessels_hu": 45.0}), "vessels")
    t, d, v = largest(targets), largest(decoys), largest(with_vessels)
    differ = t != d
    low, high = stats.binom.interval(0.9999, int(differ.sum()), 0.5)
    assert low <= (t > d).sum() <= high
    assert np.mean(v > d) > 0.8
    pairs = [{"a": a, "b": b} for a, b in zip(targets, decoys, strict=True)]
    compared = compare_phantoms(pairs, "a", "b", "contrast_log_volume", "L2")
    assert compared.wins is not None
    assert compared.wins.k == (t > d).sum()
    assert compared.larger.value == pytest.approx(np.mean((t > d) + 0.5 * (t == d)))
