"""The options of a run as static types. Generated from `runs/options.py` by `make format`: do not edit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypedDict

from r2seg_agent.reject.gates import GateSettings


class SearchFields(TypedDict, total=False):
    """The options of a search: the fields of `RunOptions` but `planner` and `out`, which functions name themselves."""

    anchors: str
    """Source of organ masks: `auto`, `totalsegmentator[:full|fast|fastest]`, `hounsfield`, `whole` (all of the
    picture is the organ), a path to a label map with names, a folder of masks, or MASK=ORGAN, or a model of your
    own whose classes are organs: `nnunet:PATH`, `bundle:PATH`. Presets without organs ignore it."""
    segmenter: str
    """Segmenter by name (`auto`: the best that is here for the target and the scan), a name from `r2seg models
    list`, or a model of your own: `nnunet:PATH`, `bundle:PATH`, `totalseg:TASK`."""
    orientations: int
    """1, or 3: a model of slices also segments coronal and sagittal slices; slower, fused."""
    preset: Literal["full", "baseline", "+roi", "+roi+reject", "+gates", "conformal"]
    """`full`, or leave parts of the method out, for comparisons: `baseline` (the model alone on the whole image),
    `+roi` (its regions, nothing tested), `+roi+reject` (no gates), `+gates` (the paper's gates alone),
    `conformal`."""
    reject: Literal["auto", "reference", "paper", "conformal", "score"]
    """How candidates are rejected: `reference` (by a frozen score, with what such scores were worth on a reference
    set), `paper` (the paper's test; p-values not valid), `conformal` (valid, needs --calibration), or `auto`:
    conformal where a calibration is given, else reference."""
    false_findings: Literal["0.5", "1", "3"]
    """Reference mode: how long the list is, as false findings an image that the reference set had at this cut. More
    of them, more lesions found."""
    score: Literal[
        "mmd2",
        "mmd2_volume",
        "contrast_log_volume",
        "contrast_sqrt_volume",
        "segmenter_mass",
        "scan_statistic",
        "scan_radius",
        "region",
    ]
    """Score that ranks candidates; with a calibration, the calibration's own score is used."""
    feature: Literal["intensity", "multiscale", "segmenter"]
    """What the rejection test compares: `intensity` (grey values), `multiscale` (grey values on several scales), or
    `segmenter` (the model's feature maps)."""
    calibration: str | Path | None
    """Calibration file for `--reject conformal`; `r2seg calibrate` makes one."""
    alpha: float
    """Level of the rejection test."""
    confidence: float | None
    """With a calibration: how sure its own level is to be at most alpha, e.g. 0.9; needs more cases (alpha 0.05: 45
    for 0.9, 59 for 0.95)."""
    plan: str | Path | None
    """Search by this plan (JSON, e.g. an edited plan.json) and skip planning."""
    truth: str | None
    """Reference mask, DICOM SEG or RTSTRUCT (FILE::NAME): adds Dice, sensitivity and precision."""
    modality: str | None
    """CT, MR, PT, US, XR or photo, where the file does not say."""
    series: str | None
    """Which series of a DICOM folder: its key or number."""
    workspace: str | Path
    """Folder for cached steps and runs."""
    store: str | None
    """Checkpoint database: postgresql://…; it may hold a password and is never written down."""
    mask_format: Literal["nifti", "same"]
    """Format of masks: `nifti`, or `same` for the format of the input."""
    seed: int
    """Seed of everything random."""
    rounds: int
    """Most rounds of widening."""
    seconds: float | None
    """Time budget in seconds; the current step is always finished."""
    tokens: int
    """Most tokens for the planner's model."""
    model_calls: int
    """Most calls of the planner's model."""
    base_url: str | None
    """Address of an OpenAI-compatible server for the planner's model."""
    share_images: bool
    """Send the overlay pictures to a language model that can see; they leave the machine."""
    overlays: bool
    """Draw overlay pictures; drawing takes longer than a small search."""
    interactive: bool
    """A person is there to answer questions."""
    synthetic: bool
    """The scan holds synthetic content; every result says so."""
    channels: Mapping[str, str]
    """A further image of the case as NAME=FILE (T1c=t1c.nii.gz), for models that take several. Repeatable."""
    gates: GateSettings
    """Thresholds of the gates."""


class OptionFields(SearchFields, total=False):
    """What `**options` of the Python API may hold: the fields of `RunOptions`, all optional."""

    planner: str
    """`offline` (rules, which stand in for a language model), or a language model as PROVIDER:MODEL."""
    out: str | Path | None
    """Folder for the results."""
