"""The records of the method: image, candidate, search round, finding and its measurements."""

from __future__ import annotations

from typing import Literal

from r2seg_agent.frozen import Frozen
from r2seg_agent.imaging.geometry import Box, Float3, Geometry
from r2seg_agent.imaging.volume import Modality, Unit
from r2seg_agent.reason.roi import ROI
from r2seg_agent.reject.decide import Cause
from r2seg_agent.reject.gates import GateResult
from r2seg_agent.reject.profile import ScanProfile
from r2seg_agent.reject.settings import Mode
from r2seg_agent.segment.candidates import CandidateFeatures, Decision
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


class SearchRound(Frozen):
    """One pass through ROI → segment → reject; `why` says what the referee widened and why.

    `site` is the plan's word for its normal tissue. `mode` and `alpha` are those of its test; `n_reference` is n,
    the voxels of normal tissue that the test drew. `evidence` refers to what its p- and q-values can be derived
    from again (`r2seg trace verify`). `profile` is what the scan is like inside the plan's own anchors: measured in
    the first round, where anchors were located.
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
    n_reference: int = 0
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
