"""Made-up label maps and cases for the tests of the evaluation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from r2seg_agent.evals.lesions import match_lesions
from r2seg_agent.evals.models import CandidateMatch, CaseEvaluation, EvaluationSettings
from r2seg_agent.evals.overlap import shared_voxels, voxel_counts
from r2seg_agent.evals.slices import slice_counts

FAST = EvaluationSettings(surface=False, resamples=200)
VOXEL_ML = 0.05


def blobs(rng: np.random.Generator, shape: tuple[int, int, int] = (8, 16, 16), share: float = 0.08) -> NDArray[Any]:
    """A label map of a few smooth bodies, maybe none."""
    noise = ndimage.gaussian_filter(rng.standard_normal(shape), 1.2)
    labels, _ = ndimage.label(noise > np.quantile(noise, 1 - share) if share else np.zeros(shape, bool))
    return labels.astype(np.uint16)


def pair(rng: np.random.Generator, *, bearing: bool = True) -> tuple[NDArray[Any], NDArray[Any]]:
    """Lesions and findings that overlap here and there."""
    lesions = blobs(rng, share=0.08 if bearing else 0.0)
    moved = np.roll(lesions, int(rng.integers(0, 3)), axis=2)
    findings = np.where(rng.random() < 0.8, moved, 0) + np.where(moved == 0, blobs(rng, share=0.04) * 50, 0)
    return lesions, findings.astype(np.uint16)


def case_of(
    lesions: NDArray[Any],
    findings: NDArray[Any],
    *,
    number: int = 1,
    patient: str = "a",
    candidates: tuple[CandidateMatch, ...] | None = (),
    settings: EvaluationSettings = FAST,
    **more: Any,
) -> CaseEvaluation:
    """What the evaluation knows of a case with these label maps."""
    shared = shared_voxels(lesions, findings)
    matched, found = match_lesions(shared, VOXEL_ML, least_iou=settings.iou, bounds_ml=settings.size_bounds_ml)
    known = {
        "id": f"{number:012x}",
        "number": number,
        "name": f"case {number}",
        "patient": patient,
        "request_id": "r",
        "image_sha256": f"{number:064x}",
        "status": "done",
        "outcome": "lesions_found" if found else "no_lesion_survived",
        "answered": True,
        "truth": "mask" if matched else "lesion-free",
        "true_ml": sum(m.volume_ml for m in matched),
        "found_ml": sum(f.volume_ml for f in found),
        "voxels": voxel_counts(shared, lesions.size),
        "slices": slice_counts(lesions, findings),
        "lesions": matched,
        "findings": found,
        "candidates": candidates,
    }
    return CaseEvaluation.model_validate({**known, **more})


def candidate(
    name: str, score: float | None, hits: tuple[int, ...] = (), overlaps: tuple[int, ...] | None = None
) -> CandidateMatch:
    """A candidate of this score that hits these lesions."""
    return CandidateMatch(
        id=name,
        survived=False,
        volume_ml=1.0,
        score=score,
        p=None if score is None else float(1 / (1 + np.exp(score))),
        probability=0.5,
        prominence=1.0,
        hits_iou=hits,
        hits_overlap=hits if overlaps is None else overlaps,
    )


def many_cases(seed: int, n: int, patients: int) -> list[CaseEvaluation]:
    """Cases of some patients, bearing and free, with candidates of all kinds."""
    rng = np.random.default_rng(seed)
    cases = []
    for number in range(n):
        lesions, findings = pair(rng, bearing=bool(rng.random() < 0.7))
        labels = [int(v) for v in np.unique(lesions) if v]
        candidates = tuple(
            candidate(
                f"t1r1c{k}",
                round(float(rng.normal()), 1),
                (int(rng.choice(labels)),) if labels and rng.random() < 0.5 else (),
            )
            for k in range(int(rng.integers(0, 6)))
        )
        patient = f"p{number % patients}"
        cases.append(case_of(lesions, findings, number=number, patient=patient, candidates=candidates))
    return cases
