"""What the words of a promise cost: failed cases, levels chosen later, several rounds, one calibration, other lesions.

Simulated scores, judged by the functions that a run uses (`reject.rounds`, `reject.confidence`), before and after each
rule; the last part searches synthetic organs. `python -m studies.validity.promise_page` writes the figures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from r2seg_agent.frozen import Frozen
from r2seg_agent.imaging.volume import Mask, Volume
from r2seg_agent.reject.alpha import within
from r2seg_agent.reject.confidence import confident_ranks, level_bound, rejected_ranks
from r2seg_agent.reject.rounds import RoundMaxima, least_count
from studies.validity.cells import scanner_named
from studies.validity.intervals import Mean, mean_of
from studies.validity.levels import ScoredCase, calibration_of, conformal_tested, scored
from studies.validity.search import ALPHA, SearchedCase, search_case
from studies.validity.store import SyntheticCell
from studies.validity.volumes import LesionKind, Scene

Table = NDArray[np.float64]
"""(cases, rounds): the largest score of each case in each round."""

SCALES = np.array([1.0, 50.0, 200.0])
"""Rounds search other tissue, so their scores are on scales of their own."""
SD = math.sqrt(3.0)
"""Of a case's largest score in a round of scale 1."""
LARGE_SHARE, SHIFT = 0.1, 3.0
"""How many scans are too large for the last round; by how many SD they, and lesions, score higher."""
LATER_LEVELS = (0.05, 0.1, 0.2, 0.5)
"""Levels that someone tries one after the other, until something is found."""


class Failure(Frozen):
    """Level where some scans fail in the last round: calibration cases that failed are `dropped`, or kept as +∞."""

    n: int
    dropped: Mean
    kept: Mean


class Later(Frozen):
    """E[1{false finding at α̂} / α̂], at most 1 if the promise holds, of someone who tries `LATER_LEVELS` in turn: by p,
    and by the e-value. `lowest` is the smallest level that the e-value of a scan above all cases allows.
    """

    n: int
    by_p: Mean
    by_e: Mean
    lowest: float


class Rounds(Frozen):
    """Of `n` cases: the smallest p of each round of three, how many rounds are searched, level over three rounds and
    over those, and the share of lesions (`SHIFT` SD, in the first round) that is found by either.
    """

    n: int
    smallest: tuple[float, ...]
    served: int
    level_three: Mean
    level_served: Mean
    found_three: Mean
    found_served: Mean


class OneCalibration(Frozen):
    """Levels of single calibrations of `n` cases over `rounds` rounds: mean and 95 % quantile against U, and the share
    of calibrations whose level is at most α when `confidence` is wanted.
    """

    n: int
    rounds: int
    mean: float
    quantile: float
    bound: float
    confidence: float
    ranks: int
    held: Mean | None


class Implanted(Frozen):
    """What an implanted lesion does to the other candidates of the same scans: the share of scans with a false finding,
    and of those whose largest false score rose.
    """

    lesion: str
    scans: int
    false_finding: Mean
    rose: Mean


class PromiseResults(Frozen):
    """Everything on the page."""

    machine: str
    failures: tuple[Failure, ...]
    later: tuple[Later, ...]
    rounds: tuple[Rounds, ...]
    calibrations: tuple[OneCalibration, ...]
    implanted: tuple[Implanted, ...]


def measure(machine: str, *, calibrations: int = 400, scans: int = 100, organs: int = 150) -> PromiseResults:
    """All parts: `calibrations` of each kind with `scans` scans each, and `organs` searched of each kind."""
    rng = np.random.default_rng(20261130)
    return PromiseResults(
        machine=machine,
        failures=tuple(measure_failures(n, calibrations, scans, rng) for n in (39, 99, 199)),
        later=tuple(measure_later(n, calibrations, scans, rng) for n in (19, 99, 499)),
        rounds=tuple(measure_rounds(n, calibrations, scans, rng) for n in (19, 59, 79)),
        calibrations=tuple(
            measure_calibration(n, rounds, 4 * calibrations, rng) for rounds in (1, 3) for n in (59, 99, 199)
        ),
        implanted=measure_implanted(organs),
    )


def lesion_free(count: int, rng: np.random.Generator) -> Table:
    """Scores of lesion-free cases, dependent between rounds."""
    scores: Table = (rng.gamma(2.0, size=(count, 1)) + rng.gamma(1.0, size=(count, 3))) * SCALES
    return scores


class _Scans(NamedTuple):
    scores: Table
    finished: Table


