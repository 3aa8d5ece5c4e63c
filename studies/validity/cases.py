"""All searched cases of a study, each scored once per score and gates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from r2seg_agent.reject.calibration import Calibration
from r2seg_agent.reject.scores import ScoreName
from studies.validity.cells import BASE, MAIN, MATCHED, N_CALIBRATION, SHIFTED, Counts, lesion_cells
from studies.validity.levels import ScoredCase, calibration_of, scored
from studies.validity.search import GateChoice, SearchedCase
from studies.validity.store import SyntheticCell, searched
from studies.validity.volumes import LesionKind

MOST_CALIBRATIONS = 5
"""Disjoint calibrations over which a level or power is averaged."""

Say = Callable[[str], None]


@dataclass
class StudyCases:
    """Lesion-free cases for calibration and for the test, by scanner's name; cases with a lesion, by its kind too."""

    counts: Counts
    calibration: dict[str, list[SearchedCase]] = field(default_factory=dict)
    test: dict[str, list[SearchedCase]] = field(default_factory=dict)
    lesions: dict[tuple[str, LesionKind], list[SearchedCase]] = field(default_factory=dict)
    _scored: dict[tuple[int, ScoreName, GateChoice], list[ScoredCase]] = field(default_factory=dict)
    _calibrations: dict[tuple[str, ScoreName, GateChoice, int], list[Calibration]] = field(default_factory=dict)

    def scored(self, cases: list[SearchedCase], score: ScoreName, gates: GateChoice) -> list[ScoredCase]:
        """`levels.scored`; `cases` is one of this object's own lists."""
        key = (id(cases), score, gates)
        if key not in self._scored:
            self._scored[key] = scored(cases, score, gates)
        return self._scored[key]

    def calibrations(self, scanner: str, score: ScoreName, gates: GateChoice, n: int) -> list[Calibration]:
        """Calibrations from disjoint groups of n lesion-free cases, at most `MOST_CALIBRATIONS`."""
        key = (scanner, score, gates, n)
        if key not in self._calibrations:
            pool = self.scored(self.calibration[scanner], score, gates)
            starts = range(0, min(len(pool), MOST_CALIBRATIONS * n) - n + 1, n)
            self._calibrations[key] = [calibration_of(pool[start : start + n], score) for start in starts]
        return self._calibrations[key]


def search_all(folder: Path, counts: Counts, *, jobs: int = 1, say: Say) -> StudyCases:
    """Search every cell of the study; cases that `folder` holds are read."""
    wanted: list[tuple[SyntheticCell, int]] = []
    for scanner in (*MATCHED, *SHIFTED):
        main = scanner.name in MAIN
        pool = counts.base if scanner.name == BASE else counts.pool if main else N_CALIBRATION
        wanted.append((SyntheticCell(scanner=scanner, role="calibration"), pool))
        wanted.append((SyntheticCell(scanner=scanner), counts.test if main else counts.other_test))
    for scanner, lesion in lesion_cells():
        n = counts.lesion if lesion.volume_ml == 1.0 else counts.other_lesion
        wanted.append((SyntheticCell(scanner=scanner, lesion=lesion), n))
    cases = StudyCases(counts)
    for (cell, _), found in zip(wanted, searched(wanted, folder, jobs=jobs, say=say), strict=True):
        if cell.lesion is not None:
            cases.lesions[cell.scanner.name, cell.lesion] = found
        elif cell.role == "calibration":
            cases.calibration[cell.scanner.name] = found
        else:
            cases.test[cell.scanner.name] = found
    return cases
