"""`r2seg_agent.find`: one request on one scan, from Python; `run_find` is what `r2seg find` calls."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from r2seg_agent import __version__
from r2seg_agent.atomic import write_bytes_atomic
from r2seg_agent.errors import InputError, R2SegError, RunFailedError
from r2seg_agent.frozen import Frozen
from r2seg_agent.imaging.identity import volume_sha256
from r2seg_agent.imaging.read import read_image
from r2seg_agent.imaging.volume import Modality, Volume
from r2seg_agent.progress import Progress, silent
from r2seg_agent.reason.anchors.choose import anchor_source
from r2seg_agent.reason.anchors.protocol import AnchorSource
from r2seg_agent.reason.plan import AnatomyPlan
from r2seg_agent.reason.plan_file import load_plan
from r2seg_agent.reject.calibration import Calibration
from r2seg_agent.reject.gates import GateSettings
from r2seg_agent.reject.settings import RejectSettings, describe_mode
from r2seg_agent.report.models import ImageInfo, OutcomeKind, RejectInfo, Report, TargetReport
from r2seg_agent.segment.protocol import Segmenter
from r2seg_agent.segment.registry import segmenter as segmenter_named
from r2seg_agent.store.artifacts import ArtifactStore, recipe_sha256
from r2seg_agent.trace.recorder import Recorder

EXIT_STATUS: Mapping[OutcomeKind, int] = {
    "lesions_found": 0,
    "no_lesion_survived": 0,
    "target_not_in_view": 0,
    "needs_user": 2,
    "budget_exhausted": 4,
    "failed": 5,
}
"""Exit status of `r2seg find` by outcome."""

_VERSIONED = ("numpy", "scipy", "torch", "SimpleITK", "langgraph", "langchain-core", "TotalSegmentator")


class FindOptions(Frozen):
    """Everything that `find` takes besides the request and the image; the defaults are the command line's."""

    anchors: str = "auto"
    segmenter: str = "contrast"
    reject: Literal["paper", "conformal"] = "paper"
    calibration: Path | None = None
    alpha: float = 0.05
    plan: Path | None = None
    truth: str | None = None
    modality: str | None = None
    series: str | None = None
    out: Path | None = None
    workspace: Path = Path(".r2seg")
    mask_format: Literal["nifti", "same"] = "nifti"
    seed: Annotated[int, Field(ge=0)] = 0
    rounds: Annotated[int, Field(ge=1, le=3)] = 3
    seconds: float | None = None
    synthetic: bool = False
    gates: GateSettings = GateSettings()


@dataclass(frozen=True)
class FindResult:
    """The report, the folder that holds its files, and the exit status that the outcome means."""

    report: Report
    folder: Path
    files: tuple[str, ...]

    @property
    def exit_status(self) -> int:
        """See `EXIT_STATUS`."""
        return EXIT_STATUS[self.report.outcome]


def find(request: str, image: str | Path, *, progress: Progress = silent, **options: object) -> Report:
    """Find what `request` asks for in the scan `image` and return the report; files go to the workspace.

    `options` are the fields of `FindOptions`, e.g. `anchors="hounsfield"`, `truth="mask.nrrd"`, `seed=1`.
    Raises `R2SegError` subclasses: `InputError` for bad input, `MissingDependencyError` for missing weights.
    """
    return run_find(request, str(image), FindOptions.model_validate(options), progress).report


@dataclass(frozen=True)
class _Prepared:
    volume: Volume
    image: ImageInfo
    source: AnchorSource
    segmenter: Segmenter
    reject: RejectSettings
    calibration: Calibration | None
    plans: tuple[AnatomyPlan, ...]
    truth: NDArray[np.uint8] | NDArray[np.uint16] | None
    warnings: tuple[str, ...]
    run_id: str


