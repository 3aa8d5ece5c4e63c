"""`r2seg batch`: one request over many scans."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from r2seg_agent.cli import _options as options
from r2seg_agent.cli._cases import batch_progress
from r2seg_agent.cli._run_command import run_options
from r2seg_agent.errors import RunFailedError

if TYPE_CHECKING:
    from r2seg_agent.batch.run import BatchResult

__all__ = ["batch_command", "batch_progress"]

MOST_REASONS = 5
"""Reasons of failures shown in the terminal; the summary has all."""


def batch_command(
    context: typer.Context,
    cases: Annotated[
        Path,
        typer.Argument(
            help="A .csv or .jsonl table (image, patient, request, anchors, truth, modality, series, channels), a "
            "folder of scans, or a BIDS, nnU-Net or Medical Decathlon data set.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            help="Folder for runs, tables and the journal.",
            metavar="FOLDER",
            show_default=False,
            rich_help_panel=options.OUTPUT_PANEL,
        ),
    ],
    request: options.Request = None,
    layout: options.Layout = None,
    lesion_label: options.LesionLabels = None,
    only: options.Only = None,
    part: Annotated[
        str | None,
        typer.Option(
            "--shard", help="Only part i/n of the cases, e.g. 3/16.", metavar="I/N", rich_help_panel=options.DATA_PANEL
        ),
    ] = None,
    workers: options.Workers = 1,
    engine: options.Engine = "local",
    address: options.Address = None,
    gpus_per_worker: options.GpusPerWorker = 0.0,
    timeout: options.CaseTimeout = None,
    fail_fast: Annotated[
        bool,
        typer.Option("--fail-fast", help="Stop at the first case that fails.", rich_help_panel=options.WORKERS_PANEL),
    ] = False,
    max_failures: Annotated[
        int | None,
        typer.Option(
            "--max-failures",
            min=0,
            help="Stop when more cases than this have failed.",
            metavar="N",
            show_default="no limit while some succeed",
            rich_help_panel=options.WORKERS_PANEL,
        ),
    ] = None,
    quiet: options.Quiet = False,
) -> None:
    """Run a request over a data set; every case is isolated, finished cases are never repeated.

    Stop it or kill it at any time and give the same command again. Exit status 0 when cases were finished, whatever
    their outcome: the table has it for each; 5 when every one failed. Where the first ones all fail for one reason,
    such as missing weights, the others are not tried unless --max-failures says so.

    Example: r2seg batch cases.csv --request "find the lung nodule" --out results --workers 4
    """
    chosen = run_options(context)
    from r2seg_agent.batch.engines import engine_named
    from r2seg_agent.batch.row import jobs_with_requests
    from r2seg_agent.batch.run import run_batch
    from r2seg_agent.cli._dataset import read_and_print
    from r2seg_agent.cli._stop import stop_on_interrupt

    data = read_and_print(cases, layout, request=request, lesion_labels=lesion_label, only=only, options=chosen)
    jobs = jobs_with_requests(data.cases, request, chosen)
    if engine == "local" and workers > (os.cpu_count() or 1):
        typer.echo(f"r2seg: {workers} workers on {os.cpu_count()} cores", err=True)
    stop = threading.Event()
    with stop_on_interrupt() as stopping, batch_progress(len(jobs), enabled=not quiet) as on_row:
        stopping.stop = stop
        result = run_batch(
            jobs,
            out,
            engine=engine_named(engine, address),
            workers=workers,
            gpus_per_worker=gpus_per_worker,
            timeout_s=timeout,
            max_failures=0 if fail_fast else max_failures,
            alpha=chosen.alpha,
            part=part,
            about=(f"Read as {data.layout_words}.", *data.notes),
            on_row=on_row,
            stop=stop,
        )
    _print_result(result, out)
    if result.rows and all(row.status != "done" for row in result.rows):
        raise typer.Exit(RunFailedError.exit_status)


def _print_result(result: BatchResult, out: Path) -> None:
    from rich.console import Console

    from r2seg_agent.outcomes import DISCLAIMER

    console = Console(highlight=False, markup=False, soft_wrap=True)
    summary = result.summary
    statuses = ", ".join(f"{count} {status.replace('_', ' ')}" for status, count in summary.statuses.items())
    outcomes = ", ".join(f"{count} {outcome.replace('_', ' ')}" for outcome, count in summary.outcomes.items())
    console.print(f"{summary.cases} cases: {statuses or 'none'}" + (f" ({outcomes})" if outcomes else ""))
    if result.repeated:
        console.print(f"{result.repeated} were done before and not repeated.")
    for why, count in list(summary.failures.items())[:MOST_REASONS]:
        console.print(f"  {count} × {why}")
    console.print(summary.guarantee)
    console.print(f"{out}: {', '.join(result.files)}, journal, runs/")
    console.print(DISCLAIMER, style="dim")
