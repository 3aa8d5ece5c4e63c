"""What a run works with, checked before long work: options, scan, anchor source, segmenter, calibration, plans."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.errors import InputError
from r2seg_agent.imaging.channels import with_channels
from r2seg_agent.imaging.files import file_of
from r2seg_agent.imaging.identity import volume_sha256
from r2seg_agent.imaging.in_memory import ScanInMemory
from r2seg_agent.imaging.read import read_image
from r2seg_agent.imaging.volume import Modality, Volume
from r2seg_agent.method.models import ImageInfo
from r2seg_agent.method.presets import PARTS, Parts, Preset
from r2seg_agent.progress import Progress, silent
from r2seg_agent.reason.anchors.protocol import AnchorSource
from r2seg_agent.reason.anchors.whole_image import NoAnchors
from r2seg_agent.reason.plan import AnatomyPlan
from r2seg_agent.reason.plan_file import load_plan
from r2seg_agent.reject.calibration import Calibration, cases_needed, holds_case, rounds_served
from r2seg_agent.reject.features import check_feature
from r2seg_agent.reject.gates import GateSettings
from r2seg_agent.reject.settings import Mode, RejectSettings, describe_mode, threshold_of
from r2seg_agent.runs.loaded import LoadedModels
from r2seg_agent.runs.options import PROCESS_OPTIONS, RunOptions
from r2seg_agent.runs.settle_segmenter import settle_segmenter
from r2seg_agent.segment.auto import SegmenterChoice
from r2seg_agent.segment.checks import check_anchors, check_channels, check_plan, check_scan
from r2seg_agent.segment.orientations import ThreeOrientations
from r2seg_agent.segment.protocol import OutlinesRegions, Segmenter
from r2seg_agent.segment.regions.score import shipped
from r2seg_agent.segment.registry import AUTO
from r2seg_agent.store.artifacts import recipe_sha256
from r2seg_agent.version import __version__

HELD_OTHERWISE = frozenset(
    {"anchors", "segmenter", "orientations", "feature", "preset", "plan", "rounds", "modality", "series", "channels"}
    | {"reject", "score", "false_findings", "calibration", "alpha", "confidence", "gates", "seed", "planner"}
    | {"tokens", "model_calls", "synthetic"}
    | {"truth", "mask_format", "seconds", "base_url", "share_images", "overlays"}
)
"""Options with an entry of their own in `identity` (as the masks, models, plans or voxels that they name), and, in the
last line, those that change no search: the truth, how files are written, where the planner's model runs and for how
long."""


class ReadVolume(NamedTuple):
    """The scan with its channels, and the warnings of the readers."""

    volume: Volume
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Scan:
    """The scan as it was read: its voxels, what reports say of it, and its reference mask where one was given.

    `truth` is (z, y, x) on the grid of `volume`. `warnings` are those of the readers.
    """

    volume: Volume
    info: ImageInfo
    truth: NDArray[np.uint8] | NDArray[np.uint16] | None
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Models:
    """What locates organs and what segments."""

    source: AnchorSource
    segmenter: Segmenter


@dataclass(frozen=True)
class RejectSetup:
    """How candidates are rejected: the Reject step, its gates, its calibration."""

    reject: RejectSettings
    gates: GateSettings
    calibration: Calibration | None


@dataclass(frozen=True)
class Prepared:
    """Checked inputs of a run. `warnings` are those of the readers; `identity` holds all that can change its results.

    `preset` and what follows from it: the `parts` that take part, and the `gates`. `rounds` are those of the search; a
    calibration may serve fewer than were asked for. `segmenter_spec` is what `--segmenter` takes; `choice` says why
    `auto` chose it, None where the user named it.
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
    rounds: int
    plans: tuple[AnatomyPlan, ...]
    truth: NDArray[np.uint8] | NDArray[np.uint16] | None
    warnings: tuple[str, ...]
    identity: dict[str, object]
    segmenter_spec: str
    choice: SegmenterChoice | None

    def run_id(self, request: str) -> str:
        """The id of a single run: the same request, scan, models and settings are the same run."""
        return recipe_sha256({**self.identity, "request": request})[:12]


