"""`r2seg calibrate`: what the whole search scores on lesion-free scans, as a calibration for `--reject conformal`.

Every case goes through the same graph as `find`, in the mode `score`: nothing survives, so every round of the ladder is
searched, and the case's scores are those of all its candidates that pass the gates. The cases run as a batch: isolated,
on as many workers as wanted, and finished ones are never repeated. What comes out depends on neither order nor workers.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from r2seg_agent.batch.engine import Engine
from r2seg_agent.batch.local import run_local
from r2seg_agent.batch.row import make_jobs
from r2seg_agent.batch.run import OnRow, run_batch
from r2seg_agent.batch.scored_case import read_scored, score_job, unread_case
from r2seg_agent.datasets.case import Case
from r2seg_agent.errors import InputError
from r2seg_agent.outcomes import DISCLAIMER
from r2seg_agent.reject.calibration import (
    Calibration,
    CalibrationIdentity,
    CaseScores,
    build_calibration,
    holds_case,
    mismatch,
)
from r2seg_agent.report.table_rows import dataframe
from r2seg_agent.runs.options import RunOptions

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True)
class LeftOut:
    """A case that does not count, and why."""

    case: Case
    why: str


@dataclass(frozen=True)
class Unfinished:
    """A case that counts as the largest score of all in every round but the first `rounds`, and why."""

    case: Case
    rounds: int
    why: str


@dataclass(frozen=True, repr=False)
class Calibrated:
    """The calibration, what was left out, what failed and counts all the same, and how many candidates its cases
    had.
    """

    calibration: Calibration
    left_out: tuple[LeftOut, ...]
    candidates: tuple[int, ...]
    unfinished: tuple[Unfinished, ...] = ()

    def to_dataframe(self) -> DataFrame:
        """One row per scan of the calibration: its hash, patient and scores; `MissingDependencyError` without pandas.

        `highest_score` is None for a scan in which nothing passed the gates.
        """
        rows = (
            {
                "case": case.case,
                "patient": case.patient,
                "candidates": len(case.scores),
                "highest_score": max(case.scores, default=None),
            }
            for case in self.calibration.cases
        )
        return dataframe(("case", "patient", "candidates", "highest_score"), rows)

    def __repr__(self) -> str:
        failed = f"{len(self.unfinished)} unfinished; " if self.unfinished else ""
        n, scans = self.calibration.n_cases, len(self.calibration.cases)
        return (
            f"Calibrated({n} lesion-free patients, {scans} scans, {len(self.left_out)} left out; "
            f"{failed}smallest p {self.calibration.smallest_p:.3g}. {DISCLAIMER})"
        )

    def _repr_html_(self) -> str:
        return f"<p>{escape(repr(self))}</p>"


def run_calibration(
    target: str,
    cases: Sequence[Case],
    options: RunOptions,
    *,
    earlier: Calibration | None = None,
    synthetic: bool = False,
    engine: Engine = run_local,
    workers: int = 1,
    gpus_per_worker: float = 0.0,
    timeout_s: float | None = None,
    on_row: OnRow | None = None,
    stop: threading.Event | None = None,
) -> Calibrated:
    """Score lesion-free `cases` for `target` (words, as `find` takes them) by the set-up of `options`, as a batch in
    `options.workspace`.

    A case that `find` would refuse too, in which the target's organ is not in view, or whose own truth holds a lesion,
    is left out and named. One that ran out of time or memory counts all the same: in the rounds that it did not finish
    as the largest score of all. `earlier` is a calibration of the same set-up to add to; cases that it holds are left
    out, unless they had not finished there. `synthetic`: the cases are phantoms.

    Raises `InputError` when no case is left, or when two cases make different
    set-ups (another modality, say); `BudgetError` when it was stopped, resumable.
    """
    scoring = options.model_copy(update={"reject": "score", "calibration": None, "out": None})
    jobs = make_jobs(tuple(case.model_copy(update={"request": None}) for case in cases), target, scoring)
    result = run_batch(
        jobs,
        options.workspace,
        engine=engine,
        workers=workers,
        gpus_per_worker=gpus_per_worker,
        timeout_s=timeout_s,
        on_row=on_row,
        stop=stop,
        work=score_job,
    )
    scored: dict[str, CaseScores] = {}
    left_out: list[LeftOut] = []
    unfinished: list[Unfinished] = []
    identity = None if earlier is None else earlier.identity
    for row in result.rows:
        case = cases[row.number - 1]
        found = read_scored(options.workspace, row)
        name = found.image_sha256 or unread_case(row)
        if found.unfit:
            left_out.append(LeftOut(case, found.unfit))
            continue
        if found.identity is not None:
            if identity is not None and found.identity != identity:
                raise InputError(
                    f"case {row.number} (`{case.image}`) makes another set-up than the cases before it: "
                    f"{_differs(identity, found.identity)}",
                    "Calibrate cases of one modality and one kind of anchors together.",
                )
            identity = found.identity
        if earlier is not None and holds_case(earlier, name, finished=found.finished is None):
            left_out.append(LeftOut(case, "the earlier calibration holds this scan already"))
        elif name in scored:
            left_out.append(LeftOut(case, "the same scan was given before"))
        else:
            if found.finished is not None:
                unfinished.append(Unfinished(case, found.finished, row.error or str(found.outcome).replace("_", " ")))
            scored[name] = CaseScores(
                case=name,
                patient=case.patient,
                scores=found.scores,
                rounds=found.rounds,
                profile=found.profile,
                finished=found.finished,
            )
    if identity is None or not (scored or earlier):
        bad = [(one.case.image, one.why) for one in left_out] + [(one.case.image, one.why) for one in unfinished]
        reasons = "; ".join(f"`{image}`: {why}" for image, why in bad[:3])
        raise InputError(f"no case could be scored: {reasons}", "Try one of them with `r2seg find`.")
    calibration = build_calibration(
        identity, tuple(scored.values()), seed=options.seed, earlier=earlier, synthetic=synthetic
    )
    candidates = tuple(len(case.scores) for case in scored.values() if case.finished is None)
    return Calibrated(calibration, tuple(left_out), candidates, tuple(unfinished))


def _differs(first: CalibrationIdentity, second: CalibrationIdentity) -> str:
    probe = build_calibration(first, [CaseScores(case="probe", patient="probe", scores=())])
    return "; ".join(mismatch(probe, second))
