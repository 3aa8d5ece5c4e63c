"""What the study found: one small JSON file from which the tables and plots of docs/evidence/validity.md are made."""

from __future__ import annotations

from r2seg_agent.frozen import Frozen
from studies.validity.intervals import Mean, Share
from studies.validity.search import GateChoice
from studies.validity.volumes import LesionKind

SLACK_SE = 2.0
"""A level counts as held up to this many standard errors above α."""


class Level(Frozen):
    """Share of lesion-free cases with any finding, one matched cell. `se` is that of a level of exactly α.

    Mean over `calibrations` disjoint calibrations of `n_calibration` cases, each on the same `n_test` test cases.
    """

    scanner: str
    gates: GateChoice
    score: str
    n_calibration: int
    calibrations: int
    n_test: int
    level: float
    se: float

    def held(self, alpha: float) -> bool:
        """At or below α + 2 standard errors."""
        return self.level <= alpha + SLACK_SE * self.se


class Mixed(Frozen):
    """False discovery rate where a share `prevalence` of the cases has a lesion: mean false share of their findings."""

    scanner: str
    lesion: LesionKind
    gates: GateChoice
    score: str
    prevalence: float
    fdr: float
    se: float

    def held(self, alpha: float) -> bool:
        """At or below α + 2 standard errors."""
        return self.fdr <= alpha + SLACK_SE * self.se


class Power(Frozen):
    """One lesion cell: how many lesions were proposed, passed the gates, and (per gates and score) survived."""

    scanner: str
    lesion: LesionKind
    n: int
    proposed: Share
    passed: dict[GateChoice, Share]
    power: dict[GateChoice, dict[str, Mean]]
    paper: dict[GateChoice, Share]


class CurvePoint(Frozen):
    """One calibration size: over many calibrations, level and power (mean, standard deviation, 5 and 95 percentiles).

    `theory_*`: the Beta distribution of the level given one calibration.
    """

    n: int
    score: str
    gates: GateChoice
    level_mean: float
    level_sd: float
    level_5: float
    level_95: float
    theory_mean: float
    theory_sd: float
    theory_5: float
    theory_95: float
    power: dict[str, tuple[float, float, float]]
    """Lesion's name → mean, 5 and 95 percentiles."""


class Shift(Frozen):
    """Calibration by one scanner, test cases by another: level, and how often the profile warns."""

    calibration: str
    test: str
    gates: GateChoice
    score: str
    level: float
    se: float
    warned: Share


class Flagged(Frozen):
    """Benjamini-Hochberg over the case-level p-values of data sets: flagged scans. Errors are over calibrations."""

    n_calibration: int
    prevalence: float
    lesion: LesionKind
    gates: GateChoice
    score: str
    fdr: Mean
    power: Mean


class Paper(Frozen):
    """Lesion-free cases in which paper mode finds something."""

    scanner: str
    gates: GateChoice
    false_positive: Share
    any_candidate: Share


class Blobs(Frozen):
    """Regions of lesion-free noise called different at p ≤ α, by test and by how the region was chosen."""

    scanner: str
    blind_permutation: Share
    blind_placement: Share
    proposed_permutation: Share
    proposed_placement: Share


class Exchangeable(Frozen):
    """The permutation test where its assumption holds, and its two paths against each other."""

    rejected: Share
    largest_difference: float
    pairs: int


class Ranked(Frozen):
    """One score: mean power over the lesion cells, and in how many matched cells the level held."""

    score: str
    gates: GateChoice
    mean_power: float
    sharp: float
    blurred: float
    held: int
    cells: int


class StudyResults(Frozen):
    """The whole study. `machine` begins with the date."""

    machine: str
    command: str
    alpha: float
    default_score: str
    study_gates: GateChoice
    n_lesion_free: int
    n_lesion: int
    exchangeable: Exchangeable
    blobs: tuple[Blobs, ...]
    paper: tuple[Paper, ...]
    levels: tuple[Level, ...]
    mixed: tuple[Mixed, ...]
    powers: tuple[Power, ...]
    curve: tuple[CurvePoint, ...]
    shifts: tuple[Shift, ...]
    flagged: tuple[Flagged, ...]
    ranking: tuple[Ranked, ...]
