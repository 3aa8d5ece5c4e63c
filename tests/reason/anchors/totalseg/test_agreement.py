"""Voxel for voxel what the library's own `totalsegmentator()` gives, on its three kinds of path.

The library runs as it is, except that nnU-Net's own sequential prediction replaces its two helper processes (they
would only cost time; the benchmark compares with them). Networks that the repository does not hold are made up.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.phantoms import phantom as drawn

from r2seg_agent.phantom import Phantom
from r2seg_agent.reason.anchors.totalseg.image import to_nifti
from r2seg_agent.reason.anchors.totalseg.source import TotalSegmentatorSource
from r2seg_agent.reason.anchors.totalseg.tasks import WeightSet, task_spec
from r2seg_agent.reason.anchors.totalseg.weights import model_dir
from studies import train_tiny_totalseg as tiny

TINY = Path(__file__).parents[3] / "data" / "tiny_totalseg"
Stock = Callable[..., np.ndarray]


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return drawn(515_151, spacing_mm=(5.0, 3.0, 3.5), shape=(58, 84, 100), shift_mm=(-90.0, 0.0, 0.0), phase="venous")


@pytest.fixture(autouse=True)
def as_many_threads_as_theirs() -> Iterator[None]:
    """The library sets the number of its threads itself, and with another one a sum may round the other way."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    shutil.copytree(TINY, tmp_path / "weights")
    return tmp_path / "weights"


@pytest.fixture
def stock(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stock:
    """`totalsegmentator(image, **options)` as labels (z, y, x), with its folders in `tmp_path`."""
    home = tmp_path / "home"
    home.mkdir()
    config = {"totalseg_id": "test", "send_usage_stats": False, "prediction_counter": 0}
    (home / "config.json").write_text(json.dumps({**config, "statistics_disclaimer_shown": True}))
    monkeypatch.setenv("TOTALSEG_HOME_DIR", str(home))
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(weights))
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(name, str(weights))
    import nnunetv2.utilities.dataset_name_id_conversion as conversion
    import nnunetv2.utilities.file_path_utilities as paths
    from totalsegmentator.nnunet import nnUNetPredictor
    from totalsegmentator.python_api import totalsegmentator

    for module in (conversion, paths):
        for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
            monkeypatch.setattr(module, name, str(weights), raising=False)

    def sequential(self: Any, source: str, out: str, **options: Any) -> Any:
        kept = {k: options[k] for k in ("save_probabilities", "overwrite", "folder_with_segs_from_prev_stage")}
        return self.predict_from_files_sequential(source, out, **kept)

    monkeypatch.setattr(nnUNetPredictor, "predict_from_files", sequential)

    def call(phantom: Phantom, **options: Any) -> np.ndarray:
        found = totalsegmentator(to_nifti(phantom.volume), None, device="cpu", quiet=True, **options)
        return np.asanyarray(found.dataobj).astype(np.uint8).transpose(2, 1, 0)

    return call


def _made_up(weights: Path, wanted: WeightSet, n_labels: int, spacing_zyx: tuple[float, ...]) -> None:
    """A network of random weights in the place of `wanted`: it finds nonsense, but the same nonsense for both."""
    folder = model_dir(weights, wanted)
    (folder / "fold_0").mkdir(parents=True)
    plans, dataset = tiny._plans(), tiny._dataset()
    configuration = plans["configurations"].pop("3d_fullres")
    configuration |= {"patch_size": [64, 48, 64], "spacing": list(spacing_zyx)}
    arch = configuration["architecture"]["arch_kwargs"]
    arch |= {
        "n_stages": 2,
        "features_per_stage": [4, 6],
        "kernel_sizes": [[3] * 3] * 2,
        "strides": [[1] * 3, [2] * 3],
        "n_conv_per_stage": [1, 1],
        "n_conv_per_stage_decoder": [1],
    }
    name = wanted.model_folder.rsplit("__", maxsplit=1)[-1]
    plans["configurations"][name] = configuration
    dataset["labels"] = {"background": 0, **{f"label_{i}": i for i in range(1, n_labels + 1)}}
    torch.manual_seed(wanted.set_id + 2)
    network = tiny.build_network(n_labels + 1, configuration["architecture"])
    with torch.no_grad():  # every class is the largest somewhere: its direction is as long as any other
        last = network.decoder.seg_layers[-1]
        last.weight.copy_(torch.nn.functional.normalize(last.weight.abs(), dim=1))
        last.bias.zero_()
    torch.save(
        {
            "network_weights": network.state_dict(),
            "trainer_name": wanted.model_folder.split("__", maxsplit=1)[0],
            "init_args": {"configuration": name},
        },
        folder / "fold_0" / "checkpoint_final.pth",
    )
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset))


