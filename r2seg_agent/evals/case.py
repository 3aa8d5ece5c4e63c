"""One case: its findings and candidates against its truth. What is in memory is one scan's label maps, no more."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.errors import InputError, R2SegError, RunFailedError
from r2seg_agent.evals.candidates import match_candidates
from r2seg_agent.evals.lesions import label_lesions, match_lesions
from r2seg_agent.evals.models import CandidateMatch, CaseEvaluation, EvaluationSettings
from r2seg_agent.evals.overlap import Shared, shared_voxels, voxel_counts
from r2seg_agent.evals.read import RunCase, artifact_store, read_findings, read_report, short_hash
from r2seg_agent.evals.slices import slice_counts
from r2seg_agent.evals.surface import panoptic_counts, surface_distances
from r2seg_agent.evals.truth import read_truth_alone
from r2seg_agent.imaging.geometry import Geometry
from r2seg_agent.imaging.masks import LESION_FREE, read_reference
from r2seg_agent.report.models import Report
from r2seg_agent.segment.protocol import SegmenterInfo
from r2seg_agent.store.artifacts import ArtifactStore


class Evaluated(NamedTuple):
    """A case, its method in words (empty where it has no report), and what was wrong with its files, if anything."""

    case: CaseEvaluation
    method: str = ""
    error: R2SegError | None = None


def evaluate_case(case: RunCase, truth: str | None, settings: EvaluationSettings) -> Evaluated:
    """What is known of a case; `truth` is a file, `LESION_FREE` or None.

    Nothing is raised for one case's files: a run's file that cannot be read makes the case unanswered, a truth that
    cannot be used (another grid, no label map) leaves it without truth; both with the error.
    """
    known: dict[str, Any] = {
        "id": case.id,
        "number": case.number,
        "name": f"case {case.number}",
        "patient": short_hash(case.patient),
        "request_id": short_hash(case.request),
        "run_id": case.run_id,
        "status": case.status,
        "outcome": case.outcome,
        "answered": case.answered,
        "truth": "none" if truth is None else "lesion-free" if truth == LESION_FREE else "mask",
        "p": case.p,
    }
    if case.folder is None:
        return Evaluated(CaseEvaluation(**known, **_unanswered(truth, None, settings)))
    try:
        report = read_report(case)
    except RunFailedError as error:
        known |= {"answered": False, "status": "report unreadable"}
        return Evaluated(CaseEvaluation(**known, **_unanswered(truth, None, settings)), error=error)
    method = method_words(report)
    known["rows"] = report.rows(patient=known["patient"])
    if report.image is not None:
        known |= {
            "name": report.image.name,
            "image_sha256": report.image.sha256,
            "synthetic": report.image.synthetic,
            "measured": report.image.geometry.known_spacing != "none",
        }
    geometry = None if report.image is None else report.image.geometry
    if not case.answered or geometry is None:
        known["answered"] = False
        return Evaluated(CaseEvaluation(**known, **_unanswered(truth, geometry, settings)), method)
    if truth is None:
        return Evaluated(CaseEvaluation(**known), method)
    store = artifact_store(case)
    try:
        findings = read_findings(case, report, store)
    except RunFailedError as error:
        known |= {"answered": False, "status": "findings missing"}
        return Evaluated(CaseEvaluation(**known, **_unanswered(truth, geometry, settings)), method, error)
    try:
        labels = read_reference(truth, geometry)
    except InputError as error:
        known |= {"truth": "none", "note": _without_path(error.message, truth)}
        return Evaluated(CaseEvaluation(**known), method, error)
    lesions = label_lesions(labels, values=settings.labels, instances=settings.instances)
    shared = shared_voxels(lesions, findings)
    voxel_ml = geometry.voxel_volume_mm3 / 1000.0
    matched, found = match_lesions(shared, voxel_ml, least_iou=settings.iou, bounds_ml=settings.size_bounds_ml)
    candidates = _candidates(report, store, lesions, shared, voxel_ml, settings.iou)
    evaluated = CaseEvaluation(
        **known,
        note="" if candidates is not None else "candidates not there",
        true_ml=sum(m.volume_ml for m in matched),
        found_ml=sum(f.volume_ml for f in found),
        voxels=voxel_counts(shared, geometry.n_voxels),
        slices=slice_counts(lesions, findings),
        lesions=matched,
        findings=found,
        candidates=candidates,
        **_surfaces(lesions, findings, geometry, settings),
    )
    return Evaluated(evaluated, method)


def _without_path(message: str, truth: str) -> str:
    """The message of an error about a truth, `FILE` or `FILE::2`, without the user's path."""
    for path in (truth, truth.rpartition("::")[0]):
        message = message.replace(path, "(its file)") if path else message
    return message


def method_words(report: Report) -> str:
    """Which segmenter (with its weights), which Reject mode and which parts of the method, as one line."""
    parts = "" if report.preset == "full" else f"preset {report.preset}; "
    return f"{parts}{_segmenter_words(report.segmenter)}; {_reject_words(report)}; planner {report.planner}"


def _segmenter_words(info: SegmenterInfo | None) -> str:
    if info is None:
        return "no segmenter"
    stand_in = " (a stand-in)" if info.stand_in else ""
    weights = f", weights {info.weights_sha256[:12]}" if info.weights_sha256 else ""
    return f"segmenter {info.name}{stand_in}{weights}"


def _reject_words(report: Report) -> str:
    reject = report.reject
    if reject is None:
        return "nothing was tested"
    calibration = f", calibration {reject.calibration_sha256[:12]}" if reject.calibration_sha256 else ""
    return f"Reject {reject.mode} at α {reject.alpha:g}{calibration} ({reject.guarantee})"


def _candidates(
    report: Report,
    store: ArtifactStore | None,
    lesions: NDArray[Any],
    shared: Shared,
    voxel_ml: float,
    least_iou: float,
) -> tuple[CandidateMatch, ...] | None:
    if store is None:
        return None
    try:
        return match_candidates(report, store, lesions, shared, voxel_ml, least_iou)
    except RunFailedError:
        return None


def _surfaces(
    lesions: NDArray[Any], findings: NDArray[Any], geometry: Geometry, settings: EvaluationSettings
) -> dict[str, Any]:
    if not settings.surface:
        return {}
    distances = None
    if geometry.known_spacing != "none":
        distances = surface_distances(lesions, findings, geometry.spacing_mm, settings.tolerance_mm)
    return {"surface": distances, "panoptic": panoptic_counts(lesions, findings)}


def _unanswered(truth: str | None, geometry: Geometry | None, settings: EvaluationSettings) -> dict[str, Any]:
    """The lesions of a case without an answer, so that they can be counted as missed."""
    if truth is None:
        return {}
    if truth == LESION_FREE:
        return {"unanswered_lesions": ()}
    alone = read_truth_alone(truth)
    if alone is not None:
        labels, grid = alone
    elif geometry is not None:
        try:
            labels, grid = read_reference(truth, geometry), geometry
        except InputError:
            return {"note": "its truth cannot be used"}
    else:
        return {"note": "its truth needs the scan's grid"}
    lesions = label_lesions(labels, values=settings.labels, instances=settings.instances)
    _, counts = np.unique(lesions[lesions > 0], return_counts=True)
    return {"unanswered_lesions": tuple(float(n) * grid.voxel_volume_mm3 / 1000.0 for n in counts)}