def run_find(request: str, image: str, options: FindOptions, progress: Progress = silent) -> FindResult:
    """Check the input, run the search graph, write the results; the same call gives the same bytes."""
    from r2seg_agent.graphs.run import run_search
    from r2seg_agent.report.files import write_results

    prepared = _prepare(request, image, options, progress)
    store = ArtifactStore(options.workspace / "artifacts")
    folder = options.workspace / "runs" / prepared.run_id
    recorder = Recorder(folder / "trace.jsonl")
    try:
        recorder.record("run_started", "find", {"run_id": prepared.run_id, "r2seg": __version__, "request": request})
        outcome = run_search(
            request,
            volume=prepared.volume,
            image=prepared.image,
            anchor_source=prepared.source,
            segmenter=prepared.segmenter,
            reject=prepared.reject,
            gates=options.gates,
            calibration=prepared.calibration,
            plans=prepared.plans,
            store=store,
            recorder=recorder,
            workspace=options.workspace,
            run_id=prepared.run_id,
            seed=options.seed,
            rounds=options.rounds,
            deadline=None if options.seconds is None else time.monotonic() + options.seconds,
            seconds=options.seconds,
            progress=progress,
        )
        report = Report(
            r2seg_version=__version__,
            run_id=prepared.run_id,
            request=request,
            outcome=outcome.outcome,
            answer=outcome.answer,
            warnings=(*prepared.warnings, *_warnings(prepared, outcome.targets)),
            image=prepared.image,
            planner="plan file" if prepared.plans else "offline planner (a stand-in for a language model)",
            anchor_source=prepared.source.info if outcome.targets else None,
            segmenter=prepared.segmenter.info,
            reject=_reject_info(prepared, options.seed),
            targets=outcome.targets,
            question=outcome.question,
            choices=outcome.choices,
            versions=_versions(),
        )
        progress("report", 0, 1, "")
        written = write_results(
            folder,
            report,
            prepared.volume,
            store,
            anchors=outcome.anchors,
            truth=prepared.truth,
            mask_format=options.mask_format,
            image_path=Path(image),
            series=options.series,
        )
        progress("report", 1, 1, "")
        recorder.record("run_finished", "find", {"outcome": outcome.outcome, "files": sorted(written.files)})
    except R2SegError as error:
        recorder.record(
            "run_finished", "find", {"outcome": "failed", "error": _without_paths(error.message, image, options)}
        )
        raise
    except MemoryError as error:
        recorder.record("run_finished", "find", {"outcome": "failed", "error": "out of memory"})
        raise RunFailedError("the machine ran out of memory", "Crop the scan or use a machine with more.") from error
    except Exception as error:
        # Only the kind: the text of an unforeseen error may hold anything.
        recorder.record("run_finished", "find", {"outcome": "failed", "error": type(error).__name__})
        raise
    finally:
        recorder.close()
    if options.out is not None:
        folder = _copy_results(folder, options.out)
    return FindResult(report=written.report, folder=folder, files=(*written.files, "trace.jsonl"))


