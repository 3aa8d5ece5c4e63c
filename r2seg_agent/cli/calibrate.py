"""`r2seg calibrate`: lesion-free scans become a calibration file."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from r2seg_agent.cli import _options as options
from r2seg_agent.cli._cases import batch_progress
from r2seg_agent.cli._run_command import run_options

if TYPE_CHECKING:
    from r2seg_agent.batch.calibrate import Calibrated
    from r2seg_agent.runs.options import RunOptions


def calibrate_command(
    context: typer.Context,
    target: Annotated[
        str,
        typer.Option(
            "--target",
            help='What `find` will look for, in words: "lung nodule".',
            metavar="WORDS",
            show_default=False,
            rich_help_panel=options.DATA_PANEL,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            help="The calibration file to write.",
            metavar="FILE",
            show_default=False,
            rich_help_panel=options.OUTPUT_PANEL,
        ),
    ],
    cases: Annotated[
        Path | None,
        typer.Option(
            "--cases",
            help="Lesion-free scans: a .csv or .jsonl table (image, patient, anchors, modality, series), a folder, or "
            "a BIDS, nnU-Net or Medical Decathlon data set. Cases whose truth holds a lesion are left out.",
            show_default=False,
            rich_help_panel=options.DATA_PANEL,
        ),
    ] = None,
    builtin: Annotated[
        Path | None,
        typer.Option(
            "--builtin",
            help="No lesion-free scans at hand: SYNTHETIC lesion-free patients are drawn like this CT (voxels, noise, "
            "grey value of its liver, lung, kidney, spleen or pancreas), and calibrated on. Every result says so, "
            "and scans unlike them are refused.",
            metavar="SCAN",
            show_default=False,
            rich_help_panel=options.DATA_PANEL,
        ),
    ] = None,
    phantoms: Annotated[
        int,
        typer.Option(
            "--phantoms",
            help="How many patients --builtin draws.",
            metavar="N",
            min=1,
            rich_help_panel=options.DATA_PANEL,
        ),
    ] = 99,
    extend: Annotated[
        Path | None,
        typer.Option(
            "--extend",
            help="Add to this calibration of the same set-up; --out may be the same file.",
            metavar="FILE",
            rich_help_panel=options.OUTPUT_PANEL,
        ),
    ] = None,
    layout: options.Layout = None,
    lesion_label: options.LesionLabels = None,
    only: options.Only = None,
    workers: options.Workers = 1,
    engine: options.Engine = "local",
    address: options.Address = None,
    gpus_per_worker: options.GpusPerWorker = 0.0,
    timeout: options.CaseTimeout = None,
    quiet: options.Quiet = False,
) -> None:
    """Run the search on lesion-free scans and keep its scores, so that `find --calibration` gives valid p-values.

    Patients count, not scans: 19 of them serve alpha 0.05. Stop it or kill it at any time and give the same command
    again: what the workspace holds is not repeated.

    Example: r2seg calibrate --cases lesion-free.csv --target "lung nodule" --out lung.json

    Example: r2seg calibrate --builtin ct.nii.gz --anchors organs.nii.gz --target "liver lesion" --out liver.json
    """
    from r2seg_agent.batch.calibrate import run_calibration
    from r2seg_agent.batch.engines import engine_named
    from r2seg_agent.cli._dataset import read_and_print
    from r2seg_agent.cli._stop import stop_on_interrupt
    from r2seg_agent.errors import InputError
    from r2seg_agent.files import check_file
    from r2seg_agent.reject.calibration_file import load_calibration, save_calibration

    chosen = run_options(context)
    check_file(out, f"`--out {out}`")
    if (cases is None) == (builtin is None):
        raise InputError(
            "give either `--cases` (lesion-free scans) or `--builtin` (a scan that phantoms shall be like)"
        )
    earlier = None if extend is None else load_calibration(extend)
    if builtin is not None:
        cases, chosen = _draw(builtin, target, chosen, phantoms, workers, quiet)
    assert cases is not None
    data = read_and_print(cases, layout, request=target, lesion_labels=lesion_label, only=only, options=chosen)
    stop = threading.Event()
    with stop_on_interrupt() as stopping, batch_progress(len(data.cases), enabled=not quiet) as on_row:
        stopping.stop = stop
        made = run_calibration(
            target,
            data.cases,
            chosen,
            earlier=earlier,
            synthetic=builtin is not None,
            engine=engine_named(engine, address),
            workers=workers,
            gpus_per_worker=gpus_per_worker,
            timeout_s=timeout,
            on_row=on_row,
            stop=stop,
        )
    save_calibration(made.calibration, out)
    _print_result(made, out, chosen.alpha)


def _draw(scan: Path, target: str, chosen: RunOptions, n: int, workers: int, quiet: bool) -> tuple[Path, RunOptions]:
    """Phantoms like `scan`: their table, and the options by which they are searched as it would be."""
    from r2seg_agent.batch.builtin import phantoms_like
    from r2seg_agent.cli._progress import terminal_progress

    with terminal_progress(enabled=not quiet) as progress:
        made = phantoms_like(str(scan), target, chosen, n=n, workers=workers, progress=progress)
    p, cohort = made.matched.scan, made.matched.cohort
    low, high = cohort.noise_sd or (p.noise_sd, p.noise_sd)
    typer.echo(
        f"r2seg: {n} SYNTHETIC lesion-free patients like `{scan.name}`: {cohort.organ} of {p.anchor_median:.0f} HU, "
        f"noise {low:g} to {high:g} HU, {cohort.phase} phase, voxels of "
        f"{' × '.join(f'{s:.3g}' for s in p.spacing_mm)} mm",
        err=True,
    )
    return made.table, made.options


def _print_result(made: Calibrated, out: Path, alpha: float) -> None:
    from rich.console import Console

    from r2seg_agent.reject.calibration import cases_needed, rounds_served
    from r2seg_agent.reject.confidence import level_bound

    console = Console(highlight=False, markup=False, soft_wrap=True)
    calibration = made.calibration
    n, needed = calibration.n_cases, cases_needed(alpha, calibration.unfinished(1))
    total = len(calibration.cases)
    console.print(f"{out}: {n} lesion-free patient{'s' * (n != 1)} ({total} scan{'s' * (total != 1)})")
    console.print(f"The smallest p that it can give is {calibration.smallest_p:.3g}.")
    if n >= needed:
        console.print(f"alpha {alpha:g} is served: r2seg find … --calibration {out}")
        console.print(
            f"That is the mean over calibrations: with 95 % confidence the chance of a false finding by this one is at "
            f"most {level_bound(n, alpha):.3g}."
        )
        wanted = calibration.identity.rounds
        served = rounds_served(n, alpha, wanted)
        if served < wanted:
            more = cases_needed(alpha, rounds=served + 1)
            console.print(f"It serves {served} of {wanted} search rounds; {more} patients serve {served + 1}.")
    else:
        console.print(
            f"alpha {alpha:g} needs {needed} patients, {needed - n} more: add them with --extend {out}", style="yellow"
        )
    if made.candidates:
        empty = sum(count == 0 for count in made.candidates)
        few, many, scans = min(made.candidates), max(made.candidates), len(made.candidates)
        console.print(f"Candidates a scan: {few} to {many}, none in {empty} of {scans}.")
    for left_out in made.left_out:
        console.print(f"! left out {left_out.case.image}: {left_out.why}", style="yellow")
    for failed in made.unfinished:
        console.print(
            f"! {failed.case.image} ended after round {failed.rounds} ({failed.why}): in the rounds after it, it "
            "counts as the largest score of all. More time or memory and the same command again will score it.",
            style="yellow",
        )
    if calibration.synthetic:
        console.print(
            "Its cases are SYNTHETIC phantoms, no patients. It shows what conformal mode says; for patients, calibrate "
            "on patients.",
            style="yellow",
        )
    console.print(
        "It holds for scans like these (scanner, protocol, population), the same segmenter, anchors and settings.",
        style="dim",
    )
