"""`r2seg eval`: runs against their truth, one folder or several."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from r2seg_agent.cli import _options as options

if TYPE_CHECKING:
    from r2seg_agent.evals.models import Comparison, Evaluation
    from r2seg_agent.progress import Progress


class RankName(StrEnum):
    """What orders candidates and scans."""

    auto = "auto"
    score = "score"
    p = "p"
    prominence = "prominence"
    probability = "probability"


LINE_EVERY_S = 20.0
"""Where no bar can be drawn, a line at most this often."""
SHOWN = {
    "lesion.iou.sensitivity": "lesions found (IoU)",
    "lesion.overlap.sensitivity": "lesions found (overlap)",
    "lesion.iou.fp_per_scan": "false findings per scan",
    "lesion.dice": "Dice per lesion",
    "froc.iou.cpm": "FROC score (CPM)",
    "froc.iou.at_10": "found at 10 false/scan",
    "scan.sensitivity.hit": "scans with a hit",
    "scan.specificity": "lesion-free scans clear",
    "scan.auc": "ROC area of scans",
    "scan.fdr.mean": "realised FDR",
    "voxel.dice": "Dice per scan",
    "surface.hd95_mm.median": "HD95, median",
    "volume.relative": "volume error, relative",
}
"""The figures on the terminal, in few words; the files hold all."""


def eval_command(
    runs: Annotated[
        list[Path],
        typer.Argument(
            help="Folder of a batch, a workspace, or one run; several are shown side by side.", show_default=False
        ),
    ],
    truth: Annotated[
        Path | None,
        typer.Option(
            "--truth",
            help="Masks named like the scans (folder), or a table with columns image and truth, where the word "
            "lesion-free may stand for a file.",
            metavar="PATH",
            show_default="the --truth of each run",
            rich_help_panel="Truth",
        ),
    ] = None,
    lesion_free: Annotated[
        str | None,
        typer.Option(
            "--lesion-free",
            help="Scans that hold no lesion: a list of names, or `rest` for all others.",
            rich_help_panel="Truth",
        ),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(
            "--against",
            help="Compare with this folder, case by case: RUNS minus it, paired by patient.",
            rich_help_panel="Measures",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Folder for the results.",
            metavar="FOLDER",
            show_default="RUNS/evaluation",
            rich_help_panel="Output",
        ),
    ] = None,
    rank: Annotated[
        RankName,
        typer.Option(
            "--rank",
            help="What orders candidates for FROC, and scans for ROC: `score`, `p`, `prominence`, `probability`, or "
            "`auto`.",
            metavar="NAME",
            rich_help_panel="Measures",
        ),
    ] = RankName.auto,
    iou: Annotated[
        float,
        typer.Option(
            "--iou", help="Least IoU at which a finding is a lesion.", metavar="X", rich_help_panel="Measures"
        ),
    ] = 0.1,
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels",
            help="Truth values that are lesions, e.g. 2 or 2,3.",
            metavar="NUMBERS",
            show_default="all but 0",
            rich_help_panel="Truth",
        ),
    ] = None,
    instances: Annotated[
        bool,
        typer.Option(
            "--instances", help="Each truth value is one lesion, also in several pieces.", rich_help_panel="Truth"
        ),
    ] = False,
    tolerance: Annotated[
        float, typer.Option("--tolerance", min=0.0, help="Of the surface Dice, in mm.", rich_help_panel="Measures")
    ] = 2.0,
    surface: Annotated[
        bool,
        typer.Option(
            "--surface/--no-surface",
            help="Surface distances and panoptic quality (needs MONAI).",
            rich_help_panel="Measures",
        ),
    ] = True,
    resamples: Annotated[
        int, typer.Option("--resamples", min=100, help="Bootstrap resamples of patients.", rich_help_panel="Measures")
    ] = 2000,
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="Seed of everything random.", rich_help_panel="Measures")
    ] = 0,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Worker processes.", rich_help_panel="Workers")] = 1,
    quiet: options.Quiet = False,
) -> None:
    """Evaluate runs against a truth: scans, lesions, FROC, slices, voxels, surfaces, volumes, with intervals.

    Intervals come from drawing patients, not scans or slices. Cases that failed are counted and shown.

    With --against, the second folder is evaluated too, and the differences are tested by patient.

    Example: r2seg eval results --truth masks
    """
    from r2seg_agent.errors import InputError
    from r2seg_agent.evals import EvaluationSettings, compare, evaluate_runs
    from r2seg_agent.evals.write import write_comparison, write_evaluation, write_side_by_side
    from r2seg_agent.files import check_folder

    if not 0 < iou <= 1:
        raise InputError(f"`--iou` must be above 0 and at most 1, got {iou:g}", "0.1 is the paper's.")
    settings = EvaluationSettings.model_validate(
        {
            "rank": rank.value,
            "iou": iou,
            "labels": _values(labels),
            "instances": instances,
            "tolerance_mm": tolerance,
            "surface": surface,
            "resamples": resamples,
            "seed": seed,
        }
    )
    if out is not None:
        check_folder(out, f"`--out {out}`")
    folders = [*runs, *([against] if against is not None else [])]
    names = _names(folders)
    evaluations = []
    for folder, name in zip(folders, names, strict=True):
        with _progress(name, enabled=not quiet) as progress:
            evaluations.append(
                evaluate_runs(
                    folder,
                    truth,
                    lesion_free=lesion_free,
                    settings=settings,
                    name=name,
                    workers=workers,
                    progress=progress,
                )
            )
    place = out or runs[0] / "evaluation"
    several = len(evaluations) > 1
    written: list[str] = []
    for evaluation in evaluations:
        files = write_evaluation(evaluation, place / evaluation.name if several else place)
        written += [f"{evaluation.name}/{name}" if several else name for name in files]
    comparison = None
    if against is not None:
        comparison = compare(evaluations[-1], evaluations[0])
        written = [*write_comparison(comparison, place), *written]
    if several:
        written = [*write_side_by_side(evaluations, place), *written]
    _print_result(evaluations, comparison)
    typer.echo(f"{place}: {', '.join(written)}")


def _values(text: str | None) -> tuple[int, ...]:
    from r2seg_agent.errors import InputError

    parts = [part.strip() for part in (text or "").split(",") if part.strip()]
    if not all(part.isdigit() and int(part) > 0 for part in parts):
        raise InputError(f"`--labels {text}` is no list of truth values", "Whole numbers above 0, e.g. --labels 2,3.")
    return tuple(int(part) for part in parts)


def _names(folders: Sequence[Path]) -> list[str]:
    """The folders' own names, made different by what stands above them or a number."""
    names: list[str] = []
    for folder in folders:
        path = folder.resolve()
        name = path.name
        if name in names:
            name = f"{path.parent.name}-{name}"
        while name in names:
            name += "-2"
        names.append(name)
    return names


