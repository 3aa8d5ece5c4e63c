"""Matched cells: level, false discovery rate and power of every score and choice of gates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.reject.calibration import Calibration
from r2seg_agent.reject.scores import OF_MASKS
from studies.validity.cases import StudyCases
from studies.validity.cells import MATCHED, N_CALIBRATION, SIZES, scanner_named
from studies.validity.intervals import level_se, mean_of, share_of
from studies.validity.levels import (
    ScoredCase,
    Tested,
    conformal_tested,
    paper_tested,
)
from studies.validity.results import Level, Mixed, Paper, Power, Ranked
from studies.validity.search import ALPHA, GATES, GateChoice
from studies.validity.volumes import LesionKind

LESIONS: Mapping[str, LesionKind] = {
    "CNR 3, sharp": LesionKind(volume_ml=1.0, cnr=3.0, edge="sharp"),
    "CNR 3, blurred": LesionKind(volume_ml=1.0, cnr=3.0, edge="blurred"),
    "CNR 2, sharp": LesionKind(volume_ml=1.0, cnr=2.0, edge="sharp"),
}
"""The lesions of 1 ml that stand for all where one number must do."""
PREVALENCES_MIXED = (0.2, 0.5, 1.0)
RANKED_SCANNERS = ("FWHM 2", "FWHM 3", "FWHM 4")
Runs = list[list[Tested]]
"""[calibration][case]."""


def measure_levels(cases: StudyCases) -> tuple[list[Level], list[Mixed]]:
    """Lesion-free level of every score, and FDR with lesions among the cases, `N_CALIBRATION` cases per calibration."""
    levels: list[Level] = []
    mixed: list[Mixed] = []
    for scanner in (*MATCHED, scanner_named("vessels enhanced")):
        for gates in GATES:
            for score in OF_MASKS:
                calibrations = cases.calibrations(scanner.name, score, gates, N_CALIBRATION)
                free = cases.scored(cases.test[scanner.name], score, gates)
                level = Level(
                    scanner=scanner.name,
                    gates=gates,
                    score=score,
                    n_calibration=N_CALIBRATION,
                    calibrations=len(calibrations),
                    n_test=len(free),
                    level=_level(_runs(free, calibrations)),
                    se=level_se(ALPHA, len(free), N_CALIBRATION * len(calibrations)),
                )
                levels.append(level)
                for lesion in LESIONS.values():
                    if (scanner.name, lesion) in cases.lesions:
                        own = cases.scored(cases.lesions[scanner.name, lesion], score, gates)
                        mixed += _mixed(level, lesion, _runs(own, calibrations))
    return levels, mixed


def measure_power(cases: StudyCases) -> list[Power]:
    """Conformal mode with `N_CALIBRATION` cases per calibration, on every lesion cell."""
    powers = []
    for (name, lesion), own in cases.lesions.items():
        power: dict[GateChoice, dict[str, NDArray[np.float64]]] = {}
        for gates in GATES:
            power[gates] = {
                score: _hits(
                    _runs(
                        cases.scored(own, score, gates),
                        cases.calibrations(name, score, gates, N_CALIBRATION),
                    )
                )
                for score in OF_MASKS
            }
        powers.append(
            Power(
                scanner=name,
                lesion=lesion,
                n=len(own),
                proposed=share_of([any(case.hits) for case in own]),
                passed={
                    gates: share_of([any(h and p for h, p in zip(c.hits, c.passed[gates], strict=True)) for c in own])
                    for gates in GATES
                },
                power={gates: {s: mean_of(hits) for s, hits in scores.items()} for gates, scores in power.items()},
                paper={gates: share_of([t.hit for t in paper_tested(own, gates)]) for gates in GATES},
            )
        )
    return powers


def measure_paper(cases: StudyCases) -> list[Paper]:
    """Paper mode on the lesion-free test cases of every scanner."""
    return [
        Paper(
            scanner=name,
            gates=gates,
            false_positive=share_of([t.survivors > 0 for t in paper_tested(own, gates)]),
            any_candidate=share_of([any(case.passed[gates]) for case in own]),
        )
        for name, own in cases.test.items()
        for gates in GATES
    ]


def rank(levels: Sequence[Level], powers: Sequence[Power]) -> list[Ranked]:
    """Scores by mean power over the lesion cells of FWHM 2 to 4; best first."""
    rows = []
    for gates in GATES:
        for score in OF_MASKS:
            own = [level for level in levels if (level.gates, level.score) == (gates, score)]
            means = {
                edge: [
                    p.power[gates][score].value
                    for p in powers
                    if p.scanner in RANKED_SCANNERS and p.lesion.edge == edge and p.lesion.volume_ml in SIZES
                ]
                for edge in ("sharp", "blurred")
            }
            both = [*means["sharp"], *means["blurred"]]
            rows.append(
                Ranked(
                    score=score,
                    gates=gates,
                    mean_power=float(np.mean(both)),
                    sharp=float(np.mean(means["sharp"])),
                    blurred=float(np.mean(means["blurred"])),
                    held=sum(item.held(ALPHA) for item in own),
                    cells=len(own),
                )
            )
    return sorted(rows, key=lambda row: -row.mean_power)


def _runs(cases: Sequence[ScoredCase], calibrations: Sequence[Calibration]) -> Runs:
    return [conformal_tested(cases, calibration) for calibration in calibrations]


def _level(runs: Runs) -> float:
    return float(np.mean([[t.false > 0 for t in run] for run in runs]))


def _hits(runs: Runs) -> NDArray[np.float64]:
    """Per case, the share of the calibrations by which its lesion is found."""
    hits: NDArray[np.float64] = np.mean([[t.hit for t in run] for run in runs], axis=0)
    return hits


def _mixed(level: Level, lesion: LesionKind, runs: Runs) -> list[Mixed]:
    """In a lesion-free case every finding is false, so its false share is 1 or 0: its mean is the level."""
    false = np.mean([[t.false_share for t in run] for run in runs], axis=0)
    with_lesion = mean_of(false)
    return [
        Mixed(
            scanner=level.scanner,
            lesion=lesion,
            gates=level.gates,
            score=level.score,
            prevalence=share,
            fdr=(1.0 - share) * level.level + share * with_lesion.value,
            se=math.hypot((1.0 - share) * level.se, share * with_lesion.se),
        )
        for share in PREVALENCES_MIXED
    ]
