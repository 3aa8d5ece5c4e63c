"""The artifact store: content is the name, writes are atomic, damage is noticed."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from r2seg_agent.errors import InputError, RunFailedError
from r2seg_agent.imaging.geometry import Geometry
from r2seg_agent.store.artifacts import ArtifactStore, canonical_json, recipe_sha256


def _geometry(shape: tuple[int, int, int] = (2, 3, 4)) -> Geometry:
    return Geometry(shape=shape, spacing_mm=(5.0, 0.7, 0.7))


def test_what_goes_in_comes_out_memory_mapped(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    ref = store.put_array("anchors", array, _geometry(), {"made by": "test"})
    loaded = store.array(ref)
    assert isinstance(loaded, np.memmap)
    np.testing.assert_array_equal(loaded, array)
    assert (ref.shape, ref.dtype, ref.geometry) == ((2, 3, 4), "<i2", _geometry())
    assert store.verify(ref)


@pytest.mark.parametrize("change", ["voxel", "geometry", "params", "dtype"])
def test_the_hash_covers_voxels_grid_type_and_parameters(tmp_path: Path, change: str) -> None:
    store = ArtifactStore(tmp_path)
    array = np.zeros((2, 3, 4), np.uint8)
    base = store.put_array("anchors", array, _geometry(), {"a": 1})
    other = array.copy()
    other[0, 0, 0] = change == "voxel"
    geometry = Geometry(shape=(2, 3, 4), spacing_mm=(5.0, 0.7, 0.8)) if change == "geometry" else _geometry()
    other = other.astype(np.uint16) if change == "dtype" else other
    changed = store.put_array("anchors", other, geometry, {"a": 2 if change == "params" else 1})
    assert changed.sha256 != base.sha256
    assert store.put_array("anchors", array, _geometry(), {"a": 1}) == base


@given(hnp.arrays(np.float32, (1, 2, 3), elements=st.floats(-1e6, 1e6, width=32)))
def test_memory_order_does_not_change_the_name(tmp_path_factory: pytest.TempPathFactory, array: np.ndarray) -> None:
    store = ArtifactStore(tmp_path_factory.mktemp("store"))
    geometry = _geometry((1, 2, 3))
    assert store.put_array("probability", array, geometry) == store.put_array(
        "probability", np.asfortranarray(array), geometry
    )


def test_a_changed_file_fails_verification(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    ref = store.put_array("anchors", np.zeros((2, 3, 4), np.uint8), _geometry())
    path = store.path(ref.sha256, ".npy")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    assert not store.verify(ref)


def test_a_changed_document_is_refused(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    ref = store.put_json({"p": 0.04})
    store.path(ref.sha256, ".doc.json").write_bytes(b'{"p":0.01}')
    with pytest.raises(RunFailedError, match="changed after it was written"):
        store.json(ref)


def test_missing_and_truncated_artifacts_say_what_to_do(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    ref = store.put_array("anchors", np.zeros((2, 3, 4), np.uint8), _geometry())
    store.path(ref.sha256, ".npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(RunFailedError, match="missing or damaged") as caught:
        store.array(ref)
    assert "again" in caught.value.hint


def test_recipes_are_remembered_until_their_artifact_is_gone(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    recipe = {"step": "anchors", "organs": ["liver"]}
    assert store.recall(recipe) is None
    ref = store.put_array("anchors", np.zeros((2, 3, 4), np.uint8), _geometry())
    store.remember(recipe, ref)
    assert ArtifactStore(tmp_path).recall({"organs": ["liver"], "step": "anchors"}) == ref
    store.path(ref.sha256, ".npy").unlink()
    assert store.recall(recipe) is None


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ArtifactStore(tmp_path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(RunFailedError, match="No space left"):
        store.put_array("anchors", np.zeros((2, 3, 4), np.uint8), _geometry())
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_a_workspace_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(InputError, match="cannot write to the workspace"):
        ArtifactStore(tmp_path / "file" / "artifacts")


def test_canonical_json_is_one_text_per_value() -> None:
    assert canonical_json({"b": 1, "a": [1.5, "é"]}) == '{"a":[1.5,"é"],"b":1}'.encode()
    assert recipe_sha256({"a": 1, "b": 2}) == recipe_sha256({"b": 2, "a": 1})
