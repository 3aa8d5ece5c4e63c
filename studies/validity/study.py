"""The whole study: search all cells, measure everything, give `StudyResults`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from r2seg_agent.reject.settings import RejectSettings
from studies.measure import machine_line
from studies.validity.calibrations import measure_curve, measure_flagged, measure_shift
from studies.validity.cases import StudyCases, search_all
from studies.validity.cells import Counts
from studies.validity.measures import measure_levels, measure_paper, measure_power, rank
from studies.validity.permutation import exchangeable, measure_blobs
from studies.validity.results import Blobs, StudyResults
from studies.validity.search import ALPHA, GateChoice

STUDY_GATES: GateChoice = "conformal"
"""Gates of the calibration curve and the data sets: what a run applies in conformal mode."""


def run_study(folder: Path, counts: Counts, *, jobs: int, command: str, say: Callable[[str], None]) -> StudyResults:
    """Search what is not in `folder` yet, then measure; `say` hears of progress."""
    cases = search_all(folder, counts, jobs=jobs, say=say)
    say("regions of noise")
    blobs = measure_blobs(counts.blobs, jobs=jobs)
    say("levels and power")
    return measure(cases, blobs, command=command)


def measure(cases: StudyCases, blobs: Sequence[Blobs], *, command: str) -> StudyResults:
    """Everything that is read from searched cases."""
    score = RejectSettings().score
    levels, mixed = measure_levels(cases)
    powers = measure_power(cases)
    return StudyResults(
        machine=machine_line(),
        command=command,
        alpha=ALPHA,
        default_score=score,
        study_gates=STUDY_GATES,
        n_lesion_free=sum(len(own) for group in (cases.calibration, cases.test) for own in group.values()),
        n_lesion=sum(len(own) for own in cases.lesions.values()),
        exchangeable=exchangeable(),
        blobs=tuple(blobs),
        paper=tuple(measure_paper(cases)),
        levels=tuple(levels),
        mixed=tuple(row for row in mixed if (row.score, row.gates) == (score, STUDY_GATES)),
        powers=tuple(powers),
        curve=tuple(measure_curve(cases, score, STUDY_GATES)),
        shifts=tuple(measure_shift(cases, score)),
        flagged=tuple(measure_flagged(cases, score, STUDY_GATES)),
        ranking=tuple(rank(levels, powers)),
    )
