"""What a run works with, checked before long work: options, scan, anchor source, segmenter, calibration, plans."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from r2seg_agent.errors import InputError
from r2seg_agent.frozen import Frozen
from r2seg_agent.imaging.channels import with_channels
from r2seg_agent.imaging.identity import volume_sha256
from r2seg_agent.imaging.read import read_image
from r2seg_agent.imaging.volume import Modality, Volume
from r2seg_agent.method.models import ImageInfo
from r2seg_agent.method.presets import PARTS, Parts, Preset
from r2seg_agent.progress import Progress, silent
from r2seg_agent.reason.anchors.protocol import AnchorSource
from r2seg_agent.reason.anchors.whole_image import WholeImage
from r2seg_agent.reason.plan import AnatomyPlan
from r2seg_agent.reason.plan_file import load_plan
from r2seg_agent.reject.calibration import Calibration, holds_case
from r2seg_agent.reject.features import FeatureName, check_feature
from r2seg_agent.reject.gates import GateSettings
from r2seg_agent.reject.scores import ScoreName
from r2seg_agent.reject.settings import Mode, RejectSettings, describe_mode
from r2seg_agent.runs.loaded import LoadedModels
from r2seg_agent.segment.checks import check_channels, check_plan
from r2seg_agent.segment.orientations import ThreeOrientations
from r2seg_agent.segment.protocol import Segmenter
from r2seg_agent.segment.registry import AUTO, default_segmenter
from r2seg_agent.store.artifacts import recipe_sha256
from r2seg_agent.version import __version__


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


@dataclass(frozen=True)
class Prepared:
    """Checked inputs of a run. `warnings` came up while reading; `identity` is all that can change its results.

    `preset` and what it comes to: the `parts` that take part, and the `gates`.
    """

    volume: Volume
    image: ImageInfo
    source: AnchorSource
    segmenter: Segmenter
    preset: Preset
    parts: Parts
    gates: GateSettings
    reject: RejectSettings
    calibration: Calibration | None
    plans: tuple[AnatomyPlan, ...]
    truth: NDArray[np.uint8] | NDArray[np.uint16] | None
    warnings: tuple[str, ...]
    identity: dict[str, object]

    def run_id(self, request: str) -> str:
        """The id of a single run: the same question to the same scan by the same means is the same run."""
        return recipe_sha256({**self.identity, "request": request})[:12]


def prepare(
    image: str, options: RunOptions, progress: Progress = silent, models: LoadedModels | None = None
) -> Prepared:
    """Read and check everything; what can be wrong with the input is found here. `models` are those already loaded.

    Raises `InputError` for what cannot be used and `MissingDependencyError` for what is not on this machine.
    """
    if not 0 < options.alpha < 1:
        raise InputError(f"--alpha must lie between 0 and 1, got {options.alpha:g}")
    _check_preset(options)
    parts = PARTS[options.preset]
    models = models or LoadedModels()
    segmenter = models.segmenter(options.segmenter)
    if options.orientations == 3:
        segmenter = ThreeOrientations(segmenter)
    check_feature(options.feature, segmenter)
    source: AnchorSource = models.anchor_source(options.anchors) if parts.regions else WholeImage()
    calibration = None if options.calibration is None else models.calibration(options.calibration)
    mode: Mode = "paper" if calibration is None else "conformal"
    if options.reject != "auto":
        mode = options.reject
    mode = parts.reject or mode
    gates = options.gates.model_copy(update={"ours": False}) if parts.gates == "paper" else options.gates
    score = options.score if calibration is None else calibration.identity.score
    if mode == "none":
        score = "segmenter_mass"  # what the model itself says of a candidate
    reject = RejectSettings.model_validate(
        {"mode": mode, "alpha": options.alpha, "score": score, "feature": options.feature}
    )
    describe_mode(reject, calibration)
    plans = load_plan(options.plan).plans if options.plan is not None else ()
    progress("read", 0, 1, "image")
    notes: list[str] = []
    volume = read_image(image, series=options.series, modality=modality_named(options.modality), note=notes.append)
    segmenter.check(volume.modality)
    volume = with_channels(volume, image, options.channels, notes.append)
    notes.extend(check_channels(segmenter, volume))
    for plan in plans:
        check_plan(segmenter, plan)
        source.check(volume.modality, plan.anchors)
    truth = _read_truth(options.truth, volume) if options.truth is not None else None
    sha256 = volume_sha256(volume)
    if mode == "conformal" and calibration is not None and holds_case(calibration, sha256):
        raise InputError(
            "this scan is one of the calibration's own lesion-free cases: it cannot be judged by itself",
            "Calibrate without it, or use `--reject paper`.",
        )
    progress("read", 1, 1, "image")
    info = ImageInfo(
        name=volume.name,
        sha256=sha256,
        geometry=volume.geometry,
        modality=volume.modality,
        unit=volume.unit,
        synthetic=options.synthetic,
    )
    own_masks = parts.regions and options.anchors not in ("auto", "hounsfield")
    named = options.anchors if parts.regions else "none"
    identity: dict[str, object] = {
        "r2seg": __version__,
        "image": sha256,
        "modality": volume.modality,
        "anchors": source.info.model_dump(mode="json") if own_masks else named,
        "segmenter": segmenter.info.model_dump(mode="json"),
        "preset": options.preset,
        "reject": reject.model_dump(mode="json"),
        "gates": None if parts.gates == "none" else gates.model_dump(mode="json"),
        "calibration": None if calibration is None else calibration.contents_sha256,
        "plans": [plan.model_dump(mode="json") for plan in plans],
        "planner": options.planner,
        "budget": [parts.rounds(options.rounds), options.tokens, options.model_calls],
        "seed": options.seed,
        "synthetic": options.synthetic,
    }
    return Prepared(
        volume=volume,
        image=info,
        source=source,
        segmenter=segmenter,
        preset=options.preset,
        parts=parts,
        gates=gates,
        reject=reject,
        calibration=calibration,
        plans=plans,
        truth=truth,
        warnings=tuple(notes),
        identity=identity,
    )


def _check_preset(options: RunOptions) -> None:
    """Raise `InputError` where other options contradict the preset, or it lacks its calibration."""
    preset, settled = options.preset, PARTS[options.preset].reject
    if settled is None:
        return
    if options.reject not in ("auto", settled):
        raise InputError(
            f"preset `{preset}` settles how candidates are rejected (`{settled}`); `{options.reject}` was asked for",
            "Leave out --reject, or leave out --preset.",
        )
    if settled == "conformal" and options.calibration is None:
        raise InputError(
            "preset `conformal` needs a calibration (--calibration), and none was given",
            "`r2seg calibrate` makes one from lesion-free scans (19 patients for alpha 0.05); without one the preset "
            "`+gates` is the last step of the paper's method.",
        )
    if settled != "conformal" and options.calibration is not None:
        raise InputError(
            f"preset `{preset}` has no use for a calibration", "Leave out --calibration, or use `--preset conformal`."
        )


def without_paths(message: str, image: str, options: RunOptions) -> str:
    """An error message for the trace: names that the user typed may name a patient."""
    own = (options.anchors.rpartition("=")[0], options.anchors, *_truth_paths(options), *options.channels.values())
    model = (options.segmenter, options.segmenter.partition(":")[2].partition("#")[0])
    for path in (image, *own, *model):
        if len(path) > 1 and ("/" in path or "." in path):
            message = message.replace(path, "(a file of the user)")
    return message


def _truth_paths(options: RunOptions) -> tuple[str, ...]:
    """The truth as it was given, and the file of `FILE::2`."""
    return () if options.truth is None else (options.truth, options.truth.rpartition("::")[0])


def modality_named(text: str | None) -> Modality | None:
    """What `--modality` means, whatever its case. Raises `InputError` that lists the names."""
    if text is None:
        return None
    legal: tuple[Modality, ...] = get_args(Modality)
    for modality in legal:
        if modality.lower() == text.lower():
            return modality
    raise InputError(f"`--modality {text}` is unknown; there are: {', '.join(legal)}")


def _read_truth(path: str, volume: Volume) -> NDArray[np.uint8] | NDArray[np.uint16]:
    from r2seg_agent.imaging.masks import read_reference

    return read_reference(path, volume.geometry)
