"""`ArtifactStore`: arrays and JSON by content hash, written atomically, memory-mapped when read.

Layout below the workspace: `artifacts/ab/<sha256>.npy|.json` and `artifacts/recipes/<sha256>.json`. A *recipe* is the
canonical JSON of everything that went into an artifact (input hashes, settings, versions): its hash is the cache key.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.errors import InputError, RunFailedError
from r2seg_agent.imaging.geometry import Geometry
from r2seg_agent.imaging.identity import array_sha256
from r2seg_agent.store.refs import ArtifactKind, ArtifactRef

Json = Mapping[str, object]


def canonical_json(value: object) -> bytes:
    """UTF-8 JSON with sorted keys and no white space: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def recipe_sha256(recipe: Json) -> str:
    """The cache key of a recipe."""
    return hashlib.sha256(canonical_json(recipe)).hexdigest()


class ArtifactStore:
    """Artifacts below `root`; safe for several processes at once, since a name is its content."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._checked: set[str] = set()
        try:
            (root / "recipes").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"cannot write to the workspace `{root.parent}`: {error.strerror}",
                "Choose another folder with --workspace, or free space and check its permissions.",
            ) from error

    def put_array(
        self, kind: ArtifactKind, array: NDArray[Any], geometry: Geometry | None, params: Json | None = None
    ) -> ArtifactRef:
        """Store `array` (made with `params`) unless it is there already, and return its reference."""
        params = params or {}
        contiguous = np.ascontiguousarray(array)
        sha256 = array_sha256(contiguous, geometry, canonical_json(params).decode())
        ref = ArtifactRef(
            sha256=sha256, kind=kind, shape=contiguous.shape, dtype=contiguous.dtype.str, geometry=geometry
        )
        if not self.path(sha256, ".npy").exists():
            self._write(self.path(sha256, ".npy"), lambda file: np.save(file, contiguous, allow_pickle=False))
            self._write_json(self.path(sha256, ".json"), {"ref": ref.model_dump(mode="json"), "params": dict(params)})
        return ref

    def array(self, ref: ArtifactRef) -> NDArray[Any]:
        """The stored array, memory-mapped and read-only.

        Its bytes are checked against the hash the first time. Raises `RunFailedError` when it is missing or changed.
        """
        try:
            loaded = self._load(ref)
        except (OSError, ValueError) as error:
            raise RunFailedError(
                f"artifact `{ref.sha256[:12]}` ({ref.kind}) is missing or damaged in the workspace",
                "Run the same command again: it recomputes what is missing.",
            ) from error
        if ref.sha256 not in self._checked:
            if not self._is_whole(ref, loaded):
                raise RunFailedError(
                    f"artifact `{ref.sha256[:12]}` ({ref.kind}) was changed after it was written: its hash differs",
                    f"Delete `artifacts/{ref.sha256[:2]}/{ref.sha256}.npy` in the workspace and run the command again.",
                )
            self._checked.add(ref.sha256)
        return loaded

    def _load(self, ref: ArtifactRef) -> NDArray[Any]:
        """`OSError` or `ValueError` for a file that is no whole array."""
        try:
            loaded = np.load(self.path(ref.sha256, ".npy"), mmap_mode="r", allow_pickle=False)
        except EOFError as error:
            raise ValueError("an empty file") from error
        if not isinstance(loaded, np.ndarray):
            raise ValueError("a file of several arrays")
        return loaded

    def _is_whole(self, ref: ArtifactRef, array: NDArray[Any]) -> bool:
        try:
            params = json.loads(self.path(ref.sha256, ".json").read_bytes())["params"]
            return array_sha256(array, ref.geometry, canonical_json(params).decode()) == ref.sha256
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            return False

    def verify(self, ref: ArtifactRef) -> bool:
        """True when the stored bytes of an array still give the hash in `ref`."""
        try:
            return self._is_whole(ref, self._load(ref))
        except (OSError, ValueError):
            return False

    def put_json(self, value: Json) -> ArtifactRef:
        """Store a JSON document by the hash of its canonical form."""
        data = canonical_json(value)
        sha256 = hashlib.sha256(data).hexdigest()
        path = self.path(sha256, ".doc.json")
        if not path.exists():
            self._write(path, lambda file: file.write(data))
        return ArtifactRef(sha256=sha256, kind="json")

    def json(self, ref: ArtifactRef) -> bytes:
        """The bytes of a stored JSON document, checked against its hash."""
        try:
            data = self.path(ref.sha256, ".doc.json").read_bytes()
        except OSError as error:
            raise RunFailedError(f"artifact `{ref.sha256[:12]}` is missing in the workspace") from error
        if hashlib.sha256(data).hexdigest() != ref.sha256:
            raise RunFailedError(f"artifact `{ref.sha256[:12]}` was changed after it was written")
        return data

    def put_picture(self, draw: Callable[[Path], None]) -> ArtifactRef:
        """Store the PNG that `draw` writes to the path it is given, by the hash of its bytes."""
        with tempfile.TemporaryDirectory(dir=self.root, prefix=".part-") as scratch:
            drawn = Path(scratch) / "picture.png"
            draw(drawn)
            data = drawn.read_bytes()
        sha256 = hashlib.sha256(data).hexdigest()
        path = self.path(sha256, ".png")
        if not path.exists():
            self._write(path, lambda file: file.write(data))
        return ArtifactRef(sha256=sha256, kind="picture")

    def recall(self, recipe: Json) -> ArtifactRef | None:
        """What `remember` stored for this recipe, if the artifact is still there."""
        path = self._recipe_path(recipe)
        try:
            ref = ArtifactRef.model_validate_json(path.read_bytes())
        except (OSError, ValueError):
            return None
        suffix = ".doc.json" if ref.kind == "json" else ".npy"
        return ref if self.path(ref.sha256, suffix).exists() else None

    def remember(self, recipe: Json, ref: ArtifactRef) -> None:
        """Note that `recipe` gives `ref`."""
        self._write_json(self._recipe_path(recipe), ref.model_dump(mode="json"))

    def path(self, sha256: str, suffix: str) -> Path:
        """Where the file of an artifact lies (or would lie)."""
        return self.root / sha256[:2] / f"{sha256}{suffix}"

    def _recipe_path(self, recipe: Json) -> Path:
        return self.root / "recipes" / f"{recipe_sha256(recipe)}.json"

    def _write_json(self, path: Path, value: Json) -> None:
        data = canonical_json(value)
        self._write(path, lambda file: file.write(data))

    @staticmethod
    def _write(path: Path, write: Any) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".part-", delete=False) as file:
                try:
                    write(file)
                    file.flush()
                    os.replace(file.name, path)
                except BaseException:
                    Path(file.name).unlink(missing_ok=True)
                    raise
        except OSError as error:
            raise RunFailedError(
                f"cannot write to the workspace: {error.strerror}",
                "Free space there or choose another folder with --workspace; nothing half-written was left.",
            ) from error
