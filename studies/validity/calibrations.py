"""What the calibration decides: its size, its likeness to the scan, and the flagged scans of a data set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from r2seg_agent.reject.alpha import within
from r2seg_agent.reject.calibration import Calibration
from r2seg_agent.reject.fdr import benjamini_hochberg
from r2seg_agent.reject.profile import profile_warnings
from r2seg_agent.reject.scores import ScoreName
from studies.validity.cases import StudyCases
from studies.validity.cells import BASE, CURVE_SIZES, DATA_SET_SIZE, N_CALIBRATION, PREVALENCES, SHIFT_NAMES
from studies.validity.intervals import Share, level_given_calibration, level_se, mean_of, share_of
from studies.validity.levels import (
    ScoredCase,
    calibration_of,
    conformal_tested,
    hit_scores,
    maxima,
    thresholds,
)
from studies.validity.measures import LESIONS
from studies.validity.results import CurvePoint, Flagged, Shift
from studies.validity.search import ALPHA, GATES, GateChoice, SearchedCase

FLAGGED_SIZES = (N_CALIBRATION, 499)


def measure_curve(cases: StudyCases, score: ScoreName, gates: GateChoice) -> list[CurvePoint]:
    """Level and power over many calibrations of each size, drawn from the base scanner's pool without replacement."""
    pool = maxima(cases.scored(cases.calibration[BASE], score, gates))
    free = maxima(cases.scored(cases.test[BASE], score, gates))
    found = {
        name: hit_scores(cases.scored(cases.lesions[BASE, lesion], score, gates)) for name, lesion in LESIONS.items()
    }
    points = []
    for n in CURVE_SIZES:
        if n > len(pool):
            continue
        cuts = thresholds(pool, n, draws=cases.counts.draws, rng=np.random.default_rng(n))
        level = np.asarray([(free > cut).mean() for cut in cuts])
        theory = stats.beta(*level_given_calibration(ALPHA, n))
        power: dict[str, tuple[float, float, float]] = {}
        for name, own in found.items():
            shares = np.asarray([(own > cut).mean() for cut in cuts])
            low, high = np.quantile(shares, [0.05, 0.95])
            power[name] = (float(shares.mean()), float(low), float(high))
        low, high = np.quantile(level, [0.05, 0.95])
        points.append(
            CurvePoint(
                n=n,
                score=score,
                gates=gates,
                level_mean=float(level.mean()),
                level_sd=float(level.std(ddof=1)),
                level_5=float(low),
                level_95=float(high),
                theory_mean=float(theory.mean()),
                theory_sd=float(theory.std()),
                theory_5=float(theory.ppf(0.05)),
                theory_95=float(theory.ppf(0.95)),
                power=power,
            )
        )
    return points


def measure_shift(cases: StudyCases, score: ScoreName) -> list[Shift]:
    """Every scanner's calibration of `N_CALIBRATION` cases against every other scanner's lesion-free test cases."""
    rows = []
    warned: dict[tuple[str, str], Share] = {}
    for gates in GATES:
        for calibrated in SHIFT_NAMES:
            group = cases.scored(cases.calibration[calibrated], score, gates)[:N_CALIBRATION]
            calibration = calibration_of(group, score, profiles=gates == next(iter(GATES)))
            for tested in SHIFT_NAMES:
                if (calibrated, tested) not in warned:  # the profiles are the same whatever the gates
                    scans = cases.test[tested][: cases.counts.warned]
                    warned[calibrated, tested] = _warned(calibration, scans)
                free = cases.scored(cases.test[tested], score, gates)
                runs = conformal_tested(free, calibration)
                rows.append(
                    Shift(
                        calibration=calibrated,
                        test=tested,
                        gates=gates,
                        score=score,
                        level=float(np.mean([t.survivors > 0 for t in runs])),
                        se=level_se(ALPHA, len(free), N_CALIBRATION),
                        warned=warned[calibrated, tested],
                    )
                )
    return rows


def _warned(calibration: Calibration, cases: Sequence[SearchedCase]) -> Share:
    """How many of the scans the profile calls unlike the calibration's."""
    profiles = [case.profile for case in cases if case.profile is not None]
    return share_of([bool(profile_warnings(calibration.profiles, profile)) for profile in profiles])


def measure_flagged(cases: StudyCases, score: ScoreName, gates: GateChoice) -> list[Flagged]:
    """Data sets of `DATA_SET_SIZE` scans by calibrations of the base scanner's pool.

    As in `batch`: one p per scan (its smallest), Benjamini-Hochberg over the scans, flagged where q ≤ α. Calibrations
    are disjoint, and so are the lesion-free scans that each judges: the error is that over calibrations, since data
    sets that share a calibration err together.
    """
    pool = cases.scored(cases.calibration[BASE], score, gates)
    free = cases.scored(cases.test[BASE], score, gates)
    lesion = LESIONS["CNR 3, sharp"]
    ill = cases.scored(cases.lesions[BASE, lesion], score, gates)
    rows = []
    for n in FLAGGED_SIZES:
        groups = min(len(pool) // n, len(free) // DATA_SET_SIZE)
        found: dict[float, list[tuple[float, float]]] = {prevalence: [] for prevalence in PREVALENCES}
        for group in range(groups):
            calibration = calibration_of(pool[group * n : (group + 1) * n], score)
            rng = np.random.default_rng([20261121, n, group])
            for prevalence, own in found.items():
                sets = [
                    _data_set(free[group::groups], ill, prevalence, calibration, rng)
                    for _ in range(cases.counts.data_sets)
                ]
                own.append((float(np.mean([fdp for fdp, _ in sets])), float(np.mean([power for _, power in sets]))))
        for prevalence, own in found.items():
            rows.append(
                Flagged(
                    n_calibration=n,
                    prevalence=prevalence,
                    lesion=lesion,
                    gates=gates,
                    score=score,
                    fdr=mean_of([fdp for fdp, _ in own]),
                    power=mean_of([power for _, power in own]),
                )
            )
    return rows


def _data_set(
    free: Sequence[ScoredCase],
    ill: Sequence[ScoredCase],
    prevalence: float,
    calibration: Calibration,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """One data set: its false discovery proportion, and the share of its lesions that are flagged."""
    n_ill = min(round(prevalence * DATA_SET_SIZE), len(ill))
    n_free = min(DATA_SET_SIZE - n_ill, len(free))
    chosen = [ill[k] for k in rng.choice(len(ill), n_ill, replace=False)]
    chosen += [free[k] for k in rng.choice(len(free), n_free, replace=False)]
    q = benjamini_hochberg([item.p for item in conformal_tested(chosen, calibration)])
    flagged = np.asarray([within(value, ALPHA) for value in q.tolist()])
    false = int(np.count_nonzero(flagged[n_ill:]))
    return false / max(1, int(flagged.sum())), int(np.count_nonzero(flagged[:n_ill])) / n_ill
