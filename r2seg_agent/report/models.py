"""The report as typed objects: what `r2seg_agent.find` returns and `report.json` holds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import PrivateAttr, ValidationError

from r2seg_agent.cautions import Caution
from r2seg_agent.errors import InputError
from r2seg_agent.frozen import Frozen
from r2seg_agent.method.models import ChosenLevel, Finding, FindingSource, ImageInfo, SearchRound, unique
from r2seg_agent.method.presets import Preset
from r2seg_agent.outcomes import DISCLAIMER, OutcomeKind
from r2seg_agent.reason.anchors.protocol import AnchorSourceInfo
from r2seg_agent.reason.plan import AnatomyPlan, Choice
from r2seg_agent.reject.profile import ScanProfile
from r2seg_agent.reject.settings import Mode
from r2seg_agent.report.masks import lesion_labels
from r2seg_agent.report.notebook import findings_text, report_html
from r2seg_agent.report.table_rows import FindingRow, finding_rows, to_dataframe
from r2seg_agent.segment.auto import SegmenterChoice
from r2seg_agent.segment.protocol import SegmenterInfo
from r2seg_agent.store.artifacts import ArtifactStore

if TYPE_CHECKING:
    from pandas import DataFrame

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

    mode: Mode
    guarantee: str
    valid: bool
    alpha: float
    statistic: str
    feature: str
    permutations: int | None = None
    seed: int
    calibration_sha256: str | None = None
    rounds: int | None = None
    """Rounds that the p-values pay for, where a calibration judges."""
    threshold: float | None = None
    """What p is compared with, where a calibration judges."""
    level_bound: float | None = None
    """The chance of a false finding by this very calibration is at most this, with 95 % confidence."""
    confidence: float | None = None
    """How sure the level of this very calibration is to be at most `alpha`; None: in the mean over calibrations."""
    first_alpha: float | None = None
    """The level in force when p-values were first seen, of which the promise speaks; None: `alpha` itself."""
    levels: tuple[ChosenLevel, ...] = ()
    """Levels that the user chose in the conversation, in order; empty where the run's own was kept."""
    e_value: float | None = None
    """Of the rounds reached, where a calibration judges: whoever chooses alpha after looking may use 1 / e or more."""
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
    segmenter_choice: SegmenterChoice | None = None
    """What `auto` chose and why; None where the segmenter was named."""
    reject: RejectInfo | None = None
    targets: tuple[TargetReport, ...] = ()
    question: str | None = None
    choices: tuple[Choice, ...] = ()
    truth: TruthEvaluation | None = None
    lesions_sha256: str | None = None
    versions: Mapping[str, str] = {}
    _source: FindingSource = PrivateAttr(default_factory=FindingSource)

    @classmethod
    def of_run(cls, folder: Path | str) -> Report:
        """The report in a run's folder (`WORKSPACE/runs/ID`), its masks read from the workspace around it.

        Raises `InputError` where there is none, or one of another version.
        """
        folder = Path(folder)
        try:
            report = cls.model_validate_json((folder / "report.json").read_bytes())
        except (OSError, ValidationError) as error:
            raise InputError(
                f"`{folder}` holds no report of this version of r2seg",
                "Give the folder of a finished run, WORKSPACE/runs/ID.",
            ) from error
        artifacts = folder.parent.parent / "artifacts"
        return report.with_store(ArtifactStore(artifacts)) if artifacts.is_dir() else report

    def with_store(self, store: ArtifactStore) -> Report:
        """A copy whose findings read their voxels from `store`."""
        bound = self.model_copy()
        bound._source = FindingSource(store=store)
        return bound

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All findings over the targets, numbered as in `lesions.*`; one that several share is that of the first."""
        source = FindingSource(
            store=self._source.store,
            shape=None if self.image is None else self.image.geometry.shape,
            p_valid=self.reject is not None and self.reject.valid,
        )
        return tuple(f.of_run(source) for f in unique(f for t in self.targets for f in t.findings))

    def targets_of(self, number: int) -> tuple[str, ...]:
        """Names of the targets that finding `number` was found for."""
        return tuple(t.plan.target_name for t in self.targets if any(f.number == number for f in t.findings))

    def lesions(self) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """Labels (z, y, x) on the scan's grid, each finding under its number, as in `lesions.*`; 0 elsewhere.

        For an image of nibabel, `lesions().T` has its axes (x, y, z). Raises as `Finding.mask`.
        """
        if self.image is None or self._source.store is None:
            raise InputError(
                "this report was read without its run, so its voxels are not at hand",
                "Use the report that `find` returns, or `Report.of_run(FOLDER)`.",
            )
        return lesion_labels(self._source.store, self.findings, self.image.geometry.shape)

    def rows(self, *, patient: str = "") -> tuple[FindingRow, ...]:
        """The findings table, as in `findings.csv`; `patient` as a data set names it."""
        case = "" if self.image is None else self.image.name
        return finding_rows(self.findings, run=self.run_id, case=case, patient=patient)

    def to_dataframe(self) -> DataFrame:
        """The findings table as a `pandas.DataFrame`; raises `MissingDependencyError` without pandas."""
        return to_dataframe(self.rows())

    def summary(self) -> str:
        """The answer with its choices, the findings as a Markdown table, the warnings and the disclaimer, as text."""
        choices = (f"Choices: {', '.join(choice.text for choice in self.choices)}",) if self.choices else ()
        table = (findings_text(self.findings),) if self.findings else ()
        warnings = (caution.text for caution in self.warnings)
        return "\n\n".join((self.answer, *choices, *table, *warnings, self.disclaimer))

    def __repr__(self) -> str:
        found = ", ".join(repr(finding) for finding in self.findings[:3])
        more = ", …" if len(self.findings) > 3 else ""
        return (
            f"Report({self.run_id}: {self.outcome}, {len(self.findings)} findings [{found}{more}]. {self.disclaimer})"
        )

    __str__ = __repr__

    def _repr_html_(self) -> str:
        warnings = tuple(caution.text for caution in self.warnings)
        return report_html(self.request, self.answer, self.outcome, warnings, self.findings, self.disclaimer)