def test_whole_scan_by_one_network(stock: Stock, phantom: Phantom, weights: Path):
    theirs = stock(phantom, fastest=True)
    ours = TotalSegmentatorSource("fastest", "cpu", weights).locate(phantom.volume, ["liver"])
    assert len(np.unique(theirs)) > 20
    assert np.array_equal(ours.labels, theirs)


@pytest.mark.slow
def test_wanted_organs_of_two_networks_in_a_rough_crop(stock: Stock, phantom: Phantom, weights: Path):
    spec = task_spec("total", "full")
    for weight_set in spec.sets:
        if weight_set.set_id in (291, 292):
            _made_up(weights, weight_set, max(spec.parts[weight_set.set_id]), (1.5, 1.5, 1.5))
        else:
            (weights / weight_set.folder).mkdir()  # the library only looks whether it is there
    theirs = stock(phantom, roi_subset=["kidney_left", "vertebrae_L1"])
    ours = TotalSegmentatorSource("full", "cpu", weights).locate(phantom.volume, ["kidney_left", "vertebrae_L1"])
    assert ours.info.settings["networks"] == "291,292,298"
    for organ in ("kidney_left", "vertebrae_L1"):
        mask = theirs == ours.names[organ][0]
        assert mask.any()
        assert np.array_equal(ours.mask(organ), mask)
    rough = TotalSegmentatorSource("fastest", "cpu", weights).locate(phantom.volume, ["liver"])
    covered = ours.mask(["kidney_left", "vertebrae_L1"])
    assert np.array_equal(ours.mask("liver"), rough.mask("liver") & ~covered), "others: whole, from the rough network"


@pytest.mark.slow
def test_an_organ_of_a_sub_task_beside_one_of_total(stock: Stock, phantom: Phantom, weights: Path):
    """`liver_vessels` crops around the rough liver and runs on the scan's own grid, nnU-Net resampling inside."""
    (weight_set,) = task_spec("liver_vessels").sets
    _made_up(weights, weight_set, 2, (5.0, 4.0, 4.0))
    theirs = stock(phantom, task="liver_vessels")
    source = TotalSegmentatorSource("fastest", "cpu", weights)
    ours = source.locate(phantom.volume, ["liver", "liver_vessels"])
    assert ours.info.settings["tasks"] == "total,liver_vessels"
    assert (theirs == 1).any()
    assert np.array_equal(ours.mask("liver_vessels"), theirs == 1)
    alone = source.locate(phantom.volume, ["liver"])
    for organ in ("liver", "stomach", "lungs"):
        assert np.array_equal(ours.mask(organ), alone.mask(organ)), "a voxel may belong to organs of two tasks"


@pytest.mark.slow
def test_mr(stock: Stock, weights: Path):
    (weight_set,) = task_spec("total_mr", "fastest").sets
    _made_up(weights, weight_set, 50, (6.0, 6.0, 6.0))
    scan = drawn(7, spacing_mm=(8.0, 4.0, 4.0), modality="MR")
    theirs = stock(scan, task="total_mr", fastest=True)
    ours = TotalSegmentatorSource("fastest", "cpu", weights).locate(scan.volume, ["liver"])
    assert len(np.unique(theirs)) > 3
    assert np.array_equal(ours.labels, theirs)
