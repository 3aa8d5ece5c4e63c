"""`r2seg chat`: a conversation over one scan."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from r2seg_agent.cli import _options as options
from r2seg_agent.cli._options import FeatureKind, MaskFormat, RejectMode
from r2seg_agent.cli._picture import Pictures

if TYPE_CHECKING:
    from r2seg_agent.progress import Progress
    from r2seg_agent.runs.session import Session

_OF_THIS_PROCESS = ("image", "resume", "workspace", "pictures")


def chat_command(
    context: typer.Context,
    image: Annotated[
        str | None,
        typer.Argument(
            help="NIfTI, NRRD, MetaImage, a DICOM folder or file, PNG, JPEG or TIFF. With --resume: where it moved.",
            show_default=False,
        ),
    ] = None,
    resume: Annotated[
        str | None, typer.Option("--resume", help="Go on with this session: its id, or how it begins.", metavar="ID")
    ] = None,
    anchors: options.Anchors = "auto",
    segmenter: options.Segmenter = "auto",
    orientations: options.Orientations = 1,
    reject: options.Reject = RejectMode.auto,
    feature: options.Feature = FeatureKind.intensity,
    calibration: options.CalibrationFile = None,
    alpha: options.Alpha = 0.05,
    plan: options.PlanFile = None,
    truth: options.Truth = None,
    modality: options.ModalityName = None,
    series: options.Series = None,
    channel: options.Channels = None,
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
    pictures: Annotated[
        Pictures,
        typer.Option("--pictures", help="How slices are shown: by the terminal's own graphics, as blocks, or by name."),
    ] = Pictures.auto,
) -> None:
    """Talk about a scan: find lesions, ask how big and where, why something was rejected, look wider, undo.

    In a script, lines come from stdin: printf 'find the lung nodule\\nhow big is it?\\n' | r2seg chat scan.nrrd
    """
    given = locals()
    from r2seg_agent.cli.conversation.loop import hold_chat
    from r2seg_agent.errors import InputError

    if image is None and resume is None:
        raise InputError("no image was given", "r2seg chat IMAGE, or r2seg chat --resume ID.")
    own = {"store": store, "planner": planner, "base_url": base_url}
    budget = {"seconds": seconds, "tokens": tokens, "model_calls": model_calls}
    if resume is not None:
        fixed = [name for name in _given(context) if name not in (*own, *budget, *_OF_THIS_PROCESS)]
        if fixed:
            words = ", ".join(f"--{name.replace('_', '-')}" for name in fixed)
            raise InputError(
                f"a session keeps what it was started with: {words} cannot be given with --resume",
                "Leave it out, or start a new session without --resume.",
            )
        changes = {name: value for name, value in (own | budget).items() if name in _given(context)}

        def go_on(progress: Progress) -> Session:
            from r2seg_agent.runs.api import reopen

            return reopen(resume, workspace, progress, image=image, changes={**changes, "interactive": True})

        hold_chat(go_on, workspace, pictures)
        return

    def start(progress: Progress) -> Session:
        from r2seg_agent.runs.api import open_chat

        assert image is not None
        return open_chat(image, options.run_options(given), progress)

    hold_chat(start, workspace, pictures)


def _given(context: typer.Context) -> list[str]:
    """Names of the parameters that stand on the command line."""
    return [name for name in context.params if str(context.get_parameter_source(name)).endswith("COMMANDLINE")]