def prepare(
    image: str | ScanInMemory,
    options: RunOptions,
    progress: Progress = silent,
    models: LoadedModels | None = None,
    *,
    request: str = "",
    choice: SegmenterChoice | None = None,
) -> Prepared:
    """Read and check everything; what can be wrong with the input is found here. `models` are those already loaded.

    `request` tells `--segmenter auto` what is searched for; a conversation has none yet. `choice` is the one of a run
    that goes on.

    Raises `InputError` for what cannot be used and `MissingDependencyError` for what is not on this machine.
    """
    _check_preset(options)
    parts, loaded = PARTS[options.preset], models or LoadedModels()
    plans = load_plan(options.plan).plans if options.plan is not None else ()
    read = None
    if options.segmenter == AUTO:  # what it means depends on the scan
        progress("read", 0, 1, "image")
        read = read_volume(image, options)
        spec, choice = settle_segmenter(read.volume, options, parts, loaded, plans, request)
        options = options.model_copy(update={"segmenter": spec})
    chosen = choose_models(options, parts, loaded)
    setup = settle_reject(options, parts, loaded, chosen.segmenter)
    progress("read", 0, 1, "image")
    scan = read_scan(image, options, chosen, plans, read)
    _check_not_calibrated_on(scan, setup)
    progress("read", 1, 1, "image")
    return Prepared(
        volume=scan.volume,
        image=scan.info,
        source=chosen.source,
        segmenter=chosen.segmenter,
        preset=options.preset,
        parts=parts,
        gates=setup.gates,
        reject=setup.reject,
        calibration=setup.calibration,
        rounds=setup.reject.rounds or parts.rounds(options.rounds),
        plans=plans,
        truth=scan.truth,
        warnings=scan.warnings,
        identity=identity(options, parts, scan, chosen, setup, plans, choice),
        segmenter_spec=options.segmenter,
        choice=choice,
    )


def choose_models(options: RunOptions, parts: Parts, loaded: LoadedModels) -> Models:
    """The segmenter and the anchor source that `options` name; a preset without regions locates no organ."""
    segmenter = loaded.segmenter(options.segmenter)
    if options.orientations == 3:
        segmenter = ThreeOrientations(segmenter)
    check_feature(options.feature, segmenter)
    source: AnchorSource = loaded.anchor_source(options.anchors) if parts.regions else NoAnchors()
    return Models(source, segmenter)


def settle_reject(options: RunOptions, parts: Parts, loaded: LoadedModels, segmenter: Segmenter) -> RejectSetup:
    """Mode, score and gates of the Reject step.

    Without a calibration `auto` is reference mode where the segmenter can outline the regions that it ranks, else the
    paper's. Raises `InputError` for conformal mode without a calibration.
    """
    calibration = None if options.calibration is None else loaded.calibration(options.calibration)
    mode: Mode = "reference" if isinstance(segmenter, OutlinesRegions) else "paper"
    if calibration is not None:
        mode = "conformal"
    if options.reject != "auto":
        mode = options.reject
    mode = parts.reject or mode
    score = options.score if calibration is None else calibration.identity.score
    if mode == "none":
        score = "segmenter_mass"  # the only score that needs no test: the model's own probabilities
    if mode == "reference":
        score = "region"
    reject = RejectSettings(
        mode=mode,
        alpha=options.alpha,
        score=score,
        feature=options.feature,
        confidence=options.confidence if mode == "conformal" else None,
    )
    if reject.ranks_regions:
        frozen, sha256 = shipped()
        most = options.false_findings
        cut = frozen.cuts[most] if mode == "reference" else None
        reject = reject.model_copy(update={"cut": cut, "false_findings": most, "region_score_sha256": sha256})
    describe_mode(reject, calibration)
    if mode == "conformal" and calibration is not None:
        wanted = min(parts.rounds(options.rounds), calibration.identity.rounds)
        served = rounds_served(calibration.n_cases, threshold_of(reject, calibration), wanted)
        reject = reject.model_copy(update={"rounds": served})
    gates = options.gates.model_copy(update={"ours": False}) if parts.gates == "paper" else options.gates
    return RejectSetup(reject, gates, calibration)


def read_volume(image: str | ScanInMemory, options: RunOptions) -> ReadVolume:
    """The scan with its channels."""
    notes: list[str] = []
    volume = _read_volume(image, options, notes.append)
    volume = with_channels(volume, str(image), options.channels, notes.append)
    return ReadVolume(volume, tuple(notes))


def read_scan(
    image: str | ScanInMemory,
    options: RunOptions,
    models: Models,
    plans: tuple[AnatomyPlan, ...],
    read: ReadVolume | None = None,
) -> Scan:
    """The scan with its channels and its truth; `read` where it was read already. Raises `InputError` where it, or a
    plan, does not fit `models`.
    """
    volume, read_notes = read or read_volume(image, options)
    notes = list(read_notes)
    models.segmenter.check(volume.modality)
    notes.extend(check_channels(models.segmenter, volume))
    check_scan(models.segmenter, volume)
    notes.extend(check_anchors(models.source, volume))
    notes.extend(check_plans(plans, volume, models))
    truth = _read_truth(options.truth, volume, notes.append) if options.truth is not None else None
    info = ImageInfo(
        name=volume.name,
        sha256=volume_sha256(volume),
        geometry=volume.geometry,
        modality=volume.modality,
        unit=volume.unit,
        synthetic=options.synthetic,
    )
    return Scan(volume, info, truth, tuple(notes))


