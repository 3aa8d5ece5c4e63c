"""What the calibration decides: its size, its likeness to the scan, and the flagged scans of a data set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from r2seg_agent.evals.fdr.cases import StudyCases
from r2seg_agent.evals.fdr.cells import BASE, CURVE_SIZES, DATA_SET_SIZE, N_CALIBRATION, PREVALENCES, SHIFT_NAMES
from r2seg_agent.evals.fdr.intervals import Share, level_given_calibration, level_se, mean_of, share_of
from r2seg_agent.evals.fdr.levels import (
    ScoredCase,
    calibration_of,
    conformal_tested,
    hit_scores,
    maxima,
    thresholds,
)
from r2seg_agent.evals.fdr.measures import LARGE_CALIBRATION, LESIONS
from r2seg_agent.evals.fdr.results import CurvePoint, Flagged, Shift
from r2seg_agent.evals.fdr.search import ALPHA, GATES, GateChoice, SearchedCase
from r2seg_agent.reject.calibration import Calibration
from r2seg_agent.reject.fdr import benjamini_hochberg
from r2seg_agent.reject.profile import profile_warnings
from r2seg_agent.reject.scores import ScoreName


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
    return share_of([bool(profile_warnings(calibration, profile)) for profile in profiles])


def measure_flagged(cases: StudyCases, score: ScoreName, gates: GateChoice) -> list[Flagged]:
    """Data sets of `DATA_SET_SIZE` scans, each with a calibration of its own drawn from the base scanner's pool.

    As in `batch`: one p per scan (its smallest), Benjamini-Hochberg over the scans, flagged where q ≤ α.
    """
    rng = np.random.default_rng(20261121)
    pool = cases.scored(cases.calibration[BASE], score, gates)
    free = cases.scored(cases.test[BASE], score, gates)
    lesion = LESIONS["CNR 3, sharp"]
    ill = cases.scored(cases.lesions[BASE, lesion], score, gates)
    rows = []
    for n in (N_CALIBRATION, LARGE_CALIBRATION):
        if n > len(pool):
            continue
        sets = [_data_sets(pool, free, ill, n, score, rng) for _ in range(cases.counts.data_sets)]
        for k, prevalence in enumerate(PREVALENCES):
            rows.append(
                Flagged(
                    n_calibration=n,
                    prevalence=prevalence,
                    lesion=lesion,
                    gates=gates,
                    score=score,
                    data_sets=len(sets),
                    fdr=mean_of([one[k][0] for one in sets]),
                    power=mean_of([one[k][1] for one in sets]),
                )
            )
    return rows


def _data_sets(
    pool: Sequence[ScoredCase],
    free: Sequence[ScoredCase],
    ill: Sequence[ScoredCase],
    n: int,
    score: ScoreName,
    rng: np.random.Generator,
) -> list[tuple[float, float]]:
    """One calibration; per prevalence one data set: false share of the flagged scans, share of the lesions flagged."""
    calibration = calibration_of([pool[k] for k in rng.choice(len(pool), n, replace=False)], score)
    results = []
    for prevalence in PREVALENCES:
        n_ill = round(prevalence * DATA_SET_SIZE)
        chosen = [ill[k] for k in rng.choice(len(ill), min(n_ill, len(ill)), replace=False)]
        n_ill = len(chosen)
        chosen += [free[k] for k in rng.choice(len(free), min(DATA_SET_SIZE - n_ill, len(free)), replace=False)]
        q = benjamini_hochberg([one.p for one in conformal_tested(chosen, calibration)])
        flagged = q <= ALPHA
        false = int(np.count_nonzero(flagged[n_ill:]))
        results.append((false / max(1, int(flagged.sum())), int(np.count_nonzero(flagged[:n_ill])) / n_ill))
    return results
