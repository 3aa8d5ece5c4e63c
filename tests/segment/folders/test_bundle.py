"""Bundles: each format answers as the eager network does, on any grid; faults are named before long work."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.bundle_models import Pointwise, TinyNet, write_bundle
from torch import nn

from r2seg_agent.errors import InputError, MissingDependencyError
from r2seg_agent.imaging.geometry import Box, Geometry
from r2seg_agent.imaging.volume import Volume
from r2seg_agent.segment.folders.bundle import Bundle
from r2seg_agent.segment.folders.spec import parse_spec
from r2seg_agent.segment.protocol import Prompt
from r2seg_agent.segment.registry import segmenter

NEEDS_ONNX = pytest.mark.skipif(
    find_spec("onnxruntime") is None or find_spec("onnx") is None, reason="needs onnx and onnxruntime"
)
FORMATS = ["torchscript", "torch.export", pytest.param("onnx", marks=NEEDS_ONNX)]
TWO_CHANNELS = [
    {"name": "T1", "normalisation": {"kind": "zscore", "mean": 10.0, "sd": 50.0}},
    {"name": "T2", "normalisation": {"kind": "none"}},
]
THREE_CLASSES = [{"name": "background"}, {"name": "brain tumor"}, {"name": "brain metastasis"}]


def _scan(shape: tuple[int, int, int] = (16, 16, 16), seed: int = 0, **changes: Any) -> Volume:
    array = np.random.default_rng(seed).normal(60, 80, shape).astype(np.float32)
    values: dict[str, Any] = {
        "array": array,
        "geometry": Geometry(shape=shape, spacing_mm=(3.0, 2.0, 1.5)),
        "modality": "CT",
        "unit": "HU",
    }
    return Volume(**(values | changes))


def _bundle(folder: Path) -> Bundle:
    return Bundle(parse_spec(f"{folder}#trust", "bundle"))


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("ndim", [2, 3])
def test_every_format_equals_the_eager_network(tmp_path: Path, format: str, ndim: int) -> None:
    network = TinyNet(ndim=ndim)
    folder = write_bundle(
        tmp_path / "b",
        network,
        format,
        ndim=ndim,
        input_size=[16] * ndim,
        modalities=["MR"],
        channels=TWO_CHANNELS,
        classes=THREE_CLASSES,
        activation="softmax",
    )
    first, second = _scan(seed=1), _scan(seed=2)
    case = Volume(
        array=first.array, geometry=first.geometry, modality="MR", unit="arbitrary", channels={"t2w": second.array}
    )
    ours = _bundle(folder).probabilities(case, case.geometry.full_box)
    image = torch.from_numpy(np.stack([(first.array - 10.0) / 50.0, second.array]))
    with torch.inference_mode():
        batch = image[None] if ndim == 3 else image.transpose(0, 1)
        raw = network(batch)
        theirs = raw.softmax(1)[0] if ndim == 3 else raw.softmax(1).transpose(0, 1)
    assert float(theirs[1].std()) > 0.05, "a constant answer would prove nothing"
    np.testing.assert_allclose(ours["brain tumor"], theirs[1], atol=3e-5)
    np.testing.assert_allclose(ours["brain metastasis"], theirs[2], atol=3e-5)


def _pointwise_truth(array: np.ndarray) -> np.ndarray:
    scaled = (np.clip(array, -100.0, 300.0) + 100.0) / 400.0
    return 1.0 / (1.0 + np.exp(-4.0 * (scaled - 0.5)))


@pytest.mark.parametrize("shape", [(7, 40, 33), (20, 12, 50)])
@pytest.mark.parametrize("orientation", ["as_stored", "RAS", "LPS"])
@pytest.mark.parametrize("ndim", [2, 3])
def test_windows_and_turns_leave_each_voxel_where_it_is(
    tmp_path: Path, shape: tuple[int, int, int], orientation: str, ndim: int
) -> None:
    oblique = Geometry(
        shape=shape, spacing_mm=(3.0, 2.0, 1.5), direction=(0.0, 0.0, 1.0, -1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    )
    scan = _scan(shape, geometry=oblique)
    folder = write_bundle(
        tmp_path / "b", Pointwise(0.5, 4.0), ndim=ndim, input_size=[16] * ndim, orientation=orientation, mirror=[0, 1]
    )
    roi = Box(start=(2, 3, 5), stop=(6, 11, 30))
    found = _bundle(folder).probabilities(scan, roi)["liver tumor"]
    np.testing.assert_allclose(found, _pointwise_truth(scan.array)[roi.slices], atol=1e-5)


class Ramp(nn.Module):
    """Answers how far along its last axis a voxel lies, 0 … 1."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.linspace(0.0, 1.0, 16).expand(1, 1, 16, 16, 16) + 0.0 * x


