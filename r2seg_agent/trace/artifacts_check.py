"""Are the artifacts of a run what they were when they were stored? Follows references from document to document."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from pydantic import JsonValue, TypeAdapter, ValidationError

from r2seg_agent.imaging.identity import array_sha256
from r2seg_agent.store.artifacts import ArtifactStore, canonical_json
from r2seg_agent.store.refs import ArtifactRef

_JSON: TypeAdapter[JsonValue] = TypeAdapter(JsonValue)


def artifact_problem(store: ArtifactStore, sha256: str, kind: str) -> str:
    """Why the stored bytes do not give `sha256`; empty where they do."""
    suffix = {"json": ".doc.json", "picture": ".png"}.get(kind, ".npy")
    path = store.path(sha256, suffix)
    if not path.exists():
        return "it is missing in the workspace"
    try:
        found = _array_hash(store, sha256) if suffix == ".npy" else hashlib.sha256(path.read_bytes()).hexdigest()
    except (OSError, ValueError, KeyError):
        return "it cannot be read: its file is damaged"
    return "" if found == sha256 else f"its contents give {found[:12]}: it was changed after it was written"


def references(store: ArtifactStore, sha256: str) -> Iterator[tuple[str, str]]:
    """(sha256, kind) of what a stored JSON document refers to; nothing where it cannot be read."""
    try:
        yield from _references(_JSON.validate_json(store.path(sha256, ".doc.json").read_bytes()))
    except (OSError, ValidationError):
        return


def _references(value: JsonValue) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        sha256, kind = value.get("sha256"), value.get("kind")
        if isinstance(sha256, str) and isinstance(kind, str) and "shape" in value:
            yield sha256, kind
        for inner in value.values():
            yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)


def _array_hash(store: ArtifactStore, sha256: str) -> str:
    """The hash of a stored array over voxels, grid and parameters, the latter two from the file beside it."""
    beside: Mapping[str, Any] = json.loads(store.path(sha256, ".json").read_bytes())
    ref = ArtifactRef.model_validate(beside["ref"])
    array = np.load(store.path(sha256, ".npy"), mmap_mode="r", allow_pickle=False)
    return array_sha256(array, ref.geometry, canonical_json(beside["params"]).decode())