@contextmanager
def _progress(name: str, *, enabled: bool) -> Iterator[Progress]:
    from r2seg_agent.progress import silent

    if not enabled:
        yield silent
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=30), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bars:
        task = bars.add_task(name, total=None)

        printed = time.monotonic()

        def progress(stage: str, done: int, total: int, note: str = "") -> None:
            nonlocal printed
            bars.update(task, completed=done, total=total)
            if not console.is_terminal and time.monotonic() - printed > LINE_EVERY_S:
                printed = time.monotonic()
                console.print(f"{name}: {done} of {total} cases")

        yield progress


def _print_result(evaluations: Sequence[Evaluation], comparison: Comparison | None) -> None:
    from rich.console import Console
    from rich.table import Table

    from r2seg_agent.evals.grids import cell, value_words
    from r2seg_agent.evals.tables import accounting_words, difference_words, few_patients, p_words

    console = Console(highlight=False, markup=False, soft_wrap=True)
    for evaluation in evaluations:
        head, *rest = accounting_words(evaluation.accounting)
        console.print(f"{evaluation.name}: {head}" if len(evaluations) > 1 else head)
        for line in rest:
            console.print(f"  {line}")
        for warning in evaluation.warnings:
            console.print(f"  careful: {warning}")
    table = Table(box=None, pad_edge=False)
    paired = comparison is not None
    table.add_column("", no_wrap=True, min_width=max(map(len, SHOWN.values())))
    for evaluation in evaluations:
        table.add_column(evaluation.name, overflow="fold", min_width=8)
    for name in ("difference", "p") if paired else ("n",) if len(evaluations) == 1 else ():
        table.add_column(name, no_wrap=True, min_width={"difference": 22, "p": 7}.get(name))
    for key, words in SHOWN.items():
        figures = [evaluation.figure(key) for evaluation in evaluations]
        if all(figure.value is None for figure in figures):
            continue
        cells = [value_words(f.value, f.unit) if paired else cell(f) for f in figures]
        if comparison is not None:
            gap = comparison.difference(key)
            cells += [difference_words(gap), "" if gap.p is None else p_words(gap.p)]
        elif len(evaluations) == 1:
            cells.append(f"{figures[0].n} {figures[0].of}")
        table.add_row(words, *cells)
    console.print(table)
    warning = few_patients(min(evaluation.accounting.patients for evaluation in evaluations))
    if warning:
        console.print(warning)
    if comparison is not None:
        console.print(
            f"Differences: {comparison.second} minus {comparison.first} on the {comparison.paired} cases in both."
        )
    console.print("Research software, not a medical device. Not for diagnosis or treatment.", style="dim")
