"""The report as typed objects: what `r2seg_agent.find` returns and `report.json` holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from r2seg_agent.cautions import Caution
from r2seg_agent.frozen import Frozen
from r2seg_agent.method.models import Finding, ImageInfo, SearchRound
from r2seg_agent.method.presets import Preset
from r2seg_agent.outcomes import DISCLAIMER, OutcomeKind
from r2seg_agent.reason.anchors.protocol import AnchorSourceInfo
from r2seg_agent.reason.plan import AnatomyPlan, Choice
from r2seg_agent.reject.profile import ScanProfile
from r2seg_agent.segment.protocol import SegmenterInfo

SCHEMA_VERSION = "2"
PlannerKind = Literal["offline", "model", "replay"]
"""`offline`: rules, a stand-in for a language model. `replay`: the record of an earlier run."""


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
    warnings: tuple[Caution, ...] = ()
    image: ImageInfo | None = None
    planner: str
    planner_kind: PlannerKind | Literal["plan_file"]
    """Who planned; `plan_file`: the plans were given."""
    anchor_source: AnchorSourceInfo | None = None
    segmenter: SegmenterInfo | None = None
    reject: RejectInfo | None = None
    targets: tuple[TargetReport, ...] = ()
    question: str | None = None
    choices: tuple[Choice, ...] = ()
    truth: TruthEvaluation | None = None
    lesions_sha256: str | None = None
    versions: Mapping[str, str] = {}

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All findings over the targets, numbered as in `lesions.*`."""
        return tuple(f for t in self.targets for f in t.findings)
