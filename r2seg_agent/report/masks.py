"""Voxels of candidates and findings, from the label maps in the store."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.imaging.geometry import Index3
from r2seg_agent.imaging.volume import Mask
from r2seg_agent.method.models import Candidate, Finding
from r2seg_agent.store.artifacts import ArtifactStore


def candidate_mask(store: ArtifactStore, candidate: Candidate) -> Mask:
    """Boolean (z, y, x) mask of a candidate over its own box."""
    return candidate.mask(store)


def candidate_dice(store: ArtifactStore, one: Candidate, other: Candidate) -> float:
    """Dice of two candidates' voxels: 1.0 for the same region, 0.0 for none in common."""
    common = one.box.intersection(other.box)
    if common is None:
        return 0.0
    first, second = (
        candidate_mask(store, candidate)[common.within(candidate.box).slices] for candidate in (one, other)
    )
    return 2.0 * int((first & second).sum()) / (one.features.n_voxels + other.features.n_voxels)


def lesion_labels(
    store: ArtifactStore, findings: Sequence[Finding], shape: Index3
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Label map (z, y, x) of a whole grid, each finding under its number; the smaller one wins an overlap."""
    number_type = np.uint8 if len(findings) < 256 else np.uint16
    labels = np.zeros(shape, dtype=number_type)
    for finding in sorted(findings, key=lambda f: (f.candidate.features.n_voxels, f.number), reverse=True):
        labels[finding.candidate.box.slices][candidate_mask(store, finding.candidate)] = finding.number
    return labels
