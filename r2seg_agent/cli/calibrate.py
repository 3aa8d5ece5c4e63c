"""`r2seg calibrate`: lesion-free scans become a calibration file."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from r2seg_agent.cli import _options as options
from r2seg_agent.cli._cases import batch_progress
from r2seg_agent.cli._options import EngineKind, FeatureKind

if TYPE_CHECKING:
    from r2seg_agent.batch.calibrate import Calibrated


def calibrate_command(
    cases: Annotated[
        Path,
        typer.Option(
            "--cases",
            help="Lesion-free scans: a .csv or .jsonl table (image, patient, anchors, modality, series), a folder, or "
            "a BIDS, nnU-Net or Medical Decathlon data set. Cases whose truth holds a lesion are left out.",
            show_default=False,
        ),
    ],
    target: Annotated[
        str, typer.Option("--target", help='What `find` will look for, in words: "lung nodule".', show_default=False)
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The calibration file to write.", show_default=False)],
    layout: options.Layout = None,
    lesion_label: options.LesionLabels = None,
    only: options.Only = None,
    workers: options.Workers = 1,
    engine: options.Engine = EngineKind.local,
    address: options.Address = None,
    gpus_per_worker: options.GpusPerWorker = 0.0,
    timeout: options.CaseTimeout = None,
    anchors: options.Anchors = "auto",
    segmenter: options.Segmenter = "auto",
    orientations: options.Orientations = 1,
    feature: options.Feature = FeatureKind.intensity,
    score: Annotated[
        str, typer.Option("--score", help="What candidates are ranked by; a wrong name lists all.")
    ] = "scan_statistic",
    alpha: options.Alpha = 0.05,
    extend: Annotated[
        Path | None,
        typer.Option("--extend", help="Add to this calibration of the same set-up; --out may be the same file."),
    ] = None,
    modality: options.ModalityName = None,
    workspace: options.Workspace = Path(".r2seg"),
    seed: options.Seed = 0,
    rounds: options.Rounds = 3,
    quiet: options.Quiet = False,
) -> None:
    """Run the search on lesion-free scans and keep its scores, so that `find --calibration` gives valid p-values.

    Patients count, not scans: 19 of them serve alpha 0.05. Stop it or kill it at any time and give the same command
    again: what the workspace holds is not repeated.

    Example: r2seg calibrate --cases lesion-free.csv --target "lung nodule" --out lung.json
    """
    from r2seg_agent.batch.calibrate import run_calibration
    from r2seg_agent.batch.engines import engine_named
    from r2seg_agent.cli._dataset import read_and_tell
    from r2seg_agent.cli._stop import stop_on_interrupt
    from r2seg_agent.errors import InputError
    from r2seg_agent.reject.calibration_file import load_calibration, save_calibration
    from r2seg_agent.reject.scores import score_named
    from r2seg_agent.runs.options import RunOptions

    score_named(score)
    if not 0 < alpha < 1:
        raise InputError(f"--alpha must lie between 0 and 1, got {alpha:g}")
    chosen = RunOptions.model_validate(
        {
            "anchors": anchors,
            "segmenter": segmenter,
            "orientations": orientations,
            "feature": feature.value,
            "score": score,
            "modality": modality,
            "workspace": workspace,
            "seed": seed,
            "rounds": rounds,
        }
    )
    earlier = None if extend is None else load_calibration(extend)
    data = read_and_tell(
        cases, layout, request=target, lesion_labels=lesion_label, only=only, anchors=anchors, modality=modality
    )
    stop = threading.Event()
    with stop_on_interrupt() as stopping, batch_progress(len(data.cases), enabled=not quiet) as on_row:
        stopping.stop = stop
        made = run_calibration(
            target,
            data.cases,
            chosen,
            earlier=earlier,
            engine=engine_named(engine.value, address),
            workers=workers,
            gpus_per_worker=gpus_per_worker,
            timeout_s=timeout,
            on_row=on_row,
            stop=stop,
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    save_calibration(made.calibration, out)
    _tell(made, out, alpha)


def _tell(made: Calibrated, out: Path, alpha: float) -> None:
    from rich.console import Console

    from r2seg_agent.reject.calibration import cases_needed, smallest_p

    console = Console(highlight=False, markup=False, soft_wrap=True)
    calibration = made.calibration
    n, needed = calibration.n_cases, cases_needed(alpha)
    total = len(calibration.cases)
    console.print(f"{out}: {n} lesion-free patient{'s' * (n != 1)} ({total} scan{'s' * (total != 1)})")
    console.print(f"The smallest p that it can give is {smallest_p(n):.3g}.")
    if n >= needed:
        console.print(f"alpha {alpha:g} is served: r2seg find … --calibration {out}")
    else:
        console.print(
            f"alpha {alpha:g} needs {needed} patients, {needed - n} more: add them with --extend {out}", style="yellow"
        )
    if made.candidates:
        empty = sum(count == 0 for count in made.candidates)
        few, many, scans = min(made.candidates), max(made.candidates), len(made.candidates)
        console.print(f"Candidates a scan: {few} to {many}, none in {empty} of {scans}.")
    for one in made.left_out:
        console.print(f"! left out {one.case.image}: {one.why}", style="yellow")
    console.print(
        "It holds for scans like these (scanner, protocol, population), the same segmenter, anchors and settings.",
        style="dim",
    )
