"""Candidates of all rounds and targets of a report against the lesions, each body once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.evals.models import CandidateMatch
from r2seg_agent.evals.overlap import Shared
from r2seg_agent.imaging.volume import Mask
from r2seg_agent.method.models import Candidate
from r2seg_agent.report.masks import candidate_mask
from r2seg_agent.report.models import Report
from r2seg_agent.segment.features import prominence
from r2seg_agent.store.artifacts import ArtifactStore

SAME_BODY_IOU = 0.5
"""Two candidates of different rounds or targets with a larger IoU are one body, proposed again."""


def match_candidates(
    report: Report, store: ArtifactStore, lesions: NDArray[Any], shared: Shared, voxel_ml: float, least_iou: float
) -> tuple[CandidateMatch, ...]:
    """Every candidate of a report, kept or rejected, with the lesions that it hits by IoU and by overlap.

    `lesions` is a label map (z, y, x), `shared` holds its sizes. Of a body that several rounds or targets proposed the
    survivor counts, else the latest. Raises `RunFailedError` where a label map is missing.
    """
    latest_first = [c for target in report.targets for round_ in target.rounds for c in round_.candidates][::-1]
    kept: list[tuple[Candidate, Mask]] = []
    for candidate in sorted(latest_first, key=lambda c: c.decision != "survived"):
        mask = candidate_mask(store, candidate)
        if not any(_iou(candidate, mask, other, known) > SAME_BODY_IOU for other, known in kept):
            kept.append((candidate, mask))
    return tuple(_match(candidate, mask, lesions, shared, voxel_ml, least_iou) for candidate, mask in kept)


def _match(
    candidate: Candidate, mask: Mask, lesions: NDArray[Any], shared: Shared, voxel_ml: float, least_iou: float
) -> CandidateMatch:
    under = lesions[candidate.box.slices][mask]
    labels, counts = np.unique(under[under > 0], return_counts=True)
    size = int(np.count_nonzero(mask))
    hits = dict(zip(labels.tolist(), counts.tolist(), strict=True))
    return CandidateMatch(
        id=candidate.id,
        survived=candidate.decision == "survived",
        volume_ml=size * voxel_ml,
        score=candidate.score,
        p=candidate.p,
        probability=candidate.features.mean_probability,
        prominence=prominence(candidate.features),
        hits_iou=tuple(k for k, n in hits.items() if n / (shared.lesions[k] + size - n) >= least_iou),
        hits_overlap=tuple(hits),
    )


def _iou(first: Candidate, a: Mask, second: Candidate, b: Mask) -> float:
    common = first.box.intersection(second.box)
    if common is None:
        return 0.0
    both = int(np.count_nonzero(a[common.within(first.box).slices] & b[common.within(second.box).slices]))
    return both / (int(np.count_nonzero(a)) + int(np.count_nonzero(b)) - both) if both else 0.0
