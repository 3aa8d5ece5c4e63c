"""`r2seg find`: one request on one scan."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from r2seg_agent.cli import _options as options
from r2seg_agent.cli._options import FeatureKind, MaskFormat, PresetName, RejectMode

if TYPE_CHECKING:
    from r2seg_agent.progress import Progress
    from r2seg_agent.runs.api import AskUser, FindResult
    from r2seg_agent.runs.session import Session


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
    anchors: options.Anchors = "auto",
    segmenter: options.Segmenter = "auto",
    orientations: options.Orientations = 1,
    preset: options.Preset = PresetName.full,
    reject: options.Reject = RejectMode.auto,
    feature: options.Feature = FeatureKind.intensity,
    calibration: options.CalibrationFile = None,
    alpha: options.Alpha = 0.05,
    plan: options.PlanFile = None,
    truth: options.Truth = None,
    modality: options.ModalityName = None,
    series: options.Series = None,
    channel: options.Channels = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for the results [default: runs/ID in the workspace].")
    ] = None,
    workspace: options.Workspace = Path(".r2seg"),
    store: options.Store = None,
    mask_format: options.MaskFamily = MaskFormat.nifti,
    seed: options.Seed = 0,
    rounds: options.Rounds = 3,
    seconds: options.Seconds = None,
    planner: options.Planner = "offline",
    base_url: options.BaseUrl = None,
    share_images: options.ShareImages = False,
    tokens: options.Tokens = 200_000,
    model_calls: options.ModelCalls = 40,
    synthetic: options.Synthetic = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON on stdout.")] = False,
    quiet: options.Quiet = False,
) -> None:
    """Find lesions: plan, locate organs, segment around them, reject what is normal tissue, report with evidence.

    Example: r2seg find "find the lung nodule" --image scan.nrrd --anchors hounsfield
    """
    given = locals()
    from r2seg_agent.cli._single import run_single

    def work(progress: Progress, ask: AskUser | None, opened: Callable[[Session], None]) -> FindResult:
        from r2seg_agent.runs.api import run_find

        return run_find(request, image, options.run_options(given), progress, ask=ask, opened=opened)

    run_single(work, as_json=as_json, quiet=quiet)
