"""Candidates between two tools: what `segment_lesions` stores and `reject_candidates` reads back, exactly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from r2seg_agent.frozen import Frozen
from r2seg_agent.imaging.geometry import Box, Geometry
from r2seg_agent.reject.gates import GateResult
from r2seg_agent.segment.candidates import CandidateFeatures, Region
from r2seg_agent.store.artifacts import ArtifactStore
from r2seg_agent.store.refs import ArtifactRef


class StoredRegion(Frozen):
    """One candidate: its voxels have the value `label`; their probabilities stand in label order."""

    label: int
    box: Box
    scale: float
    n_voxels: int
    features: CandidateFeatures


class StoredRegions(Frozen):
    """All candidates of a round. `labels` covers `box` of the image grid; `probability` is one row of float32, the
    voxels of candidate 1 in (z, y, x) order, then of candidate 2 and so on.
    """

    box: Box
    labels: ArtifactRef
    probability: ArtifactRef
    regions: tuple[StoredRegion, ...]
    presence: tuple[GateResult, ...]
    n_small: int
    n_thin: int
    n_over_limit: int


def store_regions(
    store: ArtifactStore,
    box: Box,
    grid: Geometry,
    regions: Sequence[Region],
    features: Sequence[CandidateFeatures],
    presence: tuple[GateResult, ...],
    dropped: tuple[int, int, int],
) -> tuple[StoredRegions, ArtifactRef]:
    """Store the candidates of a round; returns the document and its reference."""
    labels = np.zeros(box.shape, dtype=np.uint16)
    rows = [np.zeros(0, dtype=np.float32)]
    stored = []
    for number, (region, described) in enumerate(zip(regions, features, strict=True), start=1):
        labels[region.box.within(box).slices][region.mask] = number
        rows.append(region.probability[region.mask].astype(np.float32))
        stored.append(
            StoredRegion(
                label=number,
                box=region.box,
                scale=region.scale,
                n_voxels=int(region.mask.sum()),
                features=described,
            )
        )
    n_small, n_thin, n_over_limit = dropped
    document = StoredRegions(
        box=box,
        labels=store.put_array("candidates", labels, grid.crop(box)),
        probability=store.put_array("probability", np.concatenate(rows), None),
        regions=tuple(stored),
        presence=presence,
        n_small=n_small,
        n_thin=n_thin,
        n_over_limit=n_over_limit,
    )
    return document, store.put_json(document.model_dump(mode="json"))


def load_regions(store: ArtifactStore, ref: ArtifactRef) -> tuple[StoredRegions, tuple[Region, ...]]:
    """The document and its candidates as they were when they were stored."""
    document = StoredRegions.model_validate_json(store.json(ref))
    labels, rows = store.array(document.labels), store.array(document.probability)
    regions = []
    start = 0
    for one in document.regions:
        mask = np.asarray(labels[one.box.within(document.box).slices] == one.label)
        probability = np.zeros(mask.shape, dtype=np.float32)
        probability[mask] = rows[start : start + one.n_voxels]
        start += one.n_voxels
        regions.append(Region(box=one.box, mask=mask, probability=probability, scale=one.scale))
    return document, tuple(regions)
