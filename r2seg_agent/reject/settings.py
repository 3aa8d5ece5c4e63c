"""`RejectSettings`: how Reject decides; `describe_mode`: what that guarantees, in words."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from r2seg_agent.errors import InputError
from r2seg_agent.frozen import Frozen
from r2seg_agent.reject.alpha import DEFAULT_ALPHA, Alpha, FalseFindings
from r2seg_agent.reject.calibration import Calibration
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
    """What a mode guarantees. `valid` False: the p-values are not probabilities of a false finding."""

    mode: Mode
    guarantee: str
    valid: bool


def describe_mode(settings: RejectSettings, calibration: Calibration | None = None) -> ModeGuarantee:
    """The guarantee of `settings`, for reports and the command line.

    What is controlled: in conformal mode, the calibration's own search, that is one target over as many widening
    rounds as its cases went through. What is not: several targets in one request (the chance adds up over them),
    several requests on one scan, and anything in paper mode. Raises `InputError` for conformal mode without a
    calibration.
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
    n, rounds = calibration.n_cases, calibration.identity.rounds
    like = f"{n} lesion-free calibration cases, one per patient"
    text = (
        f"In a lesion-free scan like the {like}, the chance of any false finding is at most {settings.alpha:g} "
        f"per target, over up to {rounds} search round{'s' if rounds > 1 else ''} (smallest p "
        f"{calibration.smallest_p:.3g})."
    )
    return ModeGuarantee(mode="conformal", guarantee=text, valid=True)


def no_calibration() -> InputError:
    """The error of conformal mode without a calibration file."""
    return InputError(
        "conformal mode needs a calibration: the scores of lesion-free cases under the same segmenter, anchors, "
        "preprocessing and target; none was given",
        "Give a calibration file made for this set-up (`r2seg calibrate` makes one from lesion-free scans; alpha 0.05 "
        "needs 19 patients), or use `--reject paper`, whose p-values are "
        f"{PAPER_LABEL}.",
    )
