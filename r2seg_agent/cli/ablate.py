"""`r2seg ablate`: the method part by part over the same scans, in one command."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from r2seg_agent.cli import _options as options
from r2seg_agent.cli._run_command import run_options

if TYPE_CHECKING:
    from r2seg_agent.batch.row import Job
    from r2seg_agent.batch.run import BatchResult
    from r2seg_agent.evals.ablation_models import Ablation
    from r2seg_agent.method.presets import Preset


def ablate_command(
    context: typer.Context,
    cases: Annotated[
        Path,
        typer.Argument(
            help="A .csv or .jsonl table (image, patient, request, anchors, truth, modality), a folder of scans, or a "
            "BIDS, nnU-Net or Medical Decathlon data set.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            help="Folder for a batch per preset and the tables.",
            metavar="FOLDER",
            show_default=False,
            rich_help_panel=options.OUTPUT_PANEL,
        ),
    ],
    request: options.Request = None,
    presets: Annotated[
        str | None,
        typer.Option(
            "--presets",
            help="Which steps, with commas between.",
            metavar="NAMES",
            show_default="all that can run",
            rich_help_panel="Test",
        ),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            "--calibration",
            help="Calibration file, for the step `conformal`.",
            metavar="FILE",
            rich_help_panel="Test",
        ),
    ] = None,
    lesion_free: Annotated[
        str | None,
        typer.Option(
            "--lesion-free",
            help="Scans without a lesion: a list of names, or `rest`: all without a truth.",
            metavar="FILE|rest",
            rich_help_panel=options.DATA_PANEL,
        ),
    ] = None,
    layout: options.Layout = None,
    lesion_label: options.LesionLabels = None,
    only: options.Only = None,
    workers: options.Workers = 1,
    timeout: options.CaseTimeout = None,
    quiet: options.Quiet = False,
) -> None:
    """Run the method part by part (presets) over the same scans, evaluate each step, compare it with the one before.

    Stop it at any time and give the same command again: finished scans are not repeated. Overlays are not drawn.

    Example: r2seg ablate cases.csv --out ablation --calibration liver.json
    """
    chosen = run_options(context)
    from r2seg_agent.cli._cases import batch_progress
    from r2seg_agent.cli._dataset import read_and_print
    from r2seg_agent.cli._progress import terminal_progress
    from r2seg_agent.cli._stop import stop_on_interrupt
    from r2seg_agent.errors import InputError
    from r2seg_agent.evals.ablation import presets_named, run_ablation
    from r2seg_agent.evals.ablation_plot import draw_ablation
    from r2seg_agent.evals.ablation_tables import ablation_markdown
    from r2seg_agent.files import write_text_atomic

    steps = presets_named(presets, calibrated=calibration is not None)
    if calibration is not None and "conformal" not in steps:
        raise InputError(
            "only the preset `conformal` uses a calibration", "Add it to --presets, or leave out --calibration."
        )
    data = read_and_print(cases, layout, request=request, lesion_labels=lesion_label, only=only, options=chosen)
    stop = threading.Event()

    with stop_on_interrupt() as stopping, terminal_progress(enabled=not quiet) as progress:
        stopping.stop = stop

        def batch(preset: Preset, jobs: Sequence[Job], folder: Path) -> BatchResult:
            from r2seg_agent.batch.run import run_batch

            if not quiet:
                typer.echo(f"== {preset}", err=True)
            with progress.paused(), batch_progress(len(jobs), enabled=not quiet) as on_row:
                return run_batch(
                    jobs, folder, workers=workers, timeout_s=timeout, alpha=chosen.alpha, on_row=on_row, stop=stop
                )

        made = run_ablation(
            data.cases,
            request,
            chosen,
            out,
            presets=steps,
            calibration=calibration,
            batch=batch,
            lesion_free=lesion_free,
            workers=workers,
            progress=progress,
        )
    write_text_atomic(out / "ablation.json", made.model_dump_json(indent=1) + "\n")
    draw_ablation(made, out / "ablation.png")
    write_text_atomic(out / "ablation.md", ablation_markdown(made, "ablation.png"))
    _print_result(made, out)


def _print_result(made: Ablation, out: Path) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from r2seg_agent.evals.ablation_tables import IN_BRIEF, forgetting_words, value_words

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("step")
    for heading in IN_BRIEF:
        table.add_column(heading, justify="right")
    for step in made.steps:
        table.add_row(Text(step.preset), *(value_words(step.figure(key)) for key in IN_BRIEF.values()))
    console = Console(highlight=False, markup=False)
    console.print(table)
    console.print(forgetting_words(made.forgetting).replace("**", ""), soft_wrap=True)
    console.print(f"{out}: ablation.md, ablation.json, ablation.png, a folder per step", soft_wrap=True)
    console.print(made.disclaimer, style="dim", soft_wrap=True)
