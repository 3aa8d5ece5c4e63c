"""Calibrations made for the small case without searching lesion-free scans, and conversations that they judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from helpers.small_case import open_small_chat
from r2seg_agent.graphs.planner import Planner
from r2seg_agent.reject.calibration import Calibration, CaseScores, build_calibration
from r2seg_agent.reject.calibration_file import save_calibration
from r2seg_agent.reject.scores import score_named
from r2seg_agent.reject.settings import RejectSettings
from r2seg_agent.runs.session import Session
from r2seg_agent.tools.lookup import all_findings

REQUEST = "find the liver lesion"


def said(session: Session, text: str) -> str:
    """The answer to `text`."""
    for _ in session.say(text):
        pass
    return session.search.answer


def small_calibration(folder: Path, n: int, *, beaten: int | None = None, finished: Sequence[int] = ()) -> Calibration:
    """`n` cases for the set-up of the small case. The ball's score is above that of `beaten` cases (None: of all) in
    every round. The first cases `finished` so many rounds, the others all.
    """
    with open_small_chat(folder) as session:
        said(session, REQUEST)
        conformal = RejectSettings(mode="conformal")
        context = replace(session.context, reject=conformal)
        identity = context.calibration_identity(session.search.targets[0].original_plan)
        ball = max(
            score_named(conformal.score)(f.candidate.features, 0.0) for f in all_findings(context, session.search)
        )
    below = n if beaten is None else beaten
    scores = [0.5 * ball * (i + 1) / n if i < below else 2.0 * ball + i for i in range(n)]
    cases = []
    for i, score in enumerate(scores):
        done = finished[i] if i < len(finished) else None
        rounds = tuple(range(1, 4 if done is None else done + 1))
        cases.append(
            CaseScores(case=f"c{i}", patient=f"p{i}", scores=(score,) * len(rounds), rounds=rounds, finished=done)
        )
    return build_calibration(identity, cases)


def calibrated_chat(folder: Path, calibration: Calibration, planner: Planner | None = None, **more: Any) -> Session:
    """A conversation over the small case, judged by `calibration`."""
    folder.mkdir(exist_ok=True)
    save_calibration(calibration, folder / "calibration.json")
    return open_small_chat(folder, planner, reject="conformal", calibration=folder / "calibration.json", **more)
