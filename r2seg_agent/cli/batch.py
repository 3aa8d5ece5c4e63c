"""`r2seg batch`: one request over many scans."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from r2seg_agent.cli import _options as options
from r2seg_agent.cli._cases import batch_progress
from r2seg_agent.cli._options import EngineKind, FeatureKind, MaskFormat, PresetName, RejectMode

if TYPE_CHECKING:
    from r2seg_agent.batch.run import BatchResult

__all__ = ["batch_command", "batch_progress"]

MOST_REASONS = 5
"""Reasons of failures told in the terminal; the summary has all."""


def batch_command(
    cases: Annotated[
        Path,
        typer.Argument(
            help="A .csv or .jsonl table (image, patient, request, anchors, truth, modality, series, channels), a "
            "folder of scans, or a BIDS, nnU-Net or Medical Decathlon data set.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for runs, tables and the journal.", show_default=False)
    ],
    request: Annotated[
        str | None, typer.Option("--request", help="What to find, for cases that do not say it themselves.")
    ] = None,
    layout: options.Layout = None,
    lesion_label: options.LesionLabels = None,
    only: options.Only = None,
    workers: options.Workers = 1,
    engine: options.Engine = EngineKind.local,
    address: options.Address = None,
    gpus_per_worker: options.GpusPerWorker = 0.0,
    timeout: options.CaseTimeout = None,
    part: Annotated[str | None, typer.Option("--shard", help="Only part i/n of the cases, e.g. 3/16.")] = None,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Stop at the first case that fails.")] = False,
    max_failures: Annotated[
        int | None, typer.Option("--max-failures", min=0, help="Stop after more than this.")
    ] = None,
    anchors: options.Anchors = "auto",
    segmenter: options.Segmenter = "auto",
    orientations: options.Orientations = 1,
    feature: options.Feature = FeatureKind.intensity,
    preset: options.Preset = PresetName.full,
    reject: options.Reject = RejectMode.auto,
    calibration: options.CalibrationFile = None,
    alpha: options.Alpha = 0.05,
    modality: options.ModalityName = None,
    mask_format: options.MaskFamily = MaskFormat.nifti,
    seed: options.Seed = 0,
    rounds: options.Rounds = 3,
    seconds: options.Seconds = None,
    planner: options.Planner = "offline",
    base_url: options.BaseUrl = None,
    synthetic: options.Synthetic = False,
    quiet: options.Quiet = False,
) -> None:
    """Run a request over a data set; every case is isolated, finished cases are never repeated.

    Stop it or kill it at any time and give the same command again. Exit status 0 when every case was dealt with,
    whatever became of it: the table says so for each.

    Example: r2seg batch cases.csv --request "find the lung nodule" --out results --workers 4
    """
    # `out` is the batch's folder, not a run's.
    chosen = options.run_options({name: value for name, value in locals().items() if name != "out"})
    from r2seg_agent.batch.engines import engine_named
    from r2seg_agent.batch.row import make_jobs
    from r2seg_agent.batch.run import run_batch
    from r2seg_agent.cli._dataset import read_and_tell
    from r2seg_agent.cli._stop import stop_on_interrupt
    from r2seg_agent.errors import InputError

    data = read_and_tell(
        cases, layout, request=request, lesion_labels=lesion_label, only=only, anchors=anchors, modality=modality
    )
    jobs = make_jobs(data.cases, request, chosen)
    silent_ones = [job for job in jobs if not job.request]
    if silent_ones:
        raise InputError(
            f"{len(silent_ones)} cases have no request (first: case {silent_ones[0].number})",
            "Give --request, or a column `request`.",
        )
    if engine is EngineKind.local and workers > (os.cpu_count() or 1):
        typer.echo(f"r2seg: {workers} workers on {os.cpu_count()} cores", err=True)
    stop = threading.Event()
    with stop_on_interrupt() as stopping, batch_progress(len(jobs), enabled=not quiet) as on_row:
        stopping.stop = stop
        result = run_batch(
            jobs,
            out,
            engine=engine_named(engine.value, address),
            workers=workers,
            gpus_per_worker=gpus_per_worker,
            timeout_s=timeout,
            max_failures=0 if fail_fast else max_failures,
            alpha=alpha,
            part=part,
            about=(f"Read as {data.told}.", *data.notes),
            on_row=on_row,
            stop=stop,
        )
    _tell(result, out)


def _tell(result: BatchResult, out: Path) -> None:
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
