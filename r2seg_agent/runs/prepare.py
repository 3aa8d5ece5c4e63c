"""What a run works with, checked before long work: options, scan, anchor source, segmenter, calibration, plans."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.errors import InputError
from r2seg_agent.imaging.channels import with_channels
from r2seg_agent.imaging.identity import volume_sha256
from r2seg_agent.imaging.in_memory import ScanInMemory
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
from r2seg_agent.reject.features import check_feature
from r2seg_agent.reject.gates import GateSettings
from r2seg_agent.reject.settings import Mode, RejectSettings, describe_mode
from r2seg_agent.runs.loaded import LoadedModels
from r2seg_agent.runs.options import RunOptions
from r2seg_agent.segment.checks import check_channels, check_plan
from r2seg_agent.segment.orientations import ThreeOrientations
from r2seg_agent.segment.protocol import Segmenter
from r2seg_agent.store.artifacts import recipe_sha256
from r2seg_agent.version import __version__


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
    image: str | ScanInMemory, options: RunOptions, progress: Progress = silent, models: LoadedModels | None = None
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
    volume = read_scan(image, options, notes.append)
    segmenter.check(volume.modality)
    volume = with_channels(volume, str(image), options.channels, notes.append)
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


def read_scan(image: str | ScanInMemory, options: RunOptions, note: Callable[[str], None]) -> Volume:
    """The scan, from its file or from memory: both go through the same checks. Raises `InputError`."""
    modality = modality_named(options.modality)
    if not isinstance(image, ScanInMemory):
        return read_image(image, series=options.series, modality=modality, note=note)
    if options.series is not None:
        raise InputError(
            f"a scan in memory has no series to choose from, and series `{options.series}` was asked for",
            "Leave out `series`, or give the DICOM folder.",
        )
    return image.volume(modality, note)


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