def check_plans(plans: Sequence[AnatomyPlan], volume: Volume, models: Models) -> tuple[str, ...]:
    """Remarks on what is searched in place of the plans' targets; `InputError` where a plan does not fit the scan or
    its models.
    """
    remarks: list[str] = []
    for plan in plans:
        remarks.extend(check_plan(models.segmenter, plan))
        if plan.window is not None and volume.modality == "CT" and volume.unit != "HU":
            raise InputError(
                f"the plan has a window of {plan.window[0]:g} to {plan.window[1]:g} HU, and this CT holds grey values "
                "for a screen, not HU",
                "Set `window` to null in the plan, or give the original scan in HU.",
            )
        models.source.check(volume.modality, plan.anchors)
    return tuple(remarks)


def _read_volume(image: str | ScanInMemory, options: RunOptions, note: Callable[[str], None]) -> Volume:
    """From a file or from memory: both go through the same checks."""
    modality = modality_named(options.modality)
    if not isinstance(image, ScanInMemory):
        return read_image(image, series=options.series, modality=modality, note=note)
    if options.series is not None:
        raise InputError(
            f"a scan in memory has no series to choose from, and series `{options.series}` was asked for",
            "Leave out `series`, or give the DICOM folder.",
        )
    return image.volume(modality, note)


def identity(
    options: RunOptions,
    parts: Parts,
    scan: Scan,
    models: Models,
    setup: RejectSetup,
    plans: tuple[AnatomyPlan, ...],
    choice: SegmenterChoice | None = None,
) -> dict[str, object]:
    """Everything that can change a run's results, besides the request: its hash is the run's id.

    An option that has no entry of its own here, a new one for example, takes part where it is not at its default.
    """
    own_masks = parts.regions and options.anchors not in ("auto", "hounsfield", "whole")
    named = options.anchors if parts.regions else "none"
    found: dict[str, object] = {
        "r2seg": __version__,
        "image": scan.info.sha256,
        "modality": scan.volume.modality,
        "anchors": models.source.info.model_dump(mode="json") if own_masks else named,
        "segmenter": models.segmenter.info.model_dump(mode="json"),
        "preset": options.preset,
        "reject": setup.reject.model_dump(mode="json"),
        "gates": None if parts.gates == "none" else setup.gates.model_dump(mode="json"),
        "calibration": None if setup.calibration is None else setup.calibration.contents_sha256,
        "plans": [plan.model_dump(mode="json") for plan in plans],
        "planner": options.planner,
        "budget": [setup.reject.rounds or parts.rounds(options.rounds), options.tokens, options.model_calls],
        "seed": options.seed,
        "synthetic": options.synthetic,
    }
    if choice is not None:
        found["segmenter_choice"] = choice.model_dump(mode="json")
    other = RunOptions.model_fields.keys() - HELD_OTHERWISE - PROCESS_OPTIONS
    further = options.model_dump(mode="json", include=set(other), exclude_defaults=True)
    return {**found, "options": further} if further else found


def _check_not_calibrated_on(scan: Scan, setup: RejectSetup) -> None:
    """Raise `InputError` where the scan is one that its own calibration was made from."""
    calibration = setup.calibration
    if setup.reject.mode != "conformal" or calibration is None or not holds_case(calibration, scan.info.sha256):
        return
    raise InputError(
        "this scan is one of the calibration's own lesion-free cases: it cannot be judged by itself",
        "Calibrate without it, or use `--reject paper`.",
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
            f"`r2seg calibrate` makes one from lesion-free scans ({cases_needed(options.alpha)} patients for alpha "
            f"{options.alpha:g}); without one the preset `+gates` is the last step of the paper's method.",
        )
    if settled != "conformal" and options.calibration is not None:
        raise InputError(
            f"preset `{preset}` has no use for a calibration", "Leave out --calibration, or use `--preset conformal`."
        )


def without_paths(message: str, image: str, options: RunOptions) -> str:
    """An error message for the trace: names that the user typed may name a patient."""
    own = (options.anchors.rpartition("=")[0], options.anchors, *_truth_paths(options), *options.channels.values())
    named = (options.segmenter, options.anchors)
    models = (*named, *(spec.partition(":")[2].partition("#")[0] for spec in named))
    for path in (image, str(file_of(image)), *own, *map(str, map(file_of, options.channels.values())), *models):
        if len(path) > 1 and ("/" in path or "." in path):
            # With what follows in it: the files of a DICOM folder are the user's too.
            message = re.sub(re.escape(path.rstrip("/")) + r"(?:/[^`\n]*)?", "(a file of the user)", message)
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


def _read_truth(path: str, volume: Volume, note: Callable[[str], None]) -> NDArray[np.uint8] | NDArray[np.uint16]:
    from r2seg_agent.imaging.masks import read_reference

    return read_reference(path, volume.geometry, note)
