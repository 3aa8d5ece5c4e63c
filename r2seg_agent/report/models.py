"""The report as typed objects: what `r2seg_agent.find` returns and `report.json` holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from r2seg_agent.frozen import Frozen
from r2seg_agent.imaging.geometry import Box, Float3, Geometry
from r2seg_agent.imaging.volume import Modality, Unit
from r2seg_agent.presets import Preset
from r2seg_agent.reason.anchors.protocol import AnchorSourceInfo
from r2seg_agent.reason.plan import AnatomyPlan
from r2seg_agent.reason.roi import ROI
from r2seg_agent.reject.gates import GateResult
from r2seg_agent.reject.profile import ScanProfile
from r2seg_agent.segment.candidates import CandidateFeatures, Decision
from r2seg_agent.segment.protocol import SegmenterInfo
from r2seg_agent.store.refs import ArtifactRef

SCHEMA_VERSION = "1"
DISCLAIMER = "Research software, not a medical device. Not for diagnosis or treatment."

OutcomeKind = Literal[
    "lesions_found", "no_lesion_survived", "target_not_in_view", "needs_user", "budget_exhausted", "failed"
]


class Candidate(Frozen):
    """One candidate with everything that was decided about it. `id` is "t1r2c3": target, round, candidate."""

    id: str
    ref: ArtifactRef
    """The label map of its round; this candidate's voxels have the value `label`."""
    ref_box: Box
    """The part of the image grid that the label map covers."""
    label: int
    box: Box
    scale: float
    features: CandidateFeatures
    score: float | None = None
    p: float | None = None
    q: float | None = None
    gates: tuple[GateResult, ...] = ()
    decision: Decision = "pending"
    reason: str = ""


class SearchRound(Frozen):
    """One pass through ROI → segment → reject; `why` says what the referee widened and why.

    `evidence` refers to what its p- and q-values can be derived from again (`r2seg trace verify`). `profile` is what
    the scan is like inside the plan's own anchors: measured in the first round, where anchors were located.
    """

    index: int
    why: str
    padding_mm: float
    anchors: tuple[str, ...]
    rois: tuple[ROI, ...]
    candidates: tuple[Candidate, ...] = ()
    case_gates: tuple[GateResult, ...] = ()
    survivors: tuple[str, ...] = ()
    evidence: ArtifactRef | None = None
    profile: ScanProfile | None = None


class Measurements(Frozen):
    """Size and place of a finding. Lengths are in `length_unit`: mm, or px where the image has no spacing."""

    centroid_lps_mm: Float3
    centroid_zyx: Float3
    box: Box
    place: str
    """In patient terms: "right lung, upper third, posterior, 6 mm from its surface" and the like."""
    volume_ml: float
    longest_diameter: float
    """Longest in-plane (axial) diameter, between voxel outer edges as RECIST measures it."""
    perpendicular_diameter: float
    """Largest diameter perpendicular to it in the same slice."""
    diameter_slice: int
    length_unit: Literal["mm", "px"] = "mm"
    mean_intensity: float
    sd_intensity: float
    intensity_unit: Unit
    area: float | None = None
    """For a 2D image only, where a volume means little: area in `length_unit` squared."""


class Finding(Frozen):
    """A survivor with its measurements; `number` is its label value in `lesions.*`."""

    number: int
    target: str
    target_name: str
    candidate: Candidate
    measurements: Measurements


class LesionTruth(Frozen):
    """One reference lesion against the findings: the finding that overlaps it most.

    Missed by every finding: `finding` and `precision` are None, `dice` and `sensitivity` 0.
    """

    label: int
    volume_ml: float
    finding: int | None
    dice: float
    sensitivity: float
    precision: float | None


class TruthEvaluation(Frozen):
    """Findings against a reference mask (`--truth`). Dice of two empty masks is None, not 1."""

    dice: float | None
    sensitivity: float | None
    precision: float | None
    lesions: tuple[LesionTruth, ...]
    false_findings: tuple[int, ...]


class RejectInfo(Frozen):
    """Which Reject mode decided and what it guarantees, in words a reader cannot mistake."""

    mode: Literal["paper", "conformal", "score", "none"]
    guarantee: str
    valid: bool
    alpha: float
    statistic: str
    feature: str
    permutations: int | None = None
    seed: int
    calibration_sha256: str | None = None
    settings: Mapping[str, str | float | int | bool | None] = {}


class ImageInfo(Frozen):
    """The scan, by pseudonym."""

    name: str
    sha256: str
    geometry: Geometry
    modality: Modality
    unit: Unit
    synthetic: bool = False
    """True when the user said that the image holds synthetic content; shown wherever results are."""


class TargetReport(Frozen):
    """Everything about one target of the request."""

    plan: AnatomyPlan
    outcome: OutcomeKind
    answer: str
    anchors_ml: Mapping[str, float] = {}
    in_view: tuple[str, ...] = ()
    rounds: tuple[SearchRound, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def profile(self) -> ScanProfile | None:
        """What the scan is like inside the anchors, from the first round; None where none was located."""
        return self.rounds[0].profile if self.rounds else None


class Report(Frozen):
    """The answer to one request on one scan. Same inputs and seed give the same bytes (no times, no paths)."""

    schema_version: str = SCHEMA_VERSION
    disclaimer: str = DISCLAIMER
    r2seg_version: str
    run_id: str
    preset: Preset = "full"
    """Which parts of the method took part; `full` leaves nothing out."""
    request: str
    outcome: OutcomeKind
    answer: str
    warnings: tuple[str, ...] = ()
    image: ImageInfo | None = None
    planner: str
    anchor_source: AnchorSourceInfo | None = None
    segmenter: SegmenterInfo | None = None
    reject: RejectInfo | None = None
    targets: tuple[TargetReport, ...] = ()
    question: str | None = None
    choices: tuple[str, ...] = ()
    truth: TruthEvaluation | None = None
    lesions_sha256: str | None = None
    versions: Mapping[str, str] = {}

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All findings over the targets, numbered as in `lesions.*`."""
        return tuple(f for t in self.targets for f in t.findings)
