"""VISTA3D: MONAI's own network with made-up weights in the released layout, as a bundle and from the catalogue."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.networks.nets import vista3d132

from r2seg_agent.errors import MissingDependencyError
from r2seg_agent.imaging.geometry import Geometry
from r2seg_agent.imaging.volume import Volume
from r2seg_agent.segment.catalogue.entries import UNKNOWN_SHA256, entry_named
from r2seg_agent.segment.catalogue.fetch import fetch_model
from r2seg_agent.segment.folders.bundle import Bundle
from r2seg_agent.segment.folders.spec import ModelSpec
from r2seg_agent.segment.registry import segmenter

LOW, HIGH = -963.8247715525971, 1053.678477684517
SIZE = 32


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    """A narrow relative (8 features instead of 48) with the same tensors by name."""
    torch.manual_seed(3)
    return vista3d132(encoder_embed_dim=8).eval()


@pytest.fixture(scope="module")
def weights(network: torch.nn.Module) -> bytes:
    return saved(network.state_dict())


def saved(value: object) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


def bundle(folder: Path, data: bytes, **changes: Any) -> Bundle:
    """The shipped manifest over `data`, with small windows."""
    manifest = entry_named("vista3d").manifest_for(UNKNOWN_SHA256).model_dump(mode="json")
    manifest |= {"sha256": hashlib.sha256(data).hexdigest(), "input_size": [SIZE] * 3} | changes
    folder.mkdir(exist_ok=True)
    (folder / "bundle.json").write_text(json.dumps(manifest))
    (folder / "model.pt").write_bytes(data)
    return Bundle(ModelSpec(place=str(folder)))


def scan() -> Volume:
    """A CT of one window in LPS, as DICOM stores it; noise, so that no flip or transposition goes unseen."""
    array = np.random.default_rng(5).normal(40.0, 200.0, (SIZE,) * 3).astype(np.float32)
    geometry = Geometry(shape=array.shape, spacing_mm=(1.5, 1.5, 1.5))
    return Volume(array=array, geometry=geometry, modality="CT", unit="HU", name="noise")


def test_the_answer_is_monais_own_for_the_same_voxels_and_prompts(
    network: torch.nn.Module, weights: bytes, tmp_path: Path
) -> None:
    volume = scan()
    found = bundle(tmp_path, weights).probabilities(volume, volume.geometry.full_box)
    # MONAI: (x, y, z) of RAS, so x and y of LPS run backwards.
    ras = torch.from_numpy(volume.array.transpose(2, 1, 0)[::-1, ::-1].copy())
    scaled = ((ras - LOW) / (HIGH - LOW)).clamp(0.0, 1.0)[None, None]
    prompts = {"lung tumor": 23, "hepatic tumor": 26, "right kidney cyst": 117, "bone lesion": 128}
    with torch.inference_mode():
        vector = torch.tensor([[prompt] for prompt in prompts.values()])
        expected = network(scaled, class_vector=vector, transpose=True)[0].sigmoid()
    assert len(found) == 7
    for name, answer in zip(prompts, expected, strict=True):
        np.testing.assert_allclose(found[name].transpose(2, 1, 0)[::-1, ::-1], answer.numpy(), atol=1e-4)
        assert float(answer.std()) > 0.001


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda state: {"model": state, "epoch": 7},
        lambda state: {"state_dict": {f"module.{name}": value for name, value in state.items()}},
        lambda state: {f"network.{name}": value for name, value in state.items()},
    ],
    ids=["training file", "parallel training", "Hugging Face pipeline"],
)
def test_the_weights_are_found_in_the_wrappers_of_training_programs(
    network: torch.nn.Module, wrapped: Callable[[Any], Any], tmp_path: Path
) -> None:
    assert bundle(tmp_path, saved(wrapped(network.state_dict()))).load() is not None


class _Runs:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("code of a stranger",))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"<!DOCTYPE html><html>sign in</html>", "holds no plain weights"),
        (saved({"model": _Runs()}), "holds no plain weights"),
        (saved([1, 2]), "no table of tensors"),
        (saved({"encoder.weight": torch.zeros(1)}), r"it lacks `class_head.class_embeddings.weight`"),
        (saved({"class_head.class_embeddings.weight": torch.zeros(20, 8)}), "class embeddings have shape"),
        (saved({"class_head.class_embeddings.weight": torch.zeros(512, 8)}), "do not fit VISTA3D: Missing key"),
    ],
    ids=["page", "pickle", "list", "other network", "few classes", "few tensors"],
)
def test_what_is_no_such_network_is_refused_and_nothing_of_it_runs(
    data: bytes, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(MissingDependencyError, match=why):
        bundle(tmp_path, data).load()
    assert "stranger" not in capsys.readouterr().out


def test_it_is_fetched_from_a_folder_looked_at_and_used_by_name(
    weights: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("R2SEG_CACHE", str(tmp_path / "cache"))
    licence = "NVIDIA-Open-Model"
    (tmp_path / "model.pt").write_bytes(b"<!DOCTYPE html><html>sign in</html>")
    with pytest.raises(MissingDependencyError, match="what arrived for `vista3d` cannot be used"):
        fetch_model("vista3d", origin=str(tmp_path), accepted=[licence])
    (tmp_path / "cache").joinpath("models/.pins/vista3d.json").unlink(missing_ok=True)
    (tmp_path / "model.pt").write_bytes(weights)
    fetch_model("vista3d", origin=str(tmp_path), accepted=[licence])
    model = segmenter("vista3d")
    assert (model.info.name, model.info.licence) == ("bundle:vista3d", licence)
    model.check("CT")
    assert model.info.settings["prompts"] == "23, 24, 26, 27, 116, 117, 128"
    assert "hepatic tumor (liver_lesion)" in str(model.info.settings["classes"])


def test_without_monai_the_command_that_installs_it_is_named_before_anything_is_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("R2SEG_CACHE", str(tmp_path))
    entries = "r2seg_agent.segment.catalogue.entries.find_spec"
    monkeypatch.setattr(entries, lambda name: None if name == "monai" else object())
    with pytest.raises(MissingDependencyError, match="needs the package `monai`") as caught:
        fetch_model("vista3d", origin=str(tmp_path), accepted=["NVIDIA-Open-Model"])
    assert caught.value.hint == 'pip install "r2seg-agent[vista3d]"'


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"classes": [{"name": "lung tumor"}]}, "every class of format `vista3d` has a `prompt`"),
        ({"format": "onnx"}, "those of other formats have none"),
        ({"activation": "softmax"}, "activation `sigmoid`"),
    ],
)
def test_a_manifest_that_asks_by_no_prompt_or_not_by_sigmoid_is_refused(changes: dict[str, Any], why: str) -> None:
    from pydantic import ValidationError

    from r2seg_agent.segment.folders.bundle_manifest import Manifest

    manifest = entry_named("vista3d").manifest_for(UNKNOWN_SHA256).model_dump(mode="json") | changes
    with pytest.raises(ValidationError, match=why):
        Manifest.model_validate(manifest)
