"""From the state of a search to its report and files."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from r2seg_agent.cautions import Caution, CautionKind
from r2seg_agent.files import file_sha256
from r2seg_agent.graphs.ending import overall_answer
from r2seg_agent.graphs.planner import Planner
from r2seg_agent.graphs.referee import overall_outcome
from r2seg_agent.imaging.colour import has_colours
from r2seg_agent.method.presets import LEFT_OUT
from r2seg_agent.reject.calibration import cases_needed
from r2seg_agent.reject.settings import RejectSettings, describe_mode, threshold_of
from r2seg_agent.report.levels import later_level
from r2seg_agent.report.models import RejectInfo, Report, TargetReport
from r2seg_agent.runs.options import RunOptions
from r2seg_agent.runs.prepare import Prepared
from r2seg_agent.segment.protocol import SeesColours
from r2seg_agent.segment.regions.score import shipped
from r2seg_agent.tools.context import Context
from r2seg_agent.tools.lookup import e_value_of, findings_of, rounds_of
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
    reject, e_value = context.reject_for(search), e_value_of(context, search)
    planned_by_file = bool(prepared.plans) and len(search.turns) <= 1
    return Report(
        r2seg_version=__version__,
        run_id=run_id,
        preset=options.preset,
        request=" / ".join(turn.text for turn in search.turns) or search.request,
        outcome=search.outcome or (overall_outcome(search) if search.targets else "failed"),
        answer=overall_answer(search) if targets or search.question else search.answer,
        warnings=(*_from_files(prepared), *search.cautions, *_cautions(prepared, reject, targets, options, e_value)),
        image=prepared.image,
        planner="plan file" if planned_by_file else planner.name,
        planner_kind="plan_file" if planned_by_file else planner.kind,
        anchor_source=prepared.source.info if targets else None,
        segmenter=prepared.segmenter.info,
        segmenter_choice=prepared.choice,
        reject=_reject_info(prepared, reject, options.seed, search, e_value),
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
        rounds=rounds_of(context.store, target),
        findings=findings_of(context.store, target),
    )


def _from_files(prepared: Prepared) -> tuple[Caution, ...]:
    """What came up while the files were read."""
    return tuple(Caution(kind="reading", text=text) for text in prepared.warnings)


def _cautions(
    prepared: Prepared,
    reject: RejectSettings,
    targets: tuple[TargetReport, ...],
    options: RunOptions,
    e_value: float | None,
) -> tuple[Caution, ...]:
    """What a reader must know before believing the answer."""
    segmenter, source = prepared.segmenter.info, prepared.source.info
    found: list[tuple[CautionKind, str]] = []
    if prepared.preset in LEFT_OUT:
        found.append(("preset", f"Preset `{prepared.preset}`: {LEFT_OUT[prepared.preset]}"))
    if reject.mode == "score":
        text = "Reject mode `score`: nothing was decided, so no candidate can survive. It serves calibrations."
        found.append(("nothing_decided", text))
    elif reject.mode == "reference":
        found.append(("ranked_by_reference", _reference_caution(reject)))
    elif reject.mode != "none" and not describe_mode(reject, prepared.calibration).valid:
        text = (
            f"Reject mode `{reject.mode}`: p- and q-values are not FDR-valid; findings may be normal tissue. "
            "Calibrating on lesion-free scans is the cure (`--reject conformal`)."
        )
        found.append(("mode_not_valid", text))
    if text := _rounds_caution(prepared, reject, prepared.parts.rounds(options.rounds)):
        found.append(("rounds_not_searched", text))
    if reject.mode == "conformal" and reject.first_alpha is not None:
        text = (
            f"The level alpha was changed after p-values were seen, from {reject.first_alpha:g} to {reject.alpha:g}. "
            f"The promise speaks of the first; findings by the second have none."
        )
        found.append(("level_changed", text if e_value is None else f"{text} {later_level(e_value)}"))
    if prepared.volume.modality == "CT" and prepared.volume.unit != "HU":
        text = (
            "This CT holds grey values for a screen, not Hounsfield units: no HU window was used, and how dense a "
            "finding is cannot be said. The original DICOM or NIfTI would tell."
        )
        found.append(("not_hounsfield", text))
    if has_colours(prepared.volume):
        sees = isinstance(prepared.segmenter, SeesColours) and prepared.segmenter.sees_colours
        seen = f"segmenter `{segmenter.name}` sees its colours" if sees else f"so does segmenter `{segmenter.name}`"
        text = (
            "This is a colour picture: the rejection test and all measurements look at its grey values (luminance, "
            f"0.299 red + 0.587 green + 0.114 blue); {seen}."
        )
        found.append(("colour_as_grey", text))
    if segmenter.stand_in:
        text = f"Segmenter `{segmenter.name}` is a stand-in without learned weights, not a foundation model."
        found.append(("stand_in_segmenter", text))
    if targets and source.stand_in:
        found.append(("stand_in_anchors", f"Anchors `{source.name}` are a stand-in for an organ segmentation model."))
    if prepared.image.synthetic:
        text = "This scan holds SYNTHETIC content: results show that the method runs, not how it does on patients."
        found.append(("synthetic", text))
    return tuple(Caution(kind=kind, text=text) for kind, text in found)


def _rounds_caution(prepared: Prepared, reject: RejectSettings, wanted: int) -> str:
    """Which rounds were not searched because of the calibration; "" where all were."""
    calibration, rounds = prepared.calibration, prepared.rounds
    if reject.mode != "conformal" or calibration is None or rounds >= wanted:
        return ""
    searched = f"{rounds} of {wanted} search rounds {'is' if rounds == 1 else 'are'} used:"
    if rounds == calibration.identity.rounds:
        return f"{searched} the calibration's cases went through no more."
    n, level = calibration.n_cases, threshold_of(prepared.reject, calibration)
    needed = f"; that needs {cases_needed(level, rounds=rounds + 1)}" if reject.confidence is None else ""
    nothing = f"nothing can have a p of at most {level:.3g} in round {rounds + 1}"
    return f"{searched} by {n} lesion-free cases {nothing}{needed}."


def _reference_caution(reject: RejectSettings) -> str:
    """What reference mode is worth, and on which images that was measured."""
    card = shipped()[0].card
    return (
        f"Reject mode `reference`: findings are ordered by a score that was fitted on {card['images']} images of "
        f"{card['patients']} patients ({card['kinds']}) and cut at {reject.false_findings} false "
        f"finding{'s' * (reject.false_findings != '1')} an image there. Normal tissue may be among them, and what the "
        "set did not hold is unknown to it. A calibration on lesion-free scans gives valid p-values (`--calibration`)."
    )


def _reject_info(
    prepared: Prepared, reject: RejectSettings, seed: int, search: SearchState, e_value: float | None
) -> RejectInfo:
    mode = describe_mode(reject, prepared.calibration)
    paper = reject.mode == "paper"
    return RejectInfo(
        mode=mode.mode,
        guarantee=mode.guarantee,
        valid=mode.valid,
        alpha=reject.alpha,
        statistic=reject.statistic if paper else "frozen score" if reject.ranks_regions else reject.score,
        feature=reject.feature,
        permutations=reject.permutations if paper else None,
        seed=seed,
        calibration_sha256=None if prepared.calibration is None else prepared.calibration.contents_sha256,
        rounds=reject.rounds,
        threshold=mode.threshold,
        level_bound=mode.level_bound,
        confidence=reject.confidence,
        first_alpha=reject.first_alpha,
        levels=search.levels,
        e_value=e_value,
        settings=_settings_of(reject),
    )


def _settings_of(reject: RejectSettings) -> dict[str, str | float | int | bool | None]:
    if not reject.ranks_regions:
        return {"sample_size": reject.sample_size}
    ranked: dict[str, str | float | int | bool | None] = {"region_score_sha256": reject.region_score_sha256}
    return ranked | ({"cut": reject.cut, "false_findings": reject.false_findings} if reject.cut is not None else {})


def _versions() -> dict[str, str]:
    found: dict[str, str] = {}
    for name in _VERSIONED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