def test_the_network_sees_the_orientation_it_asks_for(tmp_path: Path) -> None:
    scan = _scan()  # stored LPS: the last axis grows to the Left
    answers = {
        orientation: _bundle(
            write_bundle(tmp_path / orientation, Ramp(), orientation=orientation, activation="none")
        ).probabilities(scan, scan.geometry.full_box)["liver tumor"][0, 0]
        for orientation in ("as_stored", "LPS", "RAS")
    }
    rising = np.linspace(0.0, 1.0, 16)
    np.testing.assert_allclose(answers["as_stored"], rising, atol=1e-6)
    np.testing.assert_allclose(answers["LPS"], rising, atol=1e-6)
    np.testing.assert_allclose(answers["RAS"], rising[::-1], atol=1e-6)


@pytest.mark.parametrize("fit", ["sliding_window", "resize"])
def test_resampling_goes_there_and_back(tmp_path: Path, fit: str) -> None:
    """A smooth ball stays where it was through another spacing, or a stretch to the network's input."""
    shape = (18, 30, 40)
    z, y, x = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    mm = (3.0 * (z - 9)) ** 2 + (2.0 * (y - 14)) ** 2 + (1.5 * (x - 20)) ** 2
    array = (100.0 + 200.0 * np.exp(-mm / 300.0)).astype(np.float32)
    scan = _scan(shape, array=array)
    changes: dict[str, Any] = (
        {"spacing_mm": [2.0, 2.0, 2.0]} if fit == "sliding_window" else {"input_size": [24, 24, 24]}
    )
    folder = write_bundle(tmp_path / "b", Pointwise(0.75, 20.0), fit=fit, **changes)
    roi = Box(start=(1, 2, 3), stop=(17, 28, 38))
    found = _bundle(folder).probabilities(scan, roi)["liver tumor"] >= 0.5
    truth = (array >= 200.0)[roi.slices]
    dice = 2.0 * np.sum(found & truth) / (found.sum() + truth.sum())
    assert dice > 0.93


def test_statistics_come_from_the_whole_scan(tmp_path: Path) -> None:
    scan = _scan((20, 30, 30), array=np.random.default_rng(0).gamma(2.0, 30.0, (20, 30, 30)).astype(np.float32))
    channel = {"name": "CT", "normalisation": {"kind": "percentile", "low": 1.0, "high": 99.0}}
    folder = write_bundle(tmp_path / "b", Pointwise(0.5, 4.0), channels=[channel])
    roi = Box(start=(5, 5, 5), stop=(8, 9, 10))
    low, high = np.percentile(scan.array, (1.0, 99.0))
    scaled = (np.clip(scan.array, low, high) - low) / (high - low)
    truth = 1.0 / (1.0 + np.exp(-4.0 * (scaled - 0.5)))
    np.testing.assert_allclose(_bundle(folder).probabilities(scan, roi)["liver tumor"], truth[roi.slices], atol=1e-5)


