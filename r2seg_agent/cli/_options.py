"""Options that several verbs share, declared once: the same word means the same everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from r2seg_agent.runs.options import RunOptions


class RejectMode(StrEnum):
    """How candidates are rejected (docs/guide/first-scan.md)."""

    auto = "auto"
    paper = "paper"
    conformal = "conformal"


class PresetName(StrEnum):
    """Which parts of the method take part (docs/evidence/results.md)."""

    full = "full"
    baseline = "baseline"
    roi = "+roi"
    roi_reject = "+roi+reject"
    gates = "+gates"
    conformal = "conformal"


class FeatureKind(StrEnum):
    """What the rejection test sees of a voxel (docs/develop/architecture.md)."""

    intensity = "intensity"
    multiscale = "multiscale"
    segmenter = "segmenter"


class MaskFormat(StrEnum):
    """File family of the lesion mask."""

    nifti = "nifti"
    same = "same"


class LayoutKind(StrEnum):
    """How a data set lies on disk (docs/guide/data-sets.md)."""

    table = "table"
    folder = "folder"
    bids = "bids"
    nnunet = "nnunet"
    msd = "msd"


class EngineKind(StrEnum):
    """What carries the cases of a data set out (docs/evidence/scale.md)."""

    local = "local"
    ray = "ray"


Anchors = Annotated[
    str,
    typer.Option(
        "--anchors",
        "-a",
        help="Where organs are: `auto`, `totalsegmentator[:full|fast|fastest]`, `hounsfield`, or a path to a label "
        "map with names, a folder of masks, or MASK=ORGAN.",
    ),
]
Segmenter = Annotated[
    str,
    typer.Option(
        "--segmenter",
        "-s",
        help="Segmenter by name (`auto`: lite-medsam where its weights are, else contrast), or a model of your own: "
        "`nnunet:PATH`, `bundle:PATH`, `totalseg:TASK`; see `r2seg doctor`.",
    ),
]
Orientations = Annotated[
    int,
    typer.Option(
        "--orientations", min=1, max=3, help="1, or 3: a model of slices looks from three sides; slower, fused."
    ),
]
Feature = Annotated[
    FeatureKind,
    typer.Option("--feature", help="What the rejection test compares: grey values, several scales, the model's maps."),
]
Reject = Annotated[
    RejectMode,
    typer.Option(
        "--reject",
        "-r",
        help="How candidates are rejected: `paper` (p-values not valid), `conformal` (valid, needs --calibration), or "
        "`auto`: conformal where a calibration is given.",
    ),
]
Preset = Annotated[
    PresetName,
    typer.Option(
        "--preset",
        help="Leave parts of the method out, for comparisons: `baseline` (the model alone on the whole image), `+roi` "
        "(its regions, nothing tested), `+roi+reject` (no gates), `+gates` (the paper's gates alone), `conformal`.",
    ),
]
CalibrationFile = Annotated[
    Path | None, typer.Option("--calibration", help="Calibration file for `--reject conformal`.")
]
Alpha = Annotated[float, typer.Option("--alpha", help="Level of the rejection test, between 0 and 1.")]
PlanFile = Annotated[
    Path | None,
    typer.Option("--plan", help="Search by this plan (JSON, e.g. an edited plan.json) and skip planning."),
]
Truth = Annotated[
    str | None,
    typer.Option(
        "--truth", help="Reference mask, DICOM SEG or RTSTRUCT (FILE::NAME): adds Dice, sensitivity and precision."
    ),
]
ModalityName = Annotated[
    str | None, typer.Option("--modality", help="CT, MR, PT, US, XR or photo, where the file does not say.")
]
Series = Annotated[str | None, typer.Option("--series", help="Which series of a DICOM folder: its key or number.")]
Channels = Annotated[
    list[str] | None,
    typer.Option(
        "--channel", help="A further image of the case as NAME=FILE (T1c=t1c.nii.gz), for models that take several."
    ),
]
Workspace = Annotated[Path, typer.Option("--workspace", "-w", help="Folder for cached steps and runs.")]
Store = Annotated[
    str | None,
    typer.Option("--store", help="Checkpoint database: postgresql://… [default: SQLite in the workspace]."),
]
MaskFamily = Annotated[
    MaskFormat, typer.Option("--mask-format", help="`nifti`, or `same` for the family of the input.")
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of everything random.")]
Rounds = Annotated[int, typer.Option("--rounds", min=1, max=3, help="Most rounds of widening.")]
Seconds = Annotated[
    float | None, typer.Option("--seconds", min=0.0, help="Time budget; the current step is always finished.")
]
Planner = Annotated[
    str,
    typer.Option(
        "--planner", "-p", help="Who plans: `offline` (rules, a stand-in), or a language model as PROVIDER:MODEL."
    ),
]
BaseUrl = Annotated[
    str | None, typer.Option("--base-url", help="Address of an OpenAI-compatible server for the planner's model.")
]
ShareImages = Annotated[
    bool,
    typer.Option(
        "--share-images", help="Let a language model that can see have the overlay pictures; they leave the machine."
    ),
]
Tokens = Annotated[int, typer.Option("--tokens", min=0, help="Most tokens for the planner's model.")]
ModelCalls = Annotated[int, typer.Option("--model-calls", min=0, help="Most calls of the planner's model.")]
Synthetic = Annotated[
    bool, typer.Option("--synthetic", help="The scan holds synthetic content; every result will say so.")
]
Layout = Annotated[
    LayoutKind | None, typer.Option("--layout", help="Of the data set [default: seen from its files, and said].")
]
LesionLabels = Annotated[
    list[str] | None,
    typer.Option(
        "--lesion-label",
        help="Which label is the lesion, by name or number; `none`: use no truth. Repeatable.",
    ),
]
Only = Annotated[
    list[str] | None,
    typer.Option("--only", help="Only scans whose name or path in the data set fits: '*_T1w.nii.gz'. Repeatable."),
]
Workers = Annotated[
    int, typer.Option("--workers", min=1, help="Worker processes; each computes with one thread unless told otherwise.")
]
Engine = Annotated[EngineKind, typer.Option("--engine", help="`local`: this machine; `ray`: a cluster (extra `ray`).")]
Address = Annotated[
    str | None, typer.Option("--address", help="Address of a running Ray cluster [default: one on this machine].")
]
GpusPerWorker = Annotated[
    float,
    typer.Option("--gpus-per-worker", min=0.0, help="GPUs of its own for each worker; 0.5: two workers share one."),
]
CaseTimeout = Annotated[
    float | None, typer.Option("--timeout", min=0.1, help="Most seconds for one case; a hang is then killed.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only the answer.")]


def run_options(given: Mapping[str, object]) -> RunOptions:
    """The `RunOptions` among a verb's parameters (its `locals()` before anything else is assigned)."""
    from r2seg_agent.imaging.channels import parse_channels
    from r2seg_agent.runs.options import RunOptions

    chosen = {
        name: value.value if isinstance(value, StrEnum) else value
        for name, value in given.items()
        if name in RunOptions.model_fields
    }
    channel = given.get("channel") or ()
    assert isinstance(channel, list | tuple)
    return RunOptions.model_validate({**chosen, "channels": parse_channels(channel)})
