"""`RunOptions`: every option of a run, declared once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from r2seg_agent.errors import InputError
from r2seg_agent.frozen import Frozen
from r2seg_agent.method.presets import Preset
from r2seg_agent.reject.features import FeatureName
from r2seg_agent.reject.gates import GateSettings
from r2seg_agent.reject.scores import ScoreName
from r2seg_agent.segment.registry import AUTO, default_segmenter


class RunOptions(Frozen):
    """Everything that `find` and `chat` take besides the request and the image; the defaults are the command line's.

    `store` is the URL of a checkpoint database; it may hold a password and is never written down. `channels` are
    further images of the case, name → file. `reject` auto is conformal with a calibration and paper without one;
    `score` is that of the calibration where one is given. `preset` leaves parts of the method out (`presets.py`); one
    that locates no organ has no use for `anchors`. Without `overlays` none is drawn; drawing takes longer than a
    small search.
    """

    anchors: str = "auto"
    segmenter: Annotated[str, Field(validate_default=True)] = AUTO
    orientations: int = 1
    preset: Preset = "full"
    reject: Literal["auto", "paper", "conformal", "score"] = "auto"
    score: ScoreName = "scan_statistic"
    feature: FeatureName = "intensity"
    calibration: Path | None = None
    alpha: float = 0.05
    plan: Path | None = None
    truth: str | None = None
    modality: str | None = None
    series: str | None = None
    channels: Mapping[str, str] = {}
    out: Path | None = None
    workspace: Path = Path(".r2seg")
    store: str | None = None
    mask_format: Literal["nifti", "same"] = "nifti"
    seed: Annotated[int, Field(ge=0)] = 0
    rounds: Annotated[int, Field(ge=1, le=3)] = 3
    seconds: Annotated[float, Field(ge=0)] | None = None
    tokens: Annotated[int, Field(ge=0)] = 200_000
    model_calls: Annotated[int, Field(ge=0)] = 40
    planner: str = "offline"
    base_url: str | None = None
    share_images: bool = False
    overlays: bool = True
    interactive: bool = False
    synthetic: bool = False
    gates: GateSettings = GateSettings()

    @field_validator("segmenter")
    @classmethod
    def _what_auto_means(cls, name: str) -> str:
        """Settled once, here: a run that goes on elsewhere goes on with the segmenter that it began with."""
        return default_segmenter() if name == AUTO else name

    @field_validator("orientations")
    @classmethod
    def _one_or_three(cls, number: int) -> int:
        if number not in (1, 3):
            raise InputError(f"`--orientations` is 1 or 3, got {number}")
        return number