def _with_failures(count: int, rng: np.random.Generator) -> _Scans:
    """Scores, and the same with +∞ where a large scan did not finish the last round."""
    scores = lesion_free(count, rng)
    large = rng.random(count) < LARGE_SHARE
    scores += np.where(large, SHIFT * SD, 0.0)[:, None] * SCALES
    finished = scores.copy()
    finished[large, 2] = np.inf
    return _Scans(scores, finished)


def measure_failures(n: int, calibrations: int, scans: int, rng: np.random.Generator) -> Failure:
    """A scan is reported from the rounds that it finished."""
    dropped, kept = [], []
    for _ in range(calibrations):
        cases = _with_failures(n, rng).finished
        whole = cases[np.isfinite(cases).all(axis=1)]
        tests = _with_failures(scans, rng).finished
        dropped.append(level_of(RoundMaxima(whole.T), tests))
        kept.append(level_of(RoundMaxima(cases.T), tests))
    return Failure(n=n, dropped=mean_of(dropped), kept=mean_of(kept))


def measure_later(n: int, calibrations: int, scans: int, rng: np.random.Generator) -> Later:
    """Someone raises the level until something is found."""
    by_p, by_e = [], []
    for _ in range(calibrations):
        look_up = RoundMaxima(lesion_free(n, rng).T)
        p = [case_p(look_up, row) for row in lesion_free(scans, rng)]
        e = [1.0 / max(look_up.e(row.tolist()), 1e-9) for row in lesion_free(scans, rng)]
        by_p.append(float(np.mean([_price(value) for value in p])))
        by_e.append(float(np.mean([_price(value) for value in e])))
    top = RoundMaxima([list(range(n))] * 3).e([float(n)])
    return Later(n=n, by_p=mean_of(by_p), by_e=mean_of(by_e), lowest=1.0 / top)


def _price(least: float) -> float:
    """1 / α̂ where one of `LATER_LEVELS` is at least `least`, the first such one being α̂; else 0."""
    return next((1.0 / level for level in LATER_LEVELS if within(least, level)), 0.0)


def measure_rounds(n: int, calibrations: int, scans: int, rng: np.random.Generator) -> Rounds:
    """Three rounds against those that can find something."""
    served = max((r for r in (1, 2, 3) if least_count(r) <= ALPHA * (n + 1) + 1e-9), default=1)
    levels: tuple[list[float], list[float]] = ([], [])
    found: tuple[list[float], list[float]] = ([], [])
    for _ in range(calibrations):
        cases, free, ill = lesion_free(n, rng), lesion_free(scans, rng), lesion_free(scans, rng)
        ill[:, 0] += SHIFT * SD
        for rounds, level, share in zip((3, served), levels, found, strict=True):
            look_up = RoundMaxima(cases[:, :rounds].T)
            level.append(level_of(look_up, free[:, :rounds]))
            share.append(level_of(look_up, ill[:, :rounds]))
    return Rounds(
        n=n,
        smallest=tuple(least_count(r) / (n + 1) for r in (1, 2, 3)),
        served=served,
        level_three=mean_of(levels[0]),
        level_served=mean_of(levels[1]),
        found_three=mean_of(found[0]),
        found_served=mean_of(found[1]),
    )


def measure_calibration(
    n: int, rounds: int, calibrations: int, rng: np.random.Generator, *, confidence: float = 0.9
) -> OneCalibration:
    """Levels of single calibrations, each by a large number of scans: exact up to their sampling."""
    tests = lesion_free(100_000, rng)[:, :rounds]
    ascending = _ascending(tests)
    ranks = confident_ranks(n, ALPHA, confidence)
    levels, confident = [], []
    for _ in range(calibrations):
        look_up = RoundMaxima(lesion_free(n, rng)[:, :rounds].T)
        levels.append(float(_called(look_up, tests, rejected_ranks(n, ALPHA) / (n + 1), ascending).mean()))
        confident.append(float(_called(look_up, tests, ranks / (n + 1), ascending).mean()) <= ALPHA)
    return OneCalibration(
        n=n,
        rounds=rounds,
        mean=float(np.mean(levels)),
        quantile=float(np.quantile(levels, 0.95)),
        bound=level_bound(n, ALPHA),
        confidence=confidence,
        ranks=ranks,
        held=mean_of([float(held) for held in confident]) if ranks else None,
    )


def case_p(look_up: RoundMaxima, row: Table) -> float:
    """The p of a scan: the smallest over the rounds that it finished; 1 where it finished none."""
    return min((look_up.p(s, r) for r, s in enumerate(row.tolist(), start=1) if s < math.inf), default=1.0)


def level_of(look_up: RoundMaxima, tests: Table) -> float:
    """The share of scans, `tests` (n, rounds) by their largest scores, that have a p of at most `ALPHA`."""
    return float(_called(look_up, tests, ALPHA).mean())


