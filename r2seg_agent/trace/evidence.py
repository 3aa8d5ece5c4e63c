"""A round's `Evidence` in the workspace: a JSON document, its samples as one array, its calibration as another one.

Size: (K + 1) · sample_size · d float64 for K candidates of at most 50, 80 kB at the defaults, and some 2 kB of JSON a
candidate; a calibration is stored once, whatever the number of rounds. The samples are grey values of the scan: they
stay in the workspace and are part of no export.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from r2seg_agent.errors import RunFailedError
from r2seg_agent.frozen import Frozen
from r2seg_agent.reject.calibration import Calibration, contents_hash
from r2seg_agent.reject.evidence import Evidence
from r2seg_agent.reject.gates import GateResult
from r2seg_agent.reject.settings import RejectSettings
from r2seg_agent.segment.candidates import CandidateFeatures
from r2seg_agent.store.artifacts import ArtifactStore
from r2seg_agent.store.refs import ArtifactRef


class StoredEvidence(Frozen):
    """`Evidence` without its arrays. `samples` are the rows of X_1 … X_K and then Y; `sizes` says how many of each."""

    schema_version: Literal["2"] = "2"
    samples: ArtifactRef
    sizes: tuple[int, ...]
    features: tuple[CandidateFeatures, ...]
    gates: tuple[tuple[GateResult, ...], ...]
    case_gates: tuple[GateResult, ...]
    settings: RejectSettings
    seed: int
    calibration: ArtifactRef | None = None
    round_index: int = 1


def store_evidence(store: ArtifactStore, evidence: Evidence) -> ArtifactRef:
    """Store what one round's verdicts follow from; equal evidence has equal references."""
    parts = [*evidence.xs, evidence.y]
    document = StoredEvidence(
        samples=store.put_array("samples", np.concatenate(parts).astype("<f8"), None),
        sizes=tuple(len(part) for part in parts),
        features=evidence.features,
        gates=evidence.gates,
        case_gates=evidence.case_gates,
        settings=evidence.settings,
        seed=evidence.seed,
        calibration=None
        if evidence.calibration is None
        else store.put_json(evidence.calibration.model_dump(mode="json")),
        round_index=evidence.round_index,
    )
    return store.put_json(document.model_dump(mode="json"))


def read_evidence(store: ArtifactStore, ref: ArtifactRef) -> tuple[StoredEvidence, Evidence]:
    """The document and the evidence as they were stored.

    Raises `RunFailedError` where an artifact is missing or was changed.
    """
    document = StoredEvidence.model_validate_json(store.json(ref))
    rows = np.asarray(store.array(document.samples))
    if len(rows) != sum(document.sizes):
        raise RunFailedError(f"the evidence names {sum(document.sizes)} samples, its array holds {len(rows)}")
    *xs, y = np.split(rows, np.cumsum(document.sizes)[:-1])
    evidence = Evidence(
        xs=tuple(xs),
        y=y,
        features=document.features,
        gates=document.gates,
        case_gates=document.case_gates,
        settings=document.settings,
        seed=document.seed,
        calibration=None if document.calibration is None else _calibration(store, document.calibration),
        round_index=document.round_index,
    )
    return document, evidence


def _calibration(store: ArtifactStore, ref: ArtifactRef) -> Calibration:
    calibration = Calibration.model_validate_json(store.json(ref))
    if contents_hash(calibration) != calibration.contents_sha256:
        raise RunFailedError("the stored calibration and its own hash differ")
    return calibration
