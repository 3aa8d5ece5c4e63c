"""What a worker leaves of a calibration's case: its scores when it is done, what is known of it when it failed.

A case that ended early still counts: in the rounds that it finished with its scores, in the others as the largest of
all. What it finished is read from its trace, which survives a worker that was killed.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError

from r2seg_agent.batch.row import CaseRow, Job
from r2seg_agent.batch.run_case import run_case
from r2seg_agent.errors import BudgetError, InputError, R2SegError
from r2seg_agent.files import write_text_atomic
from r2seg_agent.frozen import Frozen
from r2seg_agent.method.models import SearchRound
from r2seg_agent.outcomes import OutcomeKind
from r2seg_agent.reject.calibration import CalibrationIdentity
from r2seg_agent.reject.profile import ScanProfile
from r2seg_agent.store.artifacts import ArtifactStore
from r2seg_agent.store.refs import ArtifactRef
from r2seg_agent.store.runs import RunFolder
from r2seg_agent.trace.recorder import read_trace

if TYPE_CHECKING:
    from r2seg_agent.report.models import Report
    from r2seg_agent.runs.api import FindResult
    from r2seg_agent.runs.session import Session

SCORES_FILE: Final = "scores.json"
BEGUN: Final = "begun"
"""Folder of the workspace with one `Begun` a job."""


class ScoredCase(Frozen):
    """A case's scan by hash, its scores, and the set-up that they are of.

    `unfit` says why the case cannot count, "" where it does. `finished` counts its finished rounds; None: all.
    """

    outcome: OutcomeKind | None = None
    unfit: str = ""
    image_sha256: str = ""
    identity: CalibrationIdentity | None = None
    scores: tuple[float, ...] = ()
    rounds: tuple[int, ...] = ()
    profile: ScanProfile | None = None
    finished: int | None = None


class Begun(Frozen):
    """What is known of a case from its beginning on.

    `refused`: r2seg itself said why this scan cannot be searched, as `find` would; a case that ran out of time or
    memory, or whose worker died, is not refused.
    """

    run_id: str = ""
    image_sha256: str = ""
    lesion_bearing: bool = False
    refused: bool = False


def score_job(job: Job) -> CaseRow:
    """Run one case in mode `score` and leave what a calibration needs of it in its run folder."""
    path = _begun_path(job.options.workspace, job.key)
    path.unlink(missing_ok=True)

    def begun(session: Session) -> None:
        prepared = session.prepared
        known = Begun(
            run_id=session.id,
            image_sha256=prepared.image.sha256,
            lesion_bearing=prepared.truth is not None and bool(prepared.truth.any()),
        )
        _write(path, known)

    def broke_off(error: R2SegError) -> None:
        if not isinstance(error, BudgetError):
            known = Begun.model_validate_json(path.read_bytes()) if path.exists() else Begun()
            _write(path, known.model_copy(update={"refused": True}))

    return run_case(job, _keep_scores, begun=begun, broke_off=broke_off)


def read_scored(workspace: Path, row: CaseRow) -> ScoredCase:
    """What the case's worker left, whatever became of it. Raises `InputError` where a finished case's file is gone."""
    if row.status != "done":
        return _unfinished(workspace, row)
    path = workspace / "runs" / row.run_id / SCORES_FILE
    try:
        return ScoredCase.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise InputError(
            f"the scores of case {row.number} are missing or damaged in the workspace (run `{row.run_id}`)",
            "Choose a new --workspace, or remove the case's line from journal.jsonl there; then it is scored again.",
        ) from error


def unread_case(row: CaseRow) -> str:
    """The identifier of a case whose scan was never read."""
    return f"job {row.key}"


def _unfinished(workspace: Path, row: CaseRow) -> ScoredCase:
    """A case that failed. It is unfit where r2seg refused it before any round was done: a scan that is refused so has
    no p-value either.
    """
    try:
        known = Begun.model_validate_json(_begun_path(workspace, row.key).read_bytes())
    except (OSError, ValidationError):
        known = Begun()
    rounds = _finished_rounds(workspace, known.run_id)
    scores = _scores(rounds)
    unfit = "its truth holds a lesion" if known.lesion_bearing else row.error if known.refused and not rounds else ""
    return ScoredCase(
        unfit=unfit,
        image_sha256=known.image_sha256,
        scores=tuple(score for score, _ in scores),
        rounds=tuple(number for _, number in scores),
        profile=rounds[0].profile if rounds else None,
        finished=len(rounds),
    )


def _finished_rounds(workspace: Path, run_id: str) -> tuple[SearchRound, ...]:
    """The rounds that the run's trace refers to, as far as they can be read, in order."""
    rounds: list[SearchRound] = []
    if not run_id:
        return ()
    store = ArtifactStore(workspace / "artifacts")
    try:
        for event in read_trace(RunFolder(workspace, run_id).trace):
            if event.kind == "artifact" and event.data.get("role") == "round":
                ref = ArtifactRef(sha256=str(event.data["sha256"]), kind="json")
                rounds.append(SearchRound.model_validate_json(store.json(ref)))
    except (R2SegError, ValidationError):
        pass  # What cannot be read counts as not finished.
    return tuple(rounds)


def _keep_scores(session: Session, result: FindResult) -> None:
    report = result.report
    write_text_atomic(session.folder.path / SCORES_FILE, _scored(session, report).model_dump_json(indent=1) + "\n")


def _scored(session: Session, report: Report) -> ScoredCase:
    prepared = session.prepared
    known = ScoredCase(outcome=report.outcome, image_sha256=prepared.image.sha256)
    if unfit := _unfit(report):
        return known.model_copy(update={"unfit": unfit})
    if not report.targets:
        return known.model_copy(update={"finished": 0})
    (target,) = report.targets
    scores = _scores(target.rounds)
    return known.model_copy(
        update={
            "identity": session.context.calibration_identity(target.plan),
            "scores": tuple(score for score, _ in scores),
            "rounds": tuple(number for _, number in scores),
            "profile": target.profile,
            "finished": None if report.outcome == "no_lesion_survived" else len(target.rounds),
        }
    )


def _unfit(report: Report) -> str:
    """Why a case that came to its end cannot count; "" when it does."""
    if report.truth is not None and report.truth.sensitivity is not None:
        return "its truth holds a lesion"
    if report.outcome == "needs_user":
        return f"`{report.request}` names no target: {report.question}"
    if report.outcome == "target_not_in_view":
        return report.answer
    if len(report.targets) > 1:
        return f"`{report.request}` names {len(report.targets)} targets; a calibration is for one"
    return ""


def _scores(rounds: Iterable[SearchRound]) -> tuple[tuple[float, int], ...]:
    """(score, round) of all candidates of the rounds that passed their gates, as a run would rank them."""
    return tuple(
        (candidate.score, round_.index)
        for round_ in rounds
        for candidate in round_.candidates
        if candidate.score is not None and candidate.passed_gates
    )


def _begun_path(workspace: Path, key: str) -> Path:
    return workspace / BEGUN / f"{key}.json"


def _write(path: Path, begun: Begun) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomic(path, begun.model_dump_json() + "\n")
