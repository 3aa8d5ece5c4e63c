"""`r2seg batch`: one request over many scans."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from r2seg_agent.cli import _options as options
from r2seg_agent.cli._options import EngineKind, FeatureKind, MaskFormat, PresetName, RejectMode

if TYPE_CHECKING:
    from r2seg_agent.batch.row import CaseRow
    from r2seg_agent.batch.run import BatchResult, OnRow


def batch_command(
    cases: Annotated[
        Path,
        typer.Argument(
            help="A .csv or .jsonl table (image, patient, request, anchors, truth, modality, series), or a folder.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for runs, tables and the journal.", show_default=False)
    ],
    request: Annotated[
        str | None, typer.Option("--request", help="What to find, for cases that do not say it themselves.")
    ] = None,
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
    from r2seg_agent.batch.engine import engine_named
    from r2seg_agent.batch.row import make_jobs
    from r2seg_agent.batch.run import run_batch, shard
    from r2seg_agent.cli._stop import stop_on_interrupt
    from r2seg_agent.datasets.read import read_cases
    from r2seg_agent.errors import InputError

    jobs = make_jobs(read_cases(cases), request, chosen)
    silent_ones = [job for job in jobs if not job.request]
    if silent_ones:
        raise InputError(
            f"{len(silent_ones)} cases have no request (first: case {silent_ones[0].number})",
            "Give --request, or a column `request`.",
        )
    if part is not None:
        jobs = shard(jobs, part)
    if engine is EngineKind.local and workers > (os.cpu_count() or 1):
        typer.echo(f"r2seg: {workers} workers on {os.cpu_count()} cores", err=True)
    stop = threading.Event()
    with stop_on_interrupt() as stopping, _progress(len(jobs), enabled=not quiet) as on_row:
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
            on_row=on_row,
            stop=stop,
        )
    _tell(result, out)


@contextmanager
def _progress(total: int, *, enabled: bool) -> Iterator[OnRow | None]:
    """A bar with rate and time left on a terminal, a line a case elsewhere, and every failure as it comes."""
    if not enabled:
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    columns = (
        TextColumn("cases"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    started = time.monotonic()
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        task = bars.add_task("cases", total=total, rate="")
        new = 0

        def on_row(row: CaseRow, done: int, total: int) -> None:
            nonlocal new
            new += 1
            rate = 60 * new / max(time.monotonic() - started, 1e-9)
            bars.update(task, completed=done, rate=f"{rate:.1f} a minute")
            if row.status != "done" or not console.is_terminal:
                what = row.error or f"{row.outcome}, {row.findings} findings, {row.seconds:.1f} s"
                console.print(f"case {row.number} ({done} of {total}): {row.status}: {what}")

        yield on_row


def _tell(result: BatchResult, out: Path) -> None:
    from rich.console import Console

    console = Console(highlight=False, markup=False, soft_wrap=True)
    summary = result.summary
    statuses = ", ".join(f"{count} {status.replace('_', ' ')}" for status, count in summary.statuses.items())
    outcomes = ", ".join(f"{count} {outcome.replace('_', ' ')}" for outcome, count in summary.outcomes.items())
    console.print(f"{summary.cases} cases: {statuses or 'none'}" + (f" ({outcomes})" if outcomes else ""))
    if result.repeated:
        console.print(f"{result.repeated} were done before and not repeated.")
    if summary.flagged is not None:
        console.print(f"{summary.flagged} scans flagged at a false discovery rate of {summary.alpha:g} (column q).")
    else:
        console.print("No valid p-values: no scan is flagged. `r2seg calibrate` is the way to them.")
    console.print(f"{out}: {', '.join(result.files)}, journal.jsonl, runs/")
    console.print("Research software, not a medical device. Not for diagnosis or treatment.", style="dim")
