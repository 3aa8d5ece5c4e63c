"""Missing, partial, broken and forbidden weights: said before long work, with what to do."""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from r2seg_agent.errors import MissingDependencyError
from r2seg_agent.reason.anchors.totalseg.networks import load_checkpoint
from r2seg_agent.reason.anchors.totalseg.source import TotalSegmentatorSource
from r2seg_agent.reason.anchors.totalseg.tasks import task_spec
from r2seg_agent.reason.anchors.totalseg.weights import weights_sha256

TINY = Path(__file__).parents[3] / "data" / "tiny_totalseg"
FASTEST = task_spec("total", "fastest").sets[0]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    shutil.copytree(TINY, tmp_path / "weights")
    return tmp_path / "weights"


def _model(weights: Path) -> Path:
    return weights / FASTEST.folder / FASTEST.model_folder


def _check(weights: Path, quality="fastest", organs=("liver",), modality="CT") -> None:
    TotalSegmentatorSource(quality, weights_dir=weights).check(modality, organs)


def test_whole_weights_pass(weights: Path):
    _check(weights)


def test_missing_sets_are_named_with_size_and_command(tmp_path: Path):
    with pytest.raises(MissingDependencyError) as error:
        _check(tmp_path, "full", ("liver", "vertebrae_L1"))
    for words in (
        "291 `Dataset291_TotalSegmentator_part1_organs_1559subj` (about 234 MB)",
        "292 `Dataset292_TotalSegmentator_part2_vertebrae_1532subj` (about 234 MB)",
        "298 `Dataset298_TotalSegmentator_total_6mm_1559subj` (size unknown)",
        "not on this machine",
    ):
        assert words in error.value.message
    assert "293" not in error.value.message, "no organ wanted needs it"
    assert f"TOTALSEG_WEIGHTS_PATH={tmp_path} totalseg_download_weights -t total`" in error.value.hint
    assert "totalseg_download_weights -t total_fast`" in error.value.hint
    assert str(tmp_path) in error.value.hint
    assert error.value.exit_status == 3


def test_missing_mr_set(tmp_path: Path):
    with pytest.raises(MissingDependencyError, match="852 `Dataset852_TotalSegMRI_total_3mm_1088subj`") as error:
        _check(tmp_path, "fast", ("liver",), "MR")
    assert "totalseg_download_weights -t total_fast_mr" in error.value.hint


def _drop(name: str) -> Callable[[Path], None]:
    return lambda model: (model / name).unlink()


def _fill(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda model: (model / name).write_bytes(content)


def _truncate(model: Path) -> None:
    path = model / "fold_0" / "checkpoint_final.pth"
    path.write_bytes(path.read_bytes()[:-200])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (shutil.rmtree, "incomplete, `nnUNetTrainer_4000epochs_NoMirroring__nnUNetPlans__3d_f"),
        (_drop("plans.json"), "incomplete, `plans.json` is missing"),
        (_drop("dataset.json"), "incomplete, `dataset.json` is missing"),
        (_fill("plans.json", b""), "broken, `plans.json` is empty or not JSON"),
        (_fill("dataset.json", b"[]"), "broken, `dataset.json` is not a JSON object"),
        (_drop("fold_0/checkpoint_final.pth"), "incomplete, `fold_0/checkpoint_final.pth` is missing"),
        (_fill("fold_0/checkpoint_final.pth", b""), r"broken, `fold_0/checkpoint_final.pth` \(0 bytes\)"),
        (_truncate, "is not a whole checkpoint"),
    ],
)
def test_partial_sets_are_found_before_work(weights: Path, spoil: Callable[[Path], object], words: str):
    spoil(_model(weights))
    with pytest.raises(MissingDependencyError, match=words) as error:
        _check(weights)
    assert "Delete the folders of the broken sets first" in error.value.hint


