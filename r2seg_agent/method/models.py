"""The records of the method: image, candidate, search round, finding and its measurements."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from html import escape
from typing import Literal

import numpy as np
from pydantic import PrivateAttr

from r2seg_agent.errors import InputError
from r2seg_agent.frozen import Frozen
from r2seg_agent.imaging.geometry import Box, Float3, Geometry, Index3
from r2seg_agent.imaging.volume import Mask, Modality, Unit
from r2seg_agent.outcomes import DISCLAIMER
from r2seg_agent.reason.roi import ROI
from r2seg_agent.reject.decide import Cause
from r2seg_agent.reject.gates import GateResult
from r2seg_agent.reject.profile import ScanProfile
from r2seg_agent.reject.settings import Mode
from r2seg_agent.segment.candidates import CandidateFeatures, Decision
from r2seg_agent.segment.regions.score import ReferenceShare
from r2seg_agent.store.artifacts import ArtifactStore
from r2seg_agent.store.refs import ArtifactRef


class ImageInfo(Frozen):
    """The scan, by pseudonym."""

    name: str
    sha256: str
    geometry: Geometry
    modality: Modality
    unit: Unit
    synthetic: bool = False
    """True when the user said that the image holds synthetic content; shown wherever results are."""


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
    cause: Cause = "none"
    """What decided (`reject.decide.Cause`)."""
    failed_gate: str | None = None
    """The gate that decided, where `cause` is `gate` or `case`."""
    n_sampled: int = 0
    """m: voxels of it that the test drew."""
    reference: ReferenceShare | None = None
    """Of reference mode: what such a score was worth in the reference set; no probability for this scan."""

    @property
    def passed_gates(self) -> bool:
        """True where no gate refuses it: its score counts among those of its round."""
        return all(gate.passed for gate in self.gates)

    def mask(self, store: ArtifactStore) -> Mask:
        """Boolean (z, y, x) mask over this candidate's own box. Raises `RunFailedError` where its voxels are gone."""
        labels = store.array(self.ref)
        inside = self.box.within(self.ref_box)
        mask: Mask = np.asarray(labels[inside.slices] == self.label)
        return mask


class SearchRound(Frozen):
    """One pass through ROI → segment → reject; `why` says what the referee widened and why.

    `site` is the plan's word for its normal tissue. `mode` and `alpha` are those of its test, `threshold` is what its
    p- or q-values were compared with, `n_reference` is n, the voxels of normal tissue that the test drew. `evidence`
    refers to what its p- and q-values can be derived from again (`r2seg trace verify`). `profile` is what
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
    site: str = ""
    mode: Mode = "paper"
    alpha: float | None = None
    threshold: float | None = None
    n_reference: int = 0
    evidence: ArtifactRef | None = None
    profile: ScanProfile | None = None


class ChosenLevel(Frozen):
    """A level alpha that the user chose in `turn`; `after_p`: p-values had been seen by then."""

    turn: int
    alpha: float
    after_p: bool


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


@dataclass(frozen=True)
class FindingSource:
    """What a finding needs of its run besides what it says itself: the stored voxels, the shape (z, y, x) of the
    scan's grid, and whether p-values are valid. It is no part of the record, so any two count as equal.
    """

    store: ArtifactStore | None = field(default=None, compare=False)
    shape: Index3 | None = field(default=None, compare=False)
    p_valid: bool = field(default=False, compare=False)


class Finding(Frozen):
    """A survivor with its measurements; `number` is its label value in `lesions.*`."""

    number: int
    target: str
    target_name: str
    candidate: Candidate
    measurements: Measurements
    _source: FindingSource = PrivateAttr(default_factory=FindingSource)

    def of_run(self, source: FindingSource) -> Finding:
        """A copy that can show its voxels and, where it is valid, its p-value."""
        bound = self.model_copy()
        bound._source = source
        return bound

    def mask(self) -> Mask:
        """Boolean (z, y, x) mask on the whole grid of the scan, read from the run's workspace.

        For an image of nibabel, `mask().T` has its axes (x, y, z). Raises `InputError` for a finding without a run
        (take it from `Report.findings`), `RunFailedError` where the workspace has lost its voxels.
        """
        if self._source.store is None or self._source.shape is None:
            raise InputError(
                f"finding {self.number} was read without its run, so its voxels are not at hand",
                "Use the findings of the report that `find` returns, or of `Report.of_run(FOLDER)`.",
            )
        mask: Mask = np.zeros(self._source.shape, dtype=np.bool_)
        mask[self.candidate.box.slices] = self.candidate.mask(self._source.store)
        return mask

    @property
    def bounding_box(self) -> Box:
        """Half-open index ranges (z, y, x) on the scan's grid: `array[finding.bounding_box.slices]`."""
        return self.measurements.box

    @property
    def place(self) -> str:
        """Where it is, in patient terms."""
        return self.measurements.place

    @property
    def volume_ml(self) -> float | None:
        """Volume in ml; None where the image states no spacing."""
        return self.measurements.volume_ml if self.measurements.length_unit == "mm" else None

    @property
    def longest_diameter(self) -> float:
        """Longest in-plane diameter, in `measurements.length_unit`."""
        return self.measurements.longest_diameter

    @property
    def perpendicular_diameter(self) -> float:
        """Largest diameter perpendicular to the longest in the same slice, in `measurements.length_unit`."""
        return self.measurements.perpendicular_diameter

    @property
    def probability(self) -> float:
        """The segmenter's mean probability inside it, 0 … 1."""
        return self.candidate.features.mean_probability

    @property
    def score(self) -> float | None:
        """What the Reject test ranks by. It has no scale of its own and is never a p-value."""
        return self.candidate.score

    @property
    def reference(self) -> ReferenceShare | None:
        """Of reference mode: the share of lesions among such findings in the reference set; None in other modes."""
        return self.candidate.reference

    @property
    def p(self) -> float | None:
        """The p-value where the run's Reject mode makes it valid, family-wise over the candidates of the case; None
        otherwise, and for a finding without a run.
        """
        return self.candidate.p if self._source.p_valid else None

    @property
    def q(self) -> float | None:
        """The q-value (Benjamini-Hochberg); None wherever `p` is, and for a finding by a calibration, whose p is
        family-wise.
        """
        return self.candidate.q if self._source.p_valid else None

    def __repr__(self) -> str:
        size = "size unknown" if self.volume_ml is None else f"{self.volume_ml:.3g} ml"
        return f"Finding({self.number}: {self.target_name}, {self.place}, {size})"

    __str__ = __repr__

    def _repr_html_(self) -> str:
        return f"<p>{escape(repr(self))}</p><p><strong>{escape(DISCLAIMER)}</strong></p>"


def unique(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Each number once: targets that share a finding ("lung nodule", "lesion of lung") have it under one number."""
    first: dict[int, Finding] = {}
    for finding in findings:
        first.setdefault(finding.number, finding)
    return tuple(first.values())
