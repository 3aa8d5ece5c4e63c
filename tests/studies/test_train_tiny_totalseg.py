"""The stand-in network is stored so that TotalSegmentator's path gives what the network itself says."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.phantoms import phantom as drawn

from r2seg_agent.reason.anchors.totalseg.source import TotalSegmentatorSource
from studies import train_tiny_totalseg as tiny

COMMITTED = Path(__file__).parents[1] / "data" / "tiny_totalseg"


@pytest.fixture(scope="module")
def trained() -> tuple[torch.nn.Module, list[int]]:
    return tiny.train(steps=4, seed=1, patients=2)


def test_stored_network_gives_what_it_gave_in_training(trained, tmp_path: Path):
    network, classes = trained
    tiny.store(network, classes, tmp_path)
    phantom = drawn(123_456, spacing_mm=(6.0, 6.0, 6.0), shape=(72, 48, 67), phase="venous")
    found = TotalSegmentatorSource("fastest", "cpu", tmp_path).locate(phantom.volume, ["liver"])
    image, target = tiny.network_input(phantom.volume.array, phantom.labels, classes)
    with torch.inference_mode():
        direct = np.array(classes)[network(image)[0].argmax(0).numpy()]
    z, y, x = ((p - n) // 2 for p, n in zip(tiny.PATCH, phantom.labels.shape, strict=True))
    inner = direct[z : z + 72, y : y + 48, x : x + 67][:, ::-1, ::-1]
    truth = np.array(classes)[target[0].numpy()][z : z + 72, y : y + 48, x : x + 67][:, ::-1, ::-1]
    known = np.where(np.isin(phantom.labels, classes), phantom.labels, 0)
    assert np.array_equal(truth, known), "training sees the canonical orientation of the library"
    assert len(np.unique(inner)) > 3
    assert np.mean(found.labels == inner) > 0.97, "only half precision may differ"


def test_same_seed_trains_the_same_network(trained):
    again, _ = tiny.train(steps=4, seed=1, patients=2)
    for first, second in zip(trained[0].parameters(), again.parameters(), strict=True):
        assert torch.equal(first, second)


def test_the_committed_weights_are_small_and_say_what_they_are():
    files = [path for path in COMMITTED.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 1_000_000
    dataset = json.loads(next(path for path in files if path.name == "dataset.json").read_text())
    assert dataset["description"] == tiny.DESCRIPTION
    assert dataset["r2seg_stand_in"] is True


def test_absent_classes_are_never_found(trained, tmp_path: Path):
    network, classes = trained
    tiny.store(network, classes, tmp_path)
    phantom = drawn(9, spacing_mm=(9.0, 9.0, 9.0))
    found = TotalSegmentatorSource("fastest", "cpu", tmp_path).locate(phantom.volume, ["brain"])
    assert set(np.unique(found.labels)) <= set(classes)
