"""`evaluate_runs`: every case of a folder against its truth, one scan in memory at a time, then all figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from r2seg_agent.errors import InputError
from r2seg_agent.evals.bootstrap import exact_share, interval, patient_numbers, resample
from r2seg_agent.evals.case import Evaluated, evaluate_case
from r2seg_agent.evals.definitions import blocks_of
from r2seg_agent.evals.detection import free_scan
from r2seg_agent.evals.figures import Block
from r2seg_agent.evals.froc import froc_of
from r2seg_agent.evals.models import (
    Accounting,
    CaseEvaluation,
    Curves,
    Evaluation,
    EvaluationSettings,
    Figure,
    Rank,
)
from r2seg_agent.evals.read import RunCase, read_runs
from r2seg_agent.evals.roc import roc_of
from r2seg_agent.evals.surface import require_monai
from r2seg_agent.evals.truth import truth_source
from r2seg_agent.progress import Progress, silent
from r2seg_agent.version import __version__

MANY_LESIONS, MUCH_ML = 30, 1500.0
"""Per lesion-bearing scan; beyond, the truth is likely a map of organs."""


def evaluate_runs(
    folder: Path,
    truth: Path | None = None,
    *,
    lesion_free: str | None = None,
    settings: EvaluationSettings | None = None,
    name: str | None = None,
    workers: int = 1,
    progress: Progress = silent,
) -> Evaluation:
    """Evaluate the runs of `folder` (a batch, a workspace, one run) against their truth.

    `truth` and `lesion_free` as in `truth_source`; without them the truth that each run was given. Raises `InputError`
    where there are no runs, no truth at all, or every truth is on another grid; `MissingDependencyError` without
    MONAI unless `settings.surface` is False.
    """
    settings = settings or EvaluationSettings()
    if settings.surface:
        require_monai()
    runs = read_runs(folder)
    source = truth_source(truth, lesion_free)
    jobs = [(run, source.of(run.image, run.truth), settings) for run in runs]
    if all(given is None for _, given, _ in jobs):
        raise InputError(
            f"none of the {len(runs)} cases has a truth to compare with",
            "Give --truth (a folder of masks, or a table with image and truth), or --lesion-free.",
        )
    known: list[Evaluated] = []
    for done, item in enumerate(_each(jobs, workers), start=1):
        known.append(item)
        progress("evaluate", done, len(jobs), item.case.name)
    cases = [entry.case for entry in known]
    wrong = next((entry.error for entry in known if entry.error is not None), None)
    if wrong is not None and not any(case.evaluated for case in cases):
        raise wrong
    if settings.labels and not any(case.bearing for case in cases):
        values = ", ".join(map(str, settings.labels))
        raise InputError(
            f"no truth holds a voxel of the lesion value {values}",
            "Check --labels against the values of the masks, or leave it out: then every value but 0 is a lesion.",
        )
    methods = dict.fromkeys(entry.method for entry in known if entry.method)
    return summarise(
        cases,
        settings,
        name=name or folder.resolve().name,
        methods=tuple(methods),
        not_run=source.not_run(run.image for run in runs),
    )


def summarise(
    cases: Sequence[CaseEvaluation],
    settings: EvaluationSettings,
    *,
    name: str,
    methods: tuple[str, ...] = (),
    not_run: tuple[str, ...] = (),
) -> Evaluation:
    """All figures and curves of cases that were evaluated one by one."""
    rank = settled_rank(cases, settings.rank)
    counted = [case for case in cases if case.evaluated or case.unanswered_lesions is not None]
    return Evaluation(
        r2seg_version=__version__,
        name=name,
        settings=settings,
        rank=rank,
        methods=methods,
        accounting=_accounting(cases, not_run),
        warnings=tuple(_warnings(cases, settings)),
        figures=figures_of(counted, settings, rank),
        curves=curves_of(counted, rank),
        cases=tuple(cases),
    )


def settled_rank(cases: Sequence[CaseEvaluation], rank: Rank) -> Rank:
    """`auto`: p where it is valid, else the score where any candidate has one, else the prominence.

    Scores of different search rounds are on different scales; p-values compare them.
    """
    if rank != "auto":
        return rank
    if any(case.p is not None and case.candidates for case in cases):
        return "p"
    scored = any(candidate.score is not None for case in cases for candidate in case.candidates or ())
    return "score" if scored else "prominence"


def figures_of(cases: Sequence[CaseEvaluation], settings: EvaluationSettings, rank: Rank) -> tuple[Figure, ...]:
    """Every figure with its interval over patients."""
    index, patients = patient_numbers([case.patient for case in cases])
    blocks = blocks_of(cases, settings, rank)
    drawn = resample(
        [block.statistic for block in blocks], index, patients, resamples=settings.resamples, seed=settings.seed
    )
    figures = []
    for block, values in zip(blocks, drawn, strict=True):
        for k, head in enumerate(block.heads):
            contributing = _contributing(block, k, index)
            value = float(values.value[k])
            estimate = interval(value, values.resampled[:, k], values.left_out[:, k], confidence=settings.confidence)
            if head.share and value in (0.0, 1.0):
                estimate = exact_share(estimate, contributing, settings.confidence)
            figures.append(
                Figure(
                    key=head.key,
                    level=head.level,
                    name=head.name,
                    unit=head.unit,
                    better=head.better,
                    value=estimate.value,
                    low=estimate.low,
                    high=estimate.high,
                    n=block.n[k],
                    of=head.of,
                    patients=contributing,
                    interval=estimate.interval,
                )
            )
    return tuple(figures)


def curves_of(cases: Sequence[CaseEvaluation], rank: Rank) -> Curves:
    """FROC and ROC of the cases as they are."""
    return Curves(
        froc_iou=froc_of(cases, rank, "iou").points(),
        froc_overlap=froc_of(cases, rank, "overlap").points(),
        froc_lesion_free=froc_of(cases, rank, "iou", counts=free_scan).points(),
        roc=roc_of(cases, rank).points(),
    )


def _each(jobs: Sequence[tuple[RunCase, str | None, EvaluationSettings]], workers: int) -> Iterator[Evaluated]:
    if workers <= 1 or len(jobs) < 2:
        for job in jobs:
            yield evaluate_case(*job)
        return
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(min(workers, len(jobs)), mp_context=multiprocessing.get_context("spawn")) as pool:
        waiting = [pool.submit(evaluate_case, *job) for job in jobs]
        try:
            for future in waiting:
                yield future.result()
        finally:
            for future in waiting:
                future.cancel()


def _contributing(block: Block, k: int, index: np.ndarray[tuple[int], np.dtype[np.intp]]) -> int:
    return int(np.unique(index[block.used[:, k]]).size)


def _accounting(cases: Sequence[CaseEvaluation], not_run: tuple[str, ...]) -> Accounting:
    evaluated = [case for case in cases if case.evaluated]
    unknown = [case for case in cases if case.answered and case.truth == "none"]
    return Accounting(
        cases=len(cases),
        patients=len({case.patient for case in cases}),
        evaluated=len(evaluated),
        bearing=sum(case.bearing for case in evaluated),
        lesion_free=sum(not case.bearing for case in evaluated),
        lesions=sum(len(case.lesions) for case in evaluated),
        findings=sum(len(case.findings) for case in evaluated),
        unanswered=tuple(_why(case) for case in cases if not case.answered),
        no_truth=tuple(_called(case) for case in unknown if not case.note),
        bad_truth=tuple(f"{_called(case)}: {case.note}" for case in unknown if case.note),
        not_run=not_run,
        without_candidates=sum(case.candidates is None for case in evaluated),
        without_spacing=sum(not case.measured for case in evaluated),
        synthetic=sum(case.synthetic for case in cases),
    )


def _warnings(cases: Sequence[CaseEvaluation], settings: EvaluationSettings) -> Iterator[str]:
    bearing = [case for case in cases if case.evaluated and case.bearing]
    if bearing and not settings.labels:
        lesions = sum(len(case.lesions) for case in bearing) / len(bearing)
        true_ml = sum(case.true_ml for case in bearing) / len(bearing)
        if lesions > MANY_LESIONS or true_ml > MUCH_ML:
            yield (
                f"The truth holds {lesions:.0f} lesions and {true_ml:.0f} ml per lesion-bearing scan: if its values "
                "are organs too, name those of the lesions with --labels."
            )
    ranked = {case.candidates is not None for case in cases if case.evaluated}
    if len(ranked) == 2:
        yield "Some cases have no candidates here: FROC and ROC are over the others alone."


def _why(case: CaseEvaluation) -> str:
    what = case.status if case.status != "done" else str(case.outcome)
    missed = case.unanswered_lesions
    words = "truth unknown" if missed is None else f"{len(missed)} lesions" if missed else "lesion-free"
    return f"{_called(case)}: {what.replace('_', ' ')}, {words}"


def _called(case: CaseEvaluation) -> str:
    return f"case {case.number}" + (f" ({case.name})" if case.name != f"case {case.number}" else "")
