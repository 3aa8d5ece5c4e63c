"""From the state of a search to its report and files."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from r2seg_agent.files import file_sha256
from r2seg_agent.graphs.answer import overall_answer, rounds_of
from r2seg_agent.graphs.planner import Planner
from r2seg_agent.graphs.referee import overall_outcome
from r2seg_agent.method.presets import LEFT_OUT
from r2seg_agent.reject.settings import RejectSettings, describe_mode
from r2seg_agent.report.models import RejectInfo, Report, TargetReport
from r2seg_agent.runs.options import RunOptions
from r2seg_agent.runs.prepare import Prepared
from r2seg_agent.tools.context import Context
from r2seg_agent.tools.measure_finding import load_findings
from r2seg_agent.tools.state import SearchState, TargetState
from r2seg_agent.version import __version__

_VERSIONED = ("numpy", "scipy", "torch", "SimpleITK", "langgraph", "langchain-core", "TotalSegmentator")


class Written(NamedTuple):
    """The completed report, and the sha256 of every file by name."""

    report: Report
    files: Mapping[str, str]


def make_report(
    prepared: Prepared, context: Context, search: SearchState, planner: Planner, run_id: str, options: RunOptions
) -> Report:
    """The report of a search as it stands: every number from the store, none from a model."""
    targets = tuple(_target_report(target, context) for target in search.targets)
    reject = context.reject_for(search)
    return Report(
        r2seg_version=__version__,
        run_id=run_id,
        preset=options.preset,
        request=" / ".join(turn.text for turn in search.turns) or search.request,
        outcome=search.outcome or (overall_outcome(search) if search.targets else "failed"),
        answer=overall_answer(search) if targets or search.question else search.answer,
        warnings=(*prepared.warnings, *search.notes, *_warnings(prepared, reject, targets)),
        image=prepared.image,
        planner="plan file" if prepared.plans and len(search.turns) <= 1 else planner.name,
        anchor_source=prepared.source.info if targets else None,
        segmenter=prepared.segmenter.info,
        reject=_reject_info(prepared, reject, options.seed),
        targets=targets,
        question=search.question,
        choices=search.choices,
        versions=_versions(),
    ).with_store(context.store)


def write_run(
    folder: Path,
    report: Report,
    search: SearchState,
    prepared: Prepared,
    context: Context,
    options: RunOptions,
    image: str,
) -> Written:
    """Write report, plan, masks and overlay of `report` into `folder`; the overlay shows the first target's organs."""
    from r2seg_agent.report.files import write_results

    anchors = next((context.anchor_set(t.anchors, dict(t.anchor_labels)) for t in search.targets if t.anchors), None)
    written = write_results(
        folder,
        report,
        prepared.volume,
        context.store,
        anchors=anchors,
        truth=prepared.truth,
        mask_format=options.mask_format,
        image_path=Path(image),
        series=options.series,
        pictures=options.overlays and context.reject.mode != "score",  # a calibration reads numbers alone
    )
    return Written(written.report, {name: file_sha256(folder / name) for name in sorted(written.files)})


def _target_report(target: TargetState, context: Context) -> TargetReport:
    return TargetReport(
        plan=target.original_plan,
        outcome=target.outcome or "failed",
        answer=target.answer,
        anchors_ml=target.anchors_ml,
        in_view=tuple(sorted(name for name, ml in target.anchors_ml.items() if ml > 0)),
        rounds=rounds_of(target, context.store),
        findings=load_findings(context, target),
    )


def _warnings(prepared: Prepared, reject: RejectSettings, targets: tuple[TargetReport, ...]) -> tuple[str, ...]:
    """What a reader must know before believing the answer."""
    found = [f"Preset `{prepared.preset}`: {LEFT_OUT[prepared.preset]}"] if prepared.preset in LEFT_OUT else []
    if reject.mode == "score":
        found.append("Reject mode `score`: nothing was decided, so no candidate can survive. It serves calibrations.")
    elif reject.mode != "none" and not describe_mode(reject, prepared.calibration).valid:
        found.append(
            f"Reject mode `{reject.mode}`: p- and q-values are not FDR-valid; findings may be normal tissue. "
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


def _reject_info(prepared: Prepared, reject: RejectSettings, seed: int) -> RejectInfo:
    mode = describe_mode(reject, prepared.calibration)
    paper = reject.mode == "paper"
    return RejectInfo(
        mode=mode.mode,
        guarantee=mode.guarantee,
        valid=mode.valid,
        alpha=reject.alpha,
        statistic=reject.statistic if paper else reject.score,
        feature=reject.feature,
        permutations=reject.permutations if paper else None,
        seed=seed,
        calibration_sha256=None if prepared.calibration is None else prepared.calibration.contents_sha256,
        settings={"sample_size": reject.sample_size},
    )


def _versions() -> dict[str, str]:
    found: dict[str, str] = {}
    for name in _VERSIONED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
