"""The small validity study: level and canary on lesion-free noise with exact bounds, and the study's own pieces."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from r2seg_agent.reject.calibration import case_maximum_p
from studies.validity.blobs import blob_case
from studies.validity.intervals import Share, largest_count, level_given_calibration, mean_of, share_of
from studies.validity.levels import (
    calibration_of,
    conformal_tested,
    maxima,
    paper_tested,
    scored,
    thresholds,
)
from studies.validity.search import ALPHA, SearchedCase, search_case
from studies.validity.store import SyntheticCell
from studies.validity.volumes import LesionKind, Scanner

SCANNER = Scanner(name="small study", fwhm_vox=2.5, shape=(14, 36, 36))
N_CALIBRATION, N_TEST = 99, 160
CHANCE = 1e-4
"""How often a correct program would fail one of these tests by chance, were the seeds drawn again."""


def cases(n: int, lesion: LesionKind | None = None, role: str = "test") -> list[SearchedCase]:
    cell = SyntheticCell(scanner=SCANNER, lesion=lesion, role="calibration" if role == "calibration" else "test")
    scenes = [cell.make(index) for index in range(n)]
    return [search_case(s.volume, s.organ, s.truth, permutations=199, seed=k) for k, s in enumerate(scenes)]


@pytest.fixture(scope="module")
def calibration_cases() -> list[SearchedCase]:
    return cases(N_CALIBRATION, role="calibration")


@pytest.fixture(scope="module")
def free() -> list[SearchedCase]:
    return cases(N_TEST)


@pytest.fixture(scope="module")
def blobs() -> list[object]:
    return [blob_case(SCANNER, index) for index in range(40)]


@pytest.mark.parametrize("score", ["scan_statistic", "contrast_log_volume"])
def test_conformal_keeps_its_level_on_lesion_free_cases(
    calibration_cases: list[SearchedCase], free: list[SearchedCase], score: str
) -> None:
    calibration = calibration_of(scored(calibration_cases, score, "L2"), score)
    found = [one.survivors > 0 for one in conformal_tested(scored(free, score, "L2"), calibration)]
    assert sum(found) <= largest_count(ALPHA, N_TEST, N_CALIBRATION, chance=CHANCE)


def test_the_bound_on_the_level_means_something() -> None:
    bound = largest_count(ALPHA, N_TEST, N_CALIBRATION, chance=CHANCE)
    assert ALPHA * N_TEST < bound <= 0.2 * N_TEST


def test_canary_paper_mode_finds_lesions_where_there_are_none(free: list[SearchedCase]) -> None:
    with_candidate = [case for case in free if any(case.passed["L2"])]
    found = sum(one.survivors > 0 for one in paper_tested(free, "L2"))
    assert len(with_candidate) >= 20
    assert found > stats.binom(N_TEST, ALPHA).isf(CHANCE)
    assert found >= 0.9 * len(with_candidate)


def test_canary_voxels_of_a_blind_region_are_not_exchangeable_but_its_placements_are(blobs) -> None:
    valid = stats.binom(len(blobs), ALPHA).isf(CHANCE)
    assert sum(one.blind_permutation <= ALPHA for one in blobs) > valid
    assert sum(one.blind_placement <= ALPHA for one in blobs) <= valid


def test_placements_do_not_save_a_region_that_was_chosen(blobs) -> None:
    chosen = [one.proposed_placement for one in blobs if one.proposed_placement is not None]
    assert len(chosen) >= 5
    assert sum(p <= ALPHA for p in chosen) > stats.binom(len(chosen), ALPHA).isf(CHANCE)


def test_lesions_are_found_and_what_is_found_is_the_lesion(calibration_cases: list[SearchedCase]) -> None:
    ill = cases(20, LesionKind(volume_ml=1.0, cnr=4.0, edge="sharp"))
    calibration = calibration_of(scored(calibration_cases, "scan_statistic", "conformal"), "scan_statistic")
    runs = conformal_tested(scored(ill, "scan_statistic", "conformal"), calibration)
    assert sum(one.hit for one in runs) >= 18
    assert np.mean([one.false_share for one in runs]) < 0.2


def test_thresholds_say_what_case_maximum_p_says(calibration_cases: list[SearchedCase]) -> None:
    own = scored(calibration_cases, "contrast_sqrt_volume", "L2")
    pool = maxima(own)
    for n in (18, 19, 29, 60, len(pool)):
        (cut,) = thresholds(pool[:n], n, draws=1, rng=np.random.default_rng(0))
        calibration = calibration_of(own[:n], "contrast_sqrt_volume")
        for score in (*np.unique(pool[np.isfinite(pool)]), 0.0, 1e6):
            assert (score > cut) == (case_maximum_p(calibration, score) <= ALPHA)


def test_intervals_agree_with_scipy() -> None:
    for k, n in ((0, 20), (3, 40), (40, 40)):
        wilson = stats.binomtest(k, n).proportion_ci(method="wilson")
        assert Share(k=k, n=n).interval == pytest.approx((wilson.low, wilson.high), abs=1e-12)
    assert share_of([True, False, True]).value == pytest.approx(2 / 3)
    assert mean_of([1.0, 2.0, 4.0]).se == pytest.approx(stats.sem([1.0, 2.0, 4.0]))


def test_the_level_of_one_calibration_is_the_beta_distribution_that_theory_says() -> None:
    rng = np.random.default_rng(3)
    for n in (19, 39, 99):
        calibrations = rng.standard_normal((4000, n))
        k = math.floor(ALPHA * (n + 1) + 1e-9)
        levels = stats.norm.sf(np.sort(calibrations, axis=1)[:, n - k])
        theory = stats.beta(*level_given_calibration(ALPHA, n))
        assert stats.kstest(levels, theory.cdf).pvalue > 1e-4


def test_the_bound_is_that_of_simulated_counts() -> None:
    rng = np.random.default_rng(4)
    cuts = np.sort(rng.random((20_000, 99)), axis=1)[:, 99 - 5]
    counts = rng.binomial(N_TEST, 1.0 - cuts)
    bound = largest_count(ALPHA, N_TEST, 99, chance=0.01)
    assert np.mean(counts > bound) < 0.01 < np.mean(counts > bound - 2)
