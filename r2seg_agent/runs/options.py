"""`RunOptions`: every option of a run, declared once: type, default, range, help, and its form on the command line.

The command line (`cli/_run_command.py`), the command of a batch's case (`batch/command.py`), resumed sessions, the
Python API and its generated types (`option_types.py`) read the declarations from here. CONTRIBUTING.md adds an option.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ModelWrapValidatorHandler, ValidationError, field_validator, model_validator

from r2seg_agent.errors import InputError
from r2seg_agent.frozen import Frozen
from r2seg_agent.method.presets import Preset
from r2seg_agent.names import utf8_paths
from r2seg_agent.reject.alpha import DEFAULT_ALPHA, Alpha, Confidence, FalseFindings
from r2seg_agent.reject.features import FeatureName
from r2seg_agent.reject.gates import GateSettings
from r2seg_agent.reject.scores import ScoreName
from r2seg_agent.runs.declaration import Cli, RunOption, declared_options, option_error
from r2seg_agent.segment.registry import AUTO, default_segmenter

_CASE_VERBS = ("find", "chat")
_RUN_VERBS = ("find", "chat", "batch")
_PLANNER_VERBS = ("find", "chat", "batch", "ablate")


class RunOptions(Frozen):
    """Everything that `find` and `chat` take besides the request and the image; the defaults are the command line's.

    Raises `InputError` that names the option, what was given and what is allowed.
    """

    anchors: Annotated[
        str,
        Field(
            description="Source of organ masks: `auto`, `totalsegmentator[:full|fast|fastest]`, `hounsfield`, "
            "`whole` (all of the picture is the organ), a path to a label map with names, a folder of masks, or "
            "MASK=ORGAN, or a model of your own whose classes are organs: `nnunet:PATH`, `bundle:PATH`. Presets "
            "without organs ignore it."
        ),
        Cli("Where to look", short="-a", metavar="SOURCE"),
    ] = "auto"
    segmenter: Annotated[
        str,
        Field(
            description="Segmenter by name (`auto`: the best that is here for the target and the scan), a name from "
            "`r2seg models list`, or a model of your own: `nnunet:PATH`, `bundle:PATH`, `totalseg:TASK`.",
            validate_default=True,
        ),
        Cli("Model", short="-s", metavar="NAME"),
    ] = AUTO
    orientations: Annotated[
        int,
        Field(description="1, or 3: a model of slices also segments coronal and sagittal slices; slower, fused."),
        Cli("Model", metavar="1|3"),
    ] = 1
    preset: Annotated[
        Preset,
        Field(
            description="`full`, or leave parts of the method out, for comparisons: `baseline` (the model alone on the "
            "whole image), `+roi` (its regions, nothing tested), `+roi+reject` (no gates), `+gates` (the paper's gates "
            "alone), `conformal`."
        ),
        Cli("Test", verbs=("find", "batch")),
    ] = "full"
    reject: Annotated[
        Literal["auto", "reference", "paper", "conformal", "score"],
        Field(
            description="How candidates are rejected: `reference` (by a frozen score, with what such scores were worth "
            "on a reference set), `paper` (the paper's test; p-values not valid), `conformal` (valid, needs "
            "--calibration), or `auto`: conformal where a calibration is given, else reference."
        ),
        Cli("Test", short="-r", verbs=_RUN_VERBS, internal_choices=("score",)),
    ] = "auto"
    false_findings: Annotated[
        FalseFindings,
        Field(
            description="Reference mode: how long the list is, as false findings an image that the reference set had "
            "at this cut. More of them, more lesions found."
        ),
        Cli("Test", verbs=_RUN_VERBS, metavar="0.5|1|3"),
    ] = "1"
    score: Annotated[
        ScoreName,
        Field(description="Score that ranks candidates; with a calibration, the calibration's own score is used."),
        Cli("Test", verbs=("calibrate",)),
    ] = "scan_statistic"
    feature: Annotated[
        FeatureName,
        Field(
            description="What the rejection test compares: `intensity` (grey values), `multiscale` (grey values on "
            "several scales), or `segmenter` (the model's feature maps)."
        ),
        Cli("Test", verbs=("find", "chat", "batch", "calibrate")),
    ] = "intensity"
    calibration: Annotated[
        Path | None,
        Field(description="Calibration file for `--reject conformal`; `r2seg calibrate` makes one."),
        Cli("Test", metavar="FILE", verbs=_RUN_VERBS),
    ] = None
    alpha: Annotated[Alpha, Field(description="Level of the rejection test."), Cli("Test")] = DEFAULT_ALPHA
    confidence: Annotated[
        Confidence | None,
        Field(
            description="With a calibration: how sure its own level is to be at most alpha, e.g. 0.9; needs more cases "
            "(alpha 0.05: 45 for 0.9, 59 for 0.95)."
        ),
        Cli("Test", verbs=_RUN_VERBS, default="alpha is the mean over calibrations"),
    ] = None
    plan: Annotated[
        Path | None,
        Field(description="Search by this plan (JSON, e.g. an edited plan.json) and skip planning."),
        Cli("Where to look", metavar="FILE", verbs=("find", "chat", "fork")),
    ] = None
    truth: Annotated[
        str | None,
        Field(description="Reference mask, DICOM SEG or RTSTRUCT (FILE::NAME): adds Dice, sensitivity and precision."),
        Cli("Scan", metavar="FILE", verbs=_CASE_VERBS),
    ] = None
    modality: Annotated[
        str | None,
        Field(description="CT, MR, PT, US, XR or photo, where the file does not say."),
        Cli("Scan", metavar="NAME"),
    ] = None
    series: Annotated[
        str | None,
        Field(description="Which series of a DICOM folder: its key or number."),
        Cli("Scan", metavar="KEY", verbs=_CASE_VERBS),
    ] = None
    out: Annotated[
        Path | None,
        Field(description="Folder for the results."),
        Cli("Output", short="-o", metavar="FOLDER", verbs=("find",), place=True, default="runs/ID in the workspace"),
    ] = None
    workspace: Annotated[
        Path,
        Field(description="Folder for cached steps and runs."),
        Cli(
            "Output",
            short="-w",
            metavar="FOLDER",
            verbs=("find", "chat", "calibrate", "resume", "fork"),
            place=True,
        ),
    ] = Path(".r2seg")
    store: Annotated[
        str | None,
        Field(description="Checkpoint database: postgresql://…; it may hold a password and is never written down."),
        Cli(
            "Output",
            metavar="URL",
            verbs=("find", "chat", "resume", "fork"),
            process=True,
            changeable=True,
            default="SQLite in the workspace",
        ),
    ] = None
    mask_format: Annotated[
        Literal["nifti", "same"],
        Field(description="Format of masks: `nifti`, or `same` for the format of the input."),
        Cli("Output", verbs=_RUN_VERBS),
    ] = "nifti"
    seed: Annotated[int, Field(description="Seed of everything random.", ge=0), Cli("Test")] = 0
    rounds: Annotated[int, Field(description="Most rounds of widening.", ge=1, le=3), Cli("Where to look")] = 3
    seconds: Annotated[
        float | None,
        Field(description="Time budget in seconds; the current step is always finished.", ge=0),
        Cli("Budget", verbs=(*_RUN_VERBS, "resume"), changeable=True, default="no limit"),
    ] = None
    tokens: Annotated[
        int,
        Field(description="Most tokens for the planner's model.", ge=0),
        Cli("Budget", verbs=(*_PLANNER_VERBS, "resume"), changeable=True),
    ] = 200_000
    model_calls: Annotated[
        int,
        Field(description="Most calls of the planner's model.", ge=0),
        Cli("Budget", verbs=(*_PLANNER_VERBS, "resume"), changeable=True),
    ] = 40
    planner: Annotated[
        str,
        Field(
            description="`offline` (rules, which stand in for a language model), or a language model as PROVIDER:MODEL."
        ),
        Cli("Planner", short="-p", metavar="NAME", verbs=(*_PLANNER_VERBS, "resume"), changeable=True),
    ] = "offline"
    base_url: Annotated[
        str | None,
        Field(description="Address of an OpenAI-compatible server for the planner's model."),
        Cli("Planner", metavar="URL", verbs=(*_PLANNER_VERBS, "resume"), changeable=True),
    ] = None
    share_images: Annotated[
        bool,
        Field(description="Send the overlay pictures to a language model that can see; they leave the machine."),
        Cli("Planner", verbs=_CASE_VERBS),
    ] = False
    overlays: Annotated[
        bool,
        Field(description="Draw overlay pictures; drawing takes longer than a small search."),
        Cli("Output", negation="--no-overlays", verbs=_RUN_VERBS),
    ] = True
    interactive: Annotated[
        bool, Field(description="A person is there to answer questions."), Cli(verbs=(), process=True)
    ] = False
    synthetic: Annotated[
        bool,
        Field(description="The scan holds synthetic content; every result says so."),
        Cli("Scan", verbs=_PLANNER_VERBS),
    ] = False
    channels: Annotated[
        Mapping[str, str],
        Field(
            description="A further image of the case as NAME=FILE (T1c=t1c.nii.gz), for models that take several. "
            "Repeatable."
        ),
        Cli("Scan", flag="--channel", metavar="NAME=FILE", verbs=_CASE_VERBS),
    ] = {}
    gates: Annotated[GateSettings, Field(description="Thresholds of the gates."), Cli(verbs=())] = GateSettings()

    @model_validator(mode="wrap")
    @classmethod
    def _plain_errors(cls, value: object, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Errors for the person who gave the option, whether at the command line, in Python or in a file."""
        try:
            return handler(utf8_paths(value))
        except ValidationError as error:
            raise option_error(error, OPTIONS) from error

    @field_validator("segmenter")
    @classmethod
    def _default_of_this_machine(cls, name: str) -> str:
        """`auto` is what the environment names, if it names one; else `prepare` chooses for the scan."""
        return default_segmenter() if name == AUTO else name

    @field_validator("orientations")
    @classmethod
    def _one_or_three(cls, number: int) -> int:
        if number not in (1, 3):
            raise InputError(
                f"`--orientations` is 1 or 3, got {number}", "1: axial slices alone; 3: coronal and sagittal ones too."
            )
        return number

    def changed(self, changes: Mapping[str, object]) -> Self:
        """A checked copy with other values of some options. Raises `InputError` as the constructor does."""
        own = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self).model_validate({**own, **changes})


OPTIONS: Mapping[str, RunOption] = declared_options(RunOptions)
"""Every option by name, in the order of declaration."""
NOT_SAVED = frozenset(name for name, option in OPTIONS.items() if option.cli.process)
"""Options of one process; a run's folder does not hold them."""
PROCESS_OPTIONS = NOT_SAVED | {name for name, option in OPTIONS.items() if option.cli.place}
"""Options that say where and how, not what: two runs that differ in these alone have the same results."""
CHANGEABLE = frozenset(name for name, option in OPTIONS.items() if option.cli.changeable)
"""Options that may differ when a run or session is resumed."""
