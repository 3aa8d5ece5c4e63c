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
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError

from r2seg_agent.batch.engine import Engine
from r2seg_agent.batch.local import run_local
from r2seg_agent.batch.row import CaseRow, Job, make_jobs
from r2seg_agent.batch.run import OnRow, run_batch
from r2seg_agent.batch.run_case import run_case
from r2seg_agent.datasets.case import Case
from r2seg_agent.errors import InputError
from r2seg_agent.files import write_text_atomic
from r2seg_agent.frozen import Frozen
from r2seg_agent.outcomes import DISCLAIMER, OutcomeKind
from r2seg_agent.reject.calibration import (
    Calibration,
    CalibrationIdentity,
    CaseScores,
    build_calibration,
    holds_case,
    mismatch,
    smallest_p,
)
from r2seg_agent.reject.profile import ScanProfile
from r2seg_agent.report.models import Report
from r2seg_agent.report.table_rows import dataframe
from r2seg_agent.runs.api import FindResult
from r2seg_agent.runs.options import RunOptions

if TYPE_CHECKING:
    from pandas import DataFrame

    from r2seg_agent.runs.session import Session

SCORES_FILE: Final = "scores.json"


@dataclass(frozen=True)
class LeftOut:
    """A case that does not count, and why."""

    case: Case
    why: str


@dataclass(frozen=True, repr=False)
class Calibrated:
    """The calibration, what was left out, and how many candidates its cases had."""

    calibration: Calibration
    left_out: tuple[LeftOut, ...]
    candidates: tuple[int, ...]

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
        n, scans = self.calibration.n_cases, len(self.calibration.cases)
        return (
            f"Calibrated({n} lesion-free patients, {scans} scans, {len(self.left_out)} left out; smallest p "
            f"{smallest_p(n):.3g}. {DISCLAIMER})"
        )

    def _repr_html_(self) -> str:
        return f"<p>{escape(repr(self))}</p>"


class ScoredCase(Frozen):
    """What a worker leaves in a case's run folder: its scan by hash, its scores, and the set-up that they are of."""

    outcome: OutcomeKind
    answer: str
    image_sha256: str
    lesion_bearing: bool
    identity: CalibrationIdentity | None = None
    scores: tuple[float, ...] = ()
    rounds: tuple[int, ...] = ()
    profile: ScanProfile | None = None


def run_calibration(
    target: str,
    cases: Sequence[Case],
    options: RunOptions,
    *,
    earlier: Calibration | None = None,
    engine: Engine = run_local,
    workers: int = 1,
    gpus_per_worker: float = 0.0,
    timeout_s: float | None = None,
    on_row: OnRow | None = None,
    stop: threading.Event | None = None,
) -> Calibrated:
    """Score lesion-free `cases` for `target` (words, as `find` takes them) by the set-up of `options`, as a batch in
    `options.workspace`.

    A case that fails, in which the target's organ is not in view, or whose own truth holds a lesion, is left out and
    named. `earlier` is a calibration of the same set-up to add to; cases that it holds are left out. Raises
    `InputError` when no case is left, when the words name several targets, or when two cases make different set-ups
    (another modality, say); `BudgetError` when it was stopped, resumable.
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
    identity = None if earlier is None else earlier.identity
    for row in result.rows:
        case = cases[row.number - 1]
        found = _read(options.workspace, row)
        why = row.error if found is None else _unfit(found)
        if found is None or found.identity is None or why:
            left_out.append(LeftOut(case, why or "it has no set-up"))
            continue
        if identity is not None and found.identity != identity:
            raise InputError(
                f"case {row.number} (`{case.image}`) makes another set-up than the cases before it: "
                f"{_differs(identity, found.identity)}",
                "Calibrate cases of one modality and one kind of anchors together.",
            )
        identity = found.identity
        if earlier is not None and holds_case(earlier, found.image_sha256):
            left_out.append(LeftOut(case, "the earlier calibration holds this scan already"))
        elif found.image_sha256 in scored:
            left_out.append(LeftOut(case, "the same scan was given before"))
        else:
            scored[found.image_sha256] = CaseScores(
                case=found.image_sha256,
                patient=case.patient,
                scores=found.scores,
                rounds=found.rounds,
                profile=found.profile,
            )
    if identity is None or not (scored or earlier):
        reasons = "; ".join(f"`{left.case.image}`: {left.why}" for left in left_out[:3])
        raise InputError(f"no case could be scored: {reasons}", "Try one of them with `r2seg find`.")
    calibration = build_calibration(identity, tuple(scored.values()), seed=options.seed, earlier=earlier)
    return Calibrated(calibration, tuple(left_out), tuple(len(case.scores) for case in scored.values()))


def score_job(job: Job) -> CaseRow:
    """Run one case in mode `score` and leave what a calibration needs of it in its run folder."""
    return run_case(job, _keep_scores)


def _keep_scores(session: Session, result: FindResult) -> None:
    report = result.report
    if report.outcome == "needs_user":
        raise InputError(f"`{report.request}` names no target: {report.question}")
    if len(report.targets) != 1:
        raise InputError(f"`{report.request}` names {len(report.targets)} targets; a calibration is for one")
    searched = report.outcome == "no_lesion_survived"
    scores = _scores(report) if searched else ()
    found = ScoredCase(
        outcome=report.outcome,
        answer=report.answer,
        image_sha256="" if report.image is None else report.image.sha256,
        lesion_bearing=report.truth is not None and report.truth.sensitivity is not None,
        identity=session.context.calibration_identity(report.targets[0].plan) if searched else None,
        scores=tuple(score for score, _ in scores),
        rounds=tuple(number for _, number in scores),
        profile=report.targets[0].profile,
    )
    write_text_atomic(session.folder.path / SCORES_FILE, found.model_dump_json(indent=1) + "\n")


def _read(workspace: Path, row: CaseRow) -> ScoredCase | None:
    """What the case's worker left; None for a case that failed."""
    if row.status != "done":
        return None
    path = workspace / "runs" / row.run_id / SCORES_FILE
    try:
        return ScoredCase.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise InputError(
            f"the scores of case {row.number} are missing or damaged in the workspace (run `{row.run_id}`)",
            "Choose a new --workspace, or remove the case's line from journal.jsonl there; then it is scored again.",
        ) from error


def _unfit(found: ScoredCase) -> str:
    """Why a searched case does not count; "" when it does."""
    if found.lesion_bearing:
        return "its truth holds a lesion"
    return "" if found.outcome == "no_lesion_survived" else found.answer


def _scores(report: Report) -> tuple[tuple[float, int], ...]:
    """(score, round) of all candidates of all rounds that passed their gates, as a run would rank them."""
    return tuple(
        (candidate.score, round_.index)
        for round_ in report.targets[0].rounds
        for candidate in round_.candidates
        if candidate.score is not None and all(gate.passed for gate in candidate.gates)
    )


def _differs(first: CalibrationIdentity, second: CalibrationIdentity) -> str:
    probe = build_calibration(first, [CaseScores(case="probe", patient="probe", scores=())])
    return "; ".join(mismatch(probe, second))
