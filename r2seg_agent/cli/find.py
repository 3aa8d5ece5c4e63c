"""`r2seg find`: one request on one scan."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class RejectMode(StrEnum):
    """How candidates are rejected (docs/user-guide.md)."""

    paper = "paper"
    conformal = "conformal"


class MaskFormat(StrEnum):
    """File family of the lesion mask."""

    nifti = "nifti"
    same = "same"


def find_command(
    request: Annotated[str, typer.Argument(help='What to find, in words: "find the lung nodule".', show_default=False)],
    image: Annotated[
        str,
        typer.Option(
            "--image",
            "-i",
            help="NIfTI, NRRD, MetaImage, a DICOM folder or file, PNG, JPEG or TIFF.",
            show_default=False,
        ),
    ],
    anchors: Annotated[
        str,
        typer.Option(
            "--anchors",
            "-a",
            help="Where organs are: `auto`, `totalsegmentator[:full|fast|fastest]`, `hounsfield`, or a path to a label "
            "map with names, a folder of masks, or MASK=ORGAN.",
        ),
    ] = "auto",
    segmenter: Annotated[
        str, typer.Option("--segmenter", "-s", help="Segmenter by name; see `r2seg doctor`.")
    ] = "contrast",
    reject: Annotated[
        RejectMode, typer.Option("--reject", "-r", help="How candidates are rejected.")
    ] = RejectMode.paper,
    calibration: Annotated[
        Path | None, typer.Option("--calibration", help="Calibration file for `--reject conformal`.")
    ] = None,
    alpha: Annotated[float, typer.Option("--alpha", help="Level of the rejection test, between 0 and 1.")] = 0.05,
    plan: Annotated[
        Path | None,
        typer.Option("--plan", help="Search by this plan (JSON, e.g. an edited plan.json) and skip planning."),
    ] = None,
    truth: Annotated[
        str | None,
        typer.Option(
            "--truth",
            help="Reference mask, DICOM SEG or RTSTRUCT (FILE::NAME): adds Dice, sensitivity and precision.",
        ),
    ] = None,
    modality: Annotated[
        str | None, typer.Option("--modality", help="CT, MR, PT, US, XR or photo, where the file does not say.")
    ] = None,
    series: Annotated[
        str | None, typer.Option("--series", help="Which series of a DICOM folder: its key or number.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for the results [default: runs/ID in the workspace].")
    ] = None,
    workspace: Annotated[Path, typer.Option("--workspace", "-w", help="Folder for cached steps and runs.")] = Path(
        ".r2seg"
    ),
    mask_format: Annotated[
        MaskFormat, typer.Option("--mask-format", help="`nifti`, or `same` for the family of the input.")
    ] = MaskFormat.nifti,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of everything random.")] = 0,
    rounds: Annotated[int, typer.Option("--rounds", min=1, max=3, help="Most rounds of widening.")] = 3,
    seconds: Annotated[
        float | None, typer.Option("--seconds", min=0.0, help="Time budget; the current step is always finished.")
    ] = None,
    synthetic: Annotated[
        bool, typer.Option("--synthetic", help="The scan holds synthetic content; every result will say so.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only the answer.")] = False,
) -> None:
    """Find lesions: plan, locate organs, segment around them, reject what is normal tissue, report with evidence.

    Example: r2seg find "find the lung nodule" --image scan.nrrd --anchors hounsfield
    """
    from r2seg_agent.cli._progress import terminal_progress
    from r2seg_agent.pipeline import FindOptions, run_find

    options = FindOptions(
        anchors=anchors,
        segmenter=segmenter,
        reject=reject.value,
        calibration=calibration,
        alpha=alpha,
        plan=plan,
        truth=truth,
        modality=modality,
        series=series,
        out=out,
        workspace=workspace,
        mask_format=mask_format.value,
        seed=seed,
        rounds=rounds,
        seconds=seconds,
        synthetic=synthetic,
    )
    with terminal_progress(enabled=not quiet and not as_json) as progress:
        result = run_find(request, image, options, progress)
    if as_json:
        typer.echo(result.report.model_dump_json(indent=2))
    else:
        from r2seg_agent.cli._answer import print_answer

        print_answer(result, quiet=quiet)
    raise typer.Exit(result.exit_status)