def _called(
    look_up: RoundMaxima, tests: Table, level: float, ascending: Sequence[NDArray[np.float64]] | None = None
) -> NDArray[np.bool_]:
    """Which scans have a p of at most `level` in a round that they finished: p falls with the score, so one threshold
    a round decides. `ascending`: the finite scores of each round, sorted, where they are known.
    """
    called = np.zeros(len(tests), dtype=np.bool_)
    for r, order in enumerate(_ascending(tests) if ascending is None else ascending, start=1):
        own = tests[:, r - 1]
        low, high = 0, order.size
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if within(look_up.p(float(order[middle]), r), level) else (middle + 1, high)
        if low < order.size:
            called |= np.isfinite(own) & (own >= order[low])
    return called


def _ascending(tests: Table) -> list[NDArray[np.float64]]:
    return [np.sort(own[np.isfinite(own)]) for own in tests.T]


LESION = LesionKind(volume_ml=1.0, cnr=4.0, edge="blurred")
SCANNER = scanner_named("FWHM 3")
N_CASES = 99


def measure_implanted(organs: int) -> tuple[Implanted, ...]:
    """The same lesion-free organs before and after a lesion is put into them, and searched again."""
    cell = SyntheticCell(scanner=SCANNER)
    calibration = calibration_of(_scored([searched(cell.make(k)) for k in range(N_CASES)]), "scan_statistic")
    before = [cell.make(N_CASES + k) for k in range(organs)]
    largest = [largest_false(searched(scene)) for scene in before]
    rows = []
    for name, surroundings in SURROUNDINGS.items():
        scenes = [implant(scene, surroundings) for scene in before]
        cases = [searched(scene) for scene in scenes]
        tested = conformal_tested(_scored(cases), calibration)
        rose = [now > then for now, then in zip(map(largest_false, cases), largest, strict=True)]
        rows.append(
            Implanted(
                lesion=name,
                scans=organs,
                false_finding=mean_of([float(one.false > 0) for one in tested]),
                rose=mean_of([float(one) for one in rose]),
            )
        )
    return tuple(rows)


def implant(scene: Scene, surroundings: Callable[[Table, float], Table] | None) -> Scene:
    """`scene` with a dark ball in the middle of its volume, and what `surroundings` adds (None: the scan as it is).

    `surroundings` gets the distance from the ball's centre along each axis, (z, y, x, 3) in mm, and its radius.
    """
    if surroundings is None:
        return scene
    geometry = scene.volume.geometry
    axes = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(geometry.shape, geometry.spacing_mm, strict=True)]
    offset = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    radius = LESION.radius_mm
    truth: Mask = np.linalg.norm(offset, axis=-1) <= radius
    shape = np.maximum(truth.astype(np.float64), surroundings(offset, radius))
    blurred = ndimage.gaussian_filter(shape, 1.0)
    grey = np.rint(scene.volume.array - LESION.cnr * SCANNER.sd_hu * blurred).astype(np.int16)
    volume = Volume(array=grey, geometry=geometry, modality="CT", unit="HU", name="synthetic")
    return Scene(volume=volume, organ=scene.organ, truth=truth)


def _alone(offset: Table, radius: float) -> Table:
    return np.zeros(offset.shape[:-1])


def _oedema(offset: Table, radius: float) -> Table:
    """40 % of the contrast, out to 1.7 radii."""
    return np.where(np.linalg.norm(offset, axis=-1) <= 1.7 * radius, 0.4, 0.0)


def _satellites(offset: Table, radius: float) -> Table:
    """Three balls of 0.6 radii and the same contrast, 2.3 radii away."""
    centres = 2.3 * radius * np.array([[0.0, 1.0, 0.0], [0.0, -0.5, 0.87], [0.0, -0.5, -0.87]])
    near = [np.linalg.norm(offset - centre, axis=-1) <= 0.6 * radius for centre in centres]
    inside: Table = np.any(near, axis=0).astype(np.float64)
    return inside


SURROUNDINGS: dict[str, Callable[[Table, float], Table] | None] = {
    "none": None,
    "a ball": _alone,
    "a ball with oedema": _oedema,
    "a ball with satellites": _satellites,
}


def searched(scene: Scene) -> SearchedCase:
    """The scene as the first round of a run searches it."""
    return search_case(scene.volume, scene.organ, scene.truth, permutations=1)


def _scored(cases: Sequence[SearchedCase]) -> list[ScoredCase]:
    return scored(cases, "scan_statistic", "conformal")


def largest_false(case: SearchedCase) -> float:
    """The largest score of a candidate that is no part of the lesion; −∞ without one."""
    (own,) = _scored([case])
    return max((s for s, false in zip(own.scores, own.false, strict=True) if false), default=-math.inf)
