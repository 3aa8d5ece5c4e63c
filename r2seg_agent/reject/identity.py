"""Does this calibration speak about this run? The identity of a run, and the check before long work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from r2seg_agent.errors import InputError
from r2seg_agent.reason.anchors.protocol import AnchorSourceInfo
from r2seg_agent.reason.plan import AnatomyPlan
from r2seg_agent.reject.alpha import within
from r2seg_agent.reject.calibration import (
    Calibration,
    CalibrationIdentity,
    Scalar,
    mismatch,
    what_it_gives,
)
from r2seg_agent.reject.confidence import cases_for
from r2seg_agent.reject.features import feature_settings
from r2seg_agent.reject.scores import USES_MMD2
from r2seg_agent.reject.settings import RejectSettings, no_calibration, threshold_of
from r2seg_agent.segment.protocol import SegmenterInfo


def set_up_differs(calibration: Calibration, identity: CalibrationIdentity) -> tuple[str, ...]:
    """What keeps the calibration from judging a run of this identity, in words; empty when it may."""
    return mismatch(calibration, _as_served(identity, calibration.identity))


def require_calibration(
    settings: RejectSettings, calibration: Calibration | None, identity: CalibrationIdentity | None
) -> Calibration:
    """The calibration when it may judge this run; call it before long work.

    Raises `InputError` when it is missing, made for something else (saying what differs), or too small for alpha.
    """
    if calibration is None:
        raise no_calibration()
    if identity is None:
        raise ValueError("conformal mode needs the identity of this run (`run_identity`)")
    gives = what_it_gives(calibration, settings.alpha)
    differs = set_up_differs(calibration, identity)
    if differs:
        raise InputError(
            "this calibration was made for another set-up: " + "; ".join(differs),
            "Use the calibration of this set-up, set the run up as the calibration was, or use `--reject paper`. "
            f"(The calibration's {gives}.)",
        )
    threshold = threshold_of(settings, calibration)
    if settings.confidence is not None and threshold == 0.0:
        raise InputError(
            f"{calibration.n_cases} lesion-free cases cannot hold alpha {settings.alpha:g} with "
            f"{100 * settings.confidence:g} % confidence; that needs {cases_for(settings.alpha, settings.confidence)}",
            "Add cases with `r2seg calibrate --extend`, or use a larger `--alpha` or a smaller `--confidence`.",
        )
    if not within(calibration.smallest_p, threshold):
        raise InputError(
            f"no candidate can ever survive by this calibration: its {gives}",
            "Add cases with `r2seg calibrate --extend`, or use a larger `--alpha`.",
        )
    return calibration


_VETOES = ("not_inside", "mimics", "not_located")
"""Entries of `preprocessing` that hold what is vetoed; one that is empty is left out."""


def _as_served(run: CalibrationIdentity, calibration: CalibrationIdentity) -> CalibrationIdentity:
    """The run's identity with the calibration's rounds and vetoes, where the run has no more rounds, around the same
    organs, and rejects at least all that they reject.

    Of a calibration's rounds any number of the first ones can be counted by themselves. Further vetoes only delete: the
    scan's largest score can but fall, and its p with it rise. Without the calibration's own vetoes the scan would have
    candidates that no lesion-free case was allowed to have.
    """
    if run.rounds <= calibration.rounds and run.round_anchors == calibration.round_anchors[: run.rounds]:
        theirs_too = {"rounds": calibration.rounds, "round_anchors": calibration.round_anchors}
        run = run.model_copy(update=theirs_too)
    asked, alike, lacking = (_organs_in(run, key) for key in _VETOES)
    their_asked, their_alike, their_lacking = (_organs_in(calibration, key) for key in _VETOES)
    if not (their_asked <= asked and their_alike <= asked | alike and lacking & their_asked <= their_lacking):
        return run
    kept = {key: value for key, value in run.preprocessing.items() if key not in _VETOES}
    theirs = {key: value for key, value in calibration.preprocessing.items() if key in _VETOES}
    return run.model_copy(update={"preprocessing": {**kept, **theirs}})


def _organs_in(identity: CalibrationIdentity, key: str) -> frozenset[str]:
    return frozenset(str(identity.preprocessing.get(key, "")).split())


def run_identity(
    segmenter: SegmenterInfo,
    anchor_source: AnchorSourceInfo,
    plan: AnatomyPlan,
    settings: RejectSettings,
    *,
    rounds: int,
    round_anchors: Sequence[tuple[str, ...]] = (),
    preprocessing: Mapping[str, Scalar],
    gates: Mapping[str, Scalar],
    not_located: Sequence[str] = (),
) -> CalibrationIdentity:
    """The identity of a run, to be matched with a calibration's. `plan` is the one of the first round.

    `round_anchors`: the organs of each round. `preprocessing`: what the plan does not say (flips, thresholds, merging).
    `gates`: the gate settings. `not_located`: organs that the plan vetoes and the source cannot give
    (`vetoes.not_located`).
    """
    low, high = plan.expected_volume_ml
    from_plan: dict[str, Scalar] = {
        "laterality": plan.laterality,
        "neighbours": " ".join(plan.neighbours),
        "padding_mm": plan.padding_mm,
        "scales": " ".join(f"{s:g}" for s in plan.scales),
        "square": plan.square,
        "prompt": plan.prompt,
        "window": None if plan.window is None else f"{plan.window[0]:g} {plan.window[1]:g}",
        "expected_volume_ml": f"{low:g} {high:g}",
        "expected_contrast": plan.expected_contrast,
    }
    vetoes = (plan.not_inside, plan.mimics, not_located)
    from_plan |= {key: " ".join(sorted(organs)) for key, organs in zip(_VETOES, vetoes, strict=True) if organs}
    reads_mmd2: dict[str, Scalar] = {
        "statistic": settings.statistic,
        "feature": settings.feature,
        "sample_size": settings.sample_size,
        **feature_settings(settings.feature),
    }
    return CalibrationIdentity(
        segmenter=segmenter,
        anchor_source=anchor_source,
        anchors=plan.anchors,
        target=plan.target,
        modality=plan.modality,
        score=settings.score,
        rounds=rounds,
        round_anchors=tuple(round_anchors),
        preprocessing={**from_plan, **preprocessing},
        gates=gates,
        reject=reads_mmd2
        if settings.score in USES_MMD2
        else {"region_score_sha256": settings.region_score_sha256}
        if settings.ranks_regions
        else {},
    )
