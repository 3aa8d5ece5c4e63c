"""`r2seg_agent.evaluate`: runs against their truth, from Python."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from r2seg_agent.environment import environment_kept
from r2seg_agent.errors import InputError
from r2seg_agent.evals.evaluate import evaluate_runs
from r2seg_agent.evals.models import Evaluation, EvaluationSettings, Rank
from r2seg_agent.evals.write import write_evaluation
from r2seg_agent.progress import Progress, silent


@environment_kept()
def evaluate(
    runs: str | Path,
    truth: str | Path | None = None,
    *,
    lesion_free: str | None = None,
    out: str | Path | None = None,
    rank: Rank = "auto",
    iou: float = 0.1,
    labels: Sequence[int] = (),
    instances: bool = False,
    tolerance_mm: float = 2.0,
    surface: bool = True,
    resamples: int = 2000,
    seed: int = 0,
    workers: int = 1,
    pictures: bool = True,
    name: str | None = None,
    progress: Progress = silent,
) -> Evaluation:
    """Evaluate runs against a truth: scans, lesions, FROC, slices, voxels, surfaces and volumes, with intervals.

    runs: the folder of a batch, a workspace, or one run.
    truth: a folder of masks named like the scans, or a table with columns image and truth; by default the truth that
        each run was given. lesion_free: names of scans without a lesion, or "rest" for all others.
    out: folder for the files of `r2seg eval`; None writes none. pictures: draw curves there.
    rank: what orders candidates for FROC, and scans for ROC. iou: least IoU at which a finding is a lesion.
    labels: truth values that are lesions (all but 0 by default). instances: each value is one lesion.
    tolerance_mm: of the surface Dice. surface: surface distances and panoptic quality (needs MONAI).
    resamples, seed: of the bootstrap over patients. workers: processes.

    Raises `InputError` where there are no runs or no truth, `MissingDependencyError` without MONAI unless `surface` is
    False. `r2seg_agent.evals.compare` compares two evaluations, paired by patient.
    """
    if not 0 < iou <= 1:
        raise InputError(f"iou must be above 0 and at most 1, got {iou:g}", "0.1 is the paper's.")
    if rank not in get_args(Rank):
        raise InputError(f"rank `{rank}` is unknown; there are: {', '.join(get_args(Rank))}")
    settings = EvaluationSettings(
        rank=rank,
        iou=iou,
        labels=tuple(labels),
        instances=instances,
        tolerance_mm=tolerance_mm,
        surface=surface,
        resamples=resamples,
        seed=seed,
    )
    evaluation = evaluate_runs(
        Path(runs),
        None if truth is None else Path(truth),
        lesion_free=lesion_free,
        settings=settings,
        name=name,
        workers=workers,
        progress=progress,
    )
    if out is not None:
        write_evaluation(evaluation, Path(out), pictures=pictures)
    return evaluation
