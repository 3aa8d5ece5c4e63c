"""`Proposals` between two tools: what `segment_lesions` stores and `reject_candidates` reads back."""

from __future__ import annotations

import numpy as np

from r2seg_agent.frozen import Frozen
from r2seg_agent.imaging.geometry import Box, Geometry
from r2seg_agent.method.round import Proposals
from r2seg_agent.reject.gates import GateResult
from r2seg_agent.segment.candidates import CandidateFeatures, Region
from r2seg_agent.store.artifacts import ArtifactStore
from r2seg_agent.store.refs import ArtifactRef


class StoredRegion(Frozen):
    """One candidate: its voxels have the value `label`; their probabilities stand in label order."""

    label: int
    box: Box
    scale: float
    radius_mm: float
    attached_radius_mm: float
    n_voxels: int
    features: CandidateFeatures


class StoredProposals(Frozen):
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


def store_proposals(store: ArtifactStore, grid: Geometry, proposals: Proposals) -> tuple[StoredProposals, ArtifactRef]:
    """Store the candidates of a round on the image's `grid`; returns the document and its reference."""
    box = proposals.box
    labels = np.zeros(box.shape, dtype=np.uint16)
    rows = [np.zeros(0, dtype=np.float32)]
    stored = []
    for number, (region, features) in enumerate(zip(proposals.regions, proposals.features, strict=True), start=1):
        labels[region.box.within(box).slices][region.mask] = number
        rows.append(region.probability[region.mask].astype(np.float32))
        stored.append(
            StoredRegion(
                label=number,
                box=region.box,
                scale=region.scale,
                radius_mm=region.radius_mm,
                attached_radius_mm=region.attached_radius_mm,
                n_voxels=int(region.mask.sum()),
                features=features,
            )
        )
    document = StoredProposals(
        box=box,
        labels=store.put_array("candidates", labels, grid.crop(box)),
        probability=store.put_array("probability", np.concatenate(rows), None),
        regions=tuple(stored),
        presence=proposals.presence,
        n_small=proposals.n_small,
        n_thin=proposals.n_thin,
        n_over_limit=proposals.n_over_limit,
    )
    return document, store.put_json(document.model_dump(mode="json"))


def load_proposals(store: ArtifactStore, ref: ArtifactRef) -> tuple[StoredProposals, Proposals]:
    """The document and the proposals as they were stored; probabilities outside a candidate's own voxels are 0."""
    document = StoredProposals.model_validate_json(store.json(ref))
    labels, rows = store.array(document.labels), store.array(document.probability)
    regions = []
    start = 0
    for row in document.regions:
        mask = np.asarray(labels[row.box.within(document.box).slices] == row.label)
        probability = np.zeros(mask.shape, dtype=np.float32)
        probability[mask] = rows[start : start + row.n_voxels]
        start += row.n_voxels
        regions.append(
            Region(
                box=row.box,
                mask=mask,
                probability=probability,
                scale=row.scale,
                radius_mm=row.radius_mm,
                attached_radius_mm=row.attached_radius_mm,
            )
        )
    return document, Proposals(
        box=document.box,
        regions=tuple(regions),
        features=tuple(row.features for row in document.regions),
        presence=document.presence,
        n_small=document.n_small,
        n_thin=document.n_thin,
        n_over_limit=document.n_over_limit,
    )