def test_licensed_task_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TOTALSEG_HOME_DIR", str(tmp_path / "home"))
    with pytest.raises(MissingDependencyError, match="licence number is missing") as error:
        _check(tmp_path, "fast", ("heart_atrium_left",))
    assert "totalseg_set_license -l NUMBER" in error.value.hint


def test_licence_number_is_read_from_the_librarys_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    home = tmp_path / "home"
    home.mkdir()
    (home / "config.json").write_text(json.dumps({"license_number": "aca_" + "0" * 14}))
    monkeypatch.setenv("TOTALSEG_HOME_DIR", str(home))
    with pytest.raises(MissingDependencyError) as error:
        _check(tmp_path, "fast", ("heart_atrium_left",))
    assert "licence number is missing" not in error.value.message


@pytest.mark.parametrize(
    ("variable", "below"), [("TOTALSEG_WEIGHTS_PATH", ""), ("TOTALSEG_HOME_DIR", "nnunet/results")]
)
def test_weights_are_looked_for_where_the_library_looks(tmp_path: Path, monkeypatch, variable: str, below: str):
    monkeypatch.delenv("TOTALSEG_WEIGHTS_PATH", raising=False)
    monkeypatch.delenv("TOTALSEG_HOME_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    with pytest.raises(MissingDependencyError):
        TotalSegmentatorSource("fastest").check("CT", ["liver"])
    shutil.copytree(TINY, tmp_path / "place" / below)
    monkeypatch.setenv(variable, str(tmp_path / "place"))
    TotalSegmentatorSource("fastest").check("CT", ["liver"])


def test_hash_follows_the_checkpoint(weights: Path):
    before = weights_sha256(weights, [FASTEST])
    path = _model(weights) / "fold_0" / "checkpoint_final.pth"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(1, 1))
    assert weights_sha256(weights, [FASTEST]) != before
    assert weights_sha256(weights / "nowhere", [FASTEST]) is None


def test_stand_in_is_named_wherever_info_goes(weights: Path):
    info = TotalSegmentatorSource("fastest", weights_dir=weights).info
    assert info.stand_in
    assert "tiny synthetic test weights" in info.name
    dataset = json.loads((_model(weights) / "dataset.json").read_text())
    assert "NOT the released TotalSegmentator weights" in dataset["description"]


class _Bomb:
    def __reduce__(self):
        return (os.system, ("true",))


def test_a_checkpoint_with_code_in_it_is_refused(tmp_path: Path):
    path = tmp_path / "checkpoint_final.pth"
    torch.save({"network_weights": {}, "init_args": {}, "trainer_name": "x", "more": _Bomb()}, path)
    with pytest.raises(MissingDependencyError, match="cannot be loaded as plain weights"):
        load_checkpoint(path)


def test_what_nnunet_stores_beside_the_weights_is_allowed(tmp_path: Path):
    """The training log of a real checkpoint holds NumPy numbers, its arguments a device and the plans."""
    path = tmp_path / "checkpoint_final.pth"
    stored = {
        "network_weights": {"a": torch.zeros(2)},
        "optimizer_state": {"lr": 0.1},
        "logging": {"mean_fg_dice": [np.float64(0.5), np.float32(0.25)], "epochs": [np.int64(3)]},
        "_best_ema": np.float64(0.7),
        "init_args": {"configuration": "3d_fullres", "device": torch.device("cuda"), "plans": {"a": [1, None]}},
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1, 2),
    }
    torch.save(stored, path)
    loaded = load_checkpoint(path)
    assert loaded["_best_ema"] == 0.7
    assert loaded["init_args"]["device"].type == "cuda"


def test_a_pickle_of_another_kind_is_refused(tmp_path: Path):
    path = tmp_path / "checkpoint_final.pth"
    path.write_bytes(pickle.dumps({"network_weights": {}}, protocol=2))
    with pytest.raises(MissingDependencyError):
        load_checkpoint(path)
    torch.save([1, 2], path)
    with pytest.raises(MissingDependencyError, match="no nnU-Net checkpoint"):
        load_checkpoint(path)
