"""`RejectSettings`: how Reject decides; `describe_mode`: what that guarantees, in words."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from r2seg_agent.errors import InputError
from r2seg_agent.frozen import Frozen
from r2seg_agent.reject.alpha import DEFAULT_ALPHA, Alpha, Confidence, FalseFindings
from r2seg_agent.reject.calibration import Calibration
from r2seg_agent.reject.confidence import BOUND_CONFIDENCE, confident_ranks, level_bound
from r2seg_agent.reject.features import FeatureName
from r2seg_agent.reject.scores import ScoreName

Mode = Literal["reference", "paper", "conformal", "score", "none"]
"""`reference` keeps what scores as lesions of a reference set did. `score` decides nothing: every candidate gets its
score, for a calibration on lesion-free cases. `none` tests nothing and keeps every candidate, for the ablation."""

PAPER_LABEL = "not FDR-valid (voxels are not exchangeable)"


class RejectSettings(Frozen):
    """Every choice of the Reject step except the gates (`reject/gates.py`)."""

    mode: Mode = "paper"
    alpha: Alpha = DEFAULT_ALPHA
    statistic: Literal["mmd2_unbiased"] = "mmd2_unbiased"
    feature: FeatureName = "intensity"
    permutations: Annotated[int, Field(ge=1, le=1_000_000)] = 999
    """B, of paper mode."""
    first_alpha: Alpha | None = None
    """The level in force when p-values were first seen, where `alpha` was chosen after; None: `alpha` itself."""
    confidence: Confidence | None = None
    """Of conformal mode: how sure the calibration's own level is to be at most `alpha`; None: in the mean over
    calibrations."""
    rounds: Annotated[int, Field(ge=1)] | None = None
    """Of conformal mode: the search's rounds, which its p-values pay for; None: those of the calibration."""
    sample_size: Annotated[int, Field(ge=2, le=5000)] = 200
    """m and n: voxels drawn from a candidate and from the anchor."""
    score: ScoreName = "scan_statistic"
    """Of conformal mode; paper mode scores by MMD², reference mode by `region`."""
    cut: float | None = None
    """Of reference mode: the lowest score that is kept."""
    false_findings: FalseFindings = "1"
    """Of reference mode: false findings an image of the reference set at this cut."""
    region_score_sha256: str | None = None
    """The file of the frozen score, where candidates are ranked by it."""

    @property
    def compares_cases(self) -> bool:
        """Whether scores are compared between scans: then every scan must be searched where the others were."""
        return self.mode in ("conformal", "score")

    @property
    def ranks_regions(self) -> bool:
        """Whether candidates are regions ranked by the frozen score, and not bodies of a segmenter's mask."""
        return self.mode in ("reference", "conformal", "score") and self.score == "region"


class ModeGuarantee(Frozen):
    """What a mode guarantees. `valid` False: the p-values are not probabilities of a false finding.

    In conformal mode: `threshold` is what p is compared with, `level_bound` what the chance of a false finding by this
    calibration is at most, with 95 % confidence.
    """

    mode: Mode
    guarantee: str
    valid: bool
    threshold: float | None = None
    level_bound: float | None = None


def threshold_of(settings: RejectSettings, calibration: Calibration | None) -> float:
    """What a p- or q-value is compared with: alpha, or in conformal mode the largest p that holds it with the wanted
    confidence (0 where none does).
    """
    if settings.mode != "conformal" or settings.confidence is None or calibration is None:
        return settings.alpha
    n = calibration.n_cases
    return confident_ranks(n, settings.alpha, settings.confidence) / (n + 1)


def describe_mode(settings: RejectSettings, calibration: Calibration | None = None) -> ModeGuarantee:
    """The guarantee of `settings`, for reports and the command line.

    What is controlled: in conformal mode, the calibration's own search, that is one target over as many widening
    rounds as its cases went through. What is not: several requests on one scan, and anything in paper mode. Raises
    `InputError` for conformal mode without a calibration.
    """
    if settings.mode == "paper":
        return ModeGuarantee(
            mode="paper",
            guarantee=f"p-values {PAPER_LABEL}: the voxels of any region resemble each other, and candidates were "
            "selected because they look abnormal, so normal tissue may survive far more often than alpha says.",
            valid=False,
        )
    if settings.mode == "reference":
        return ModeGuarantee(
            mode="reference",
            guarantee="Candidates are ranked by a frozen score and cut where the images of a reference set had "
            f"{settings.false_findings} false finding{'s' * (settings.false_findings != '1')} each on average. That is "
            "a measurement on those images, no guarantee for this one, and not a p-value.",
            valid=False,
        )
    if settings.mode == "score":
        return ModeGuarantee(mode="score", guarantee="Nothing was decided: candidates were only scored.", valid=False)
    if settings.mode == "none":
        return ModeGuarantee(
            mode="none", guarantee="Nothing was tested: every candidate is reported, without p-values.", valid=False
        )
    if calibration is None:
        raise no_calibration()
    return _conformal(settings, calibration)


def _conformal(settings: RejectSettings, calibration: Calibration) -> ModeGuarantee:
    """The promise of the level that was in force when p-values were first seen."""
    n, rounds = calibration.n_cases, settings.rounds or calibration.identity.rounds
    first = settings.model_copy(update={"alpha": settings.first_alpha or settings.alpha, "first_alpha": None})
    threshold = threshold_of(first, calibration)
    bound = level_bound(n, threshold)
    over = f"over up to {rounds} search round{'s' if rounds > 1 else ''} (smallest p {calibration.smallest_p:.3g})"
    what = "any false finding" if settings.first_alpha is None else f"any finding with p at most {threshold:.3g}"
    text = (
        f"In a lesion-free scan like the {n} lesion-free calibration cases, one per patient, the chance of {what} is "
        f"at most {first.alpha:g} per target, {over}. "
    )
    sure = f"{BOUND_CONFIDENCE:.0%}".replace("%", " %")
    if settings.confidence is None:
        text += f"That is the mean over calibrations: with {sure} confidence it is at most {bound:.3g} by this one."
    else:
        text += (
            f"That holds for this calibration with {100 * settings.confidence:g} % confidence, so p must be at most "
            f"{threshold:.3g}; with {sure} confidence the chance is at most {bound:.3g}."
        )
    if settings.first_alpha is not None:
        text = (
            f"The level was changed after p-values were seen, from {first.alpha:g} to {settings.alpha:g}; the promise "
            f"speaks of the first. {text}"
        )
    level = threshold_of(settings, calibration)
    return ModeGuarantee(mode="conformal", guarantee=text, valid=True, threshold=level, level_bound=bound)


def no_calibration() -> InputError:
    """The error of conformal mode without a calibration file."""
    return InputError(
        "conformal mode needs a calibration: the scores of lesion-free cases under the same segmenter, anchors, "
        "preprocessing and target; none was given",
        "Give a calibration file made for this set-up (`r2seg calibrate` makes one from lesion-free scans; alpha 0.05 "
        "needs 19 patients), or use `--reject paper`, whose p-values are "
        f"{PAPER_LABEL}.",
    )