def test_faults_are_named(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "b", Pointwise(0.5, 4.0))
    with pytest.raises(InputError, match=r"no folder with a `bundle\.json`"):
        segmenter(f"bundle:{tmp_path}").check("CT")
    with pytest.raises(InputError, match="made for CT, the image is MR"):
        segmenter(f"bundle:{folder}#trust").check("MR")
    with pytest.raises(InputError, match="liver tumor"):
        segmenter(f"bundle:{folder}#trust#tumour=liver_lesion").check("CT")
    manifest = json.loads((folder / "bundle.json").read_text())
    network = folder / manifest["file"]
    good = network.read_bytes()
    network.write_bytes(good + b"x")
    with pytest.raises(MissingDependencyError, match="its manifest says"):
        segmenter(f"bundle:{folder}#trust").check("CT")
    network.unlink()
    with pytest.raises(MissingDependencyError, match="lacks its network"):
        segmenter(f"bundle:{folder}#trust").check("CT")
    faulty = manifest | {"input_size": [16, 16], "classes": [], "file": "../network.pt"}
    (folder / "bundle.json").write_text(json.dumps(faulty))
    with pytest.raises(InputError, match="classes") as caught:
        segmenter(f"bundle:{folder}#trust").check("CT")
    assert "`file`" in caught.value.message


def test_a_network_that_breaks_its_promise(tmp_path: Path) -> None:
    scan = _scan()
    folder = write_bundle(tmp_path / "b", Pointwise(0.5, 4.0), classes=[{"name": "liver"}, {"name": "liver tumor"}])
    with pytest.raises(InputError, match=r"answers \(1, 1, 16, 16, 16\).*promises \(1, 2, 16, 16, 16\)"):
        _bundle(folder).probabilities(scan, scan.geometry.full_box)


@pytest.mark.parametrize("format", FORMATS)
def test_a_network_for_another_input(tmp_path: Path, format: str) -> None:
    folder, scan = write_bundle(tmp_path / "b", TinyNet(channels=1, classes=1), format), _scan()
    manifest = json.loads((folder / "bundle.json").read_text())
    manifest["channels"] *= 2
    (folder / "bundle.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=r"fails on \(1, 2, 16, 16, 16\)"):
        _bundle(folder).probabilities(scan, scan.geometry.full_box)


@pytest.mark.parametrize("stated", ["torchscript", "torch.export", pytest.param("onnx", marks=NEEDS_ONNX)])
def test_a_file_of_another_format(tmp_path: Path, stated: str) -> None:
    other = "torch.export" if stated == "torchscript" else "torchscript"
    folder = write_bundle(tmp_path / "b", Pointwise(0.5, 4.0), other)
    manifest = json.loads((folder / "bundle.json").read_text()) | {"format": stated}
    (folder / "bundle.json").write_text(json.dumps(manifest))
    scan = _scan()
    with pytest.raises(MissingDependencyError, match="cannot be loaded as"):
        _bundle(folder).probabilities(scan, scan.geometry.full_box)


def test_onnx_without_its_runtime_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from r2seg_agent.segment.folders import bundle

    folder = write_bundle(tmp_path / "b", Pointwise(0.5, 4.0))
    manifest = json.loads((folder / "bundle.json").read_text()) | {"format": "onnx"}
    (folder / "bundle.json").write_text(json.dumps(manifest))
    monkeypatch.setattr(bundle, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match="onnxruntime") as caught:
        segmenter(f"bundle:{folder}#trust").check("CT")
    assert "r2seg-agent[onnx]" in caught.value.hint


def test_prompts_pick_their_classes(tmp_path: Path) -> None:
    folder = write_bundle(
        tmp_path / "b",
        TinyNet(channels=1),
        classes=[{"name": "background"}, {"name": "left thing", "targets": ["kidney_cyst"], "side": "left"},
                 {"name": "right thing", "targets": ["kidney cyst"], "side": "right"}],
        activation="softmax",
    )  # fmt: skip
    model, scan = segmenter(f"bundle:{folder}#trust"), _scan()
    encoded = model.encode(scan, scan.geometry.full_box)
    asked = [Prompt("", "", "kidney", "CT", concept="kidney_cyst", laterality=side) for side in ("left", "right", None)]
    left, right, both = model.segment(encoded, asked)
    assert not np.allclose(left, right)
    np.testing.assert_allclose(both, left + right, atol=1e-6)