def _prepare(request: str, image: str, options: FindOptions, progress: Progress) -> _Prepared:
    """Everything that can be wrong with the input is found here, before long work."""
    if not request.strip():
        raise InputError("the request is empty", 'Say what to find, for example "find the lung nodule".')
    if not 0 < options.alpha < 1:
        raise InputError(f"--alpha must lie between 0 and 1, got {options.alpha:g}")
    segmenter = segmenter_named(options.segmenter)
    source = anchor_source(options.anchors)
    calibration = None
    if options.calibration is not None:
        from r2seg_agent.reject.calibration_file import load_calibration

        calibration = load_calibration(options.calibration)
    reject = RejectSettings(mode=options.reject, alpha=options.alpha)
    describe_mode(reject, calibration)
    plans = load_plan(options.plan).plans if options.plan is not None else ()
    progress("read", 0, 1, "image")
    notes: list[str] = []
    volume = read_image(image, series=options.series, modality=_modality(options.modality), note=notes.append)
    segmenter.check(volume.modality)
    for plan in plans:
        source.check(volume.modality, plan.anchors)
    truth = _read_truth(options.truth, volume) if options.truth is not None else None
    sha256 = volume_sha256(volume)
    progress("read", 1, 1, "image")
    info = ImageInfo(
        name=volume.name,
        sha256=sha256,
        geometry=volume.geometry,
        modality=volume.modality,
        unit=volume.unit,
        synthetic=options.synthetic,
    )
    identity = {
        "r2seg": __version__,
        "request": request,
        "image": sha256,
        "anchors": options.anchors
        if options.anchors in ("auto", "hounsfield")
        else source.info.model_dump(mode="json"),
        "segmenter": segmenter.info.model_dump(mode="json"),
        "reject": reject.model_dump(mode="json"),
        "gates": options.gates.model_dump(mode="json"),
        "calibration": None if calibration is None else calibration.contents_sha256,
        "plans": [plan.model_dump(mode="json") for plan in plans],
        "seed": options.seed,
        "rounds": options.rounds,
        "synthetic": options.synthetic,
    }
    return _Prepared(
        volume=volume,
        image=info,
        source=source,
        segmenter=segmenter,
        reject=reject,
        calibration=calibration,
        plans=plans,
        truth=truth,
        warnings=tuple(notes),
        run_id=recipe_sha256(identity)[:12],
    )


def _modality(text: str | None) -> Modality | None:
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


def _without_paths(message: str, image: str, options: FindOptions) -> str:
    """An error message for the trace: names that the user typed may name a patient."""
    for path in (image, options.anchors.rpartition("=")[0], options.anchors, options.truth or ""):
        if len(path) > 1 and ("/" in path or "." in path):
            message = message.replace(path, "(a file of the user)")
    return message


def _warnings(prepared: _Prepared, targets: tuple[TargetReport, ...]) -> tuple[str, ...]:
    """What a reader must know before believing the answer."""
    found: list[str] = []
    if not describe_mode(prepared.reject, prepared.calibration).valid:
        found.append(
            f"Reject mode `{prepared.reject.mode}`: p- and q-values are not FDR-valid; findings may be normal tissue. "
            "Calibrating on lesion-free scans is the cure (`--reject conformal`)."
        )
    if prepared.segmenter.info.stand_in:
        found.append(
            f"Segmenter `{prepared.segmenter.info.name}` is a stand-in without learned weights, not a foundation model."
        )
    if targets and prepared.source.info.stand_in:
        found.append(f"Anchors `{prepared.source.info.name}` are a stand-in for an organ segmentation model.")
    if prepared.image.synthetic:
        found.append(
            "This scan holds SYNTHETIC content: results show that the method runs, not how it does on patients."
        )
    return tuple(found)


def _reject_info(prepared: _Prepared, seed: int) -> RejectInfo:
    mode = describe_mode(prepared.reject, prepared.calibration)
    paper = prepared.reject.mode == "paper"
    return RejectInfo(
        mode=mode.mode,
        guarantee=mode.guarantee,
        valid=mode.valid,
        alpha=prepared.reject.alpha,
        statistic=prepared.reject.statistic if paper else prepared.reject.score,
        feature=prepared.reject.feature,
        permutations=prepared.reject.permutations if paper else None,
        seed=seed,
        calibration_sha256=None if prepared.calibration is None else prepared.calibration.contents_sha256,
        settings={
            "sample_size": prepared.reject.sample_size,
            "reference": prepared.reject.reference,
            "correction": prepared.reject.correction,
        },
    )


def _versions() -> dict[str, str]:
    found: dict[str, str] = {}
    for name in _VERSIONED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _copy_results(folder: Path, out: Path) -> Path:
    """Copy a finished run to the folder that the user named."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        for path in sorted(folder.iterdir()):
            if path.is_file():
                write_bytes_atomic(out / path.name, path.read_bytes())
    except OSError as error:
        raise InputError(
            f"cannot write to `--out {out}`: {error.strerror}", "Choose a folder that you may write to."
        ) from error
    return out
