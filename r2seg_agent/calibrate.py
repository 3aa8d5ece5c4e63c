"""`r2seg calibrate`: what the whole search scores on lesion-free scans, as a calibration for `--reject conformal`.

Every case goes through the same graph as `find`, in the mode `score`: nothing survives, so every round of the ladder is
searched, and the case's scores are those of all its candidates that pass the gates. Finished cases are taken from the
workspace, so a run that was stopped goes on where it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from r2seg_agent.datasets.case import Case
from r2seg_agent.errors import InputError, R2SegError
from r2seg_agent.pipeline import FindResult, run_find
from r2seg_agent.preparation import RunOptions
from r2seg_agent.progress import Progress, silent
from r2seg_agent.reject.calibration import (
    Calibration,
    CalibrationIdentity,
    CaseScores,
    build_calibration,
    holds_case,
    mismatch,
)
from r2seg_agent.report.models import Report

if TYPE_CHECKING:
    from r2seg_agent.graphs.session import Session


@dataclass(frozen=True)
class LeftOut:
    """A case that does not count, and why."""

    case: Case
    why: str


@dataclass(frozen=True)
class Calibrated:
    """The calibration, what was left out, and how many candidates its cases had."""

    calibration: Calibration
    left_out: tuple[LeftOut, ...]
    candidates: tuple[int, ...]


def run_calibration(
    target: str,
    cases: Sequence[Case],
    options: RunOptions,
    progress: Progress = silent,
    *,
    earlier: Calibration | None = None,
) -> Calibrated:
    """Score lesion-free `cases` for `target` (words, as `find` takes them) by the set-up of `options`.

    A case that fails, or in which the target's organ is not in view, is left out and named. `earlier` is a calibration
    of the same set-up to add to; cases that it holds are left out. Raises `InputError` when no case is left, when the
    words name several targets, or when two cases make different set-ups (another modality, say).
    """
    scored: list[CaseScores] = []
    left_out: list[LeftOut] = []
    identity = None if earlier is None else earlier.identity
    for number, case in enumerate(cases):
        progress("calibrate", number, len(cases), f"case {number + 1} of {len(cases)}")
        try:
            report, own = _score(target, case, options)
        except R2SegError as error:
            left_out.append(LeftOut(case, error.message))
            continue
        if report.outcome != "no_lesion_survived" or own is None:
            left_out.append(LeftOut(case, report.answer))
            continue
        if identity is not None and own != identity:
            raise InputError(
                f"case {number + 1} (`{case.image}`) makes another set-up than the cases before it: "
                f"{_differs(identity, own)}",
                "Calibrate cases of one modality and one kind of anchors together.",
            )
        identity = own
        sha256 = "" if report.image is None else report.image.sha256
        if earlier is not None and holds_case(earlier, sha256):
            left_out.append(LeftOut(case, "the earlier calibration holds this scan already"))
            continue
        if any(one.case == sha256 for one in scored):
            left_out.append(LeftOut(case, "the same scan was given before"))
            continue
        profile = report.targets[0].profile
        scored.append(CaseScores(case=sha256, patient=case.patient, scores=_scores(report), profile=profile))
    progress("calibrate", len(cases), len(cases), "")
    if identity is None or not (scored or earlier):
        reasons = "; ".join(f"`{one.case.image}`: {one.why}" for one in left_out[:3])
        raise InputError(f"no case could be scored: {reasons}", "Try one of them with `r2seg find`.")
    calibration = build_calibration(identity, scored, seed=options.seed, earlier=earlier)
    return Calibrated(calibration, tuple(left_out), tuple(len(one.scores) for one in scored))


def _score(target: str, case: Case, options: RunOptions) -> tuple[Report, CalibrationIdentity | None]:
    """The report of one case in mode `score`, and the set-up that its search had."""
    chosen = options.model_copy(
        update={
            "reject": "score",
            "calibration": None,
            "out": None,
            "anchors": case.anchors or options.anchors,
            "modality": case.modality or options.modality,
            "series": case.series or options.series,
        }
    )
    sessions: list[Session] = []
    result: FindResult = run_find(target, case.image, chosen, opened=sessions.append)
    report = result.report
    if report.outcome == "needs_user":
        raise InputError(f"`{target}` names no target: {report.question}", f"Choices: {', '.join(report.choices)}.")
    if len(report.targets) != 1:
        raise InputError(f"`{target}` names {len(report.targets)} targets", "A calibration is for one target.")
    return report, sessions[0].context.calibration_identity(report.targets[0].plan)


def _scores(report: Report) -> tuple[float, ...]:
    """Scores of all candidates of all rounds that passed their gates, as a run would rank them."""
    return tuple(
        candidate.score
        for one in report.targets[0].rounds
        for candidate in one.candidates
        if candidate.score is not None and all(gate.passed for gate in candidate.gates)
    )


def _differs(first: CalibrationIdentity, second: CalibrationIdentity) -> str:
    probe = build_calibration(first, [CaseScores(case="probe", patient="probe", scores=())])
    return "; ".join(mismatch(probe, second))
