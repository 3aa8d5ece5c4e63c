"""Loading: strict but for the named leftovers, and clear about what is wrong with a file."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

from r2seg_agent.errors import InputError, MissingDependencyError
from r2seg_agent.segment.biomedparse.config import BiomedParseConfig
from r2seg_agent.segment.biomedparse.model import BiomedParse
from r2seg_agent.segment.biomedparse.weights import load, weights_path

LEFTOVERS = (
    "dilation_kernel",
    "sem_seg_head.predictor.mask_sptial_embed.0",
    "sem_seg_head.predictor.pn_indicator.weight",
)


@pytest.fixture
def state(tiny: BiomedParse) -> dict[str, torch.Tensor]:
    return dict(tiny.state_dict()) | {name: torch.ones(2) for name in LEFTOVERS}


@pytest.fixture
def file(tmp_path: Path, state: dict[str, torch.Tensor]) -> Path:
    torch.save(state, tmp_path / "biomedparse_v1.pt")
    return tmp_path / "biomedparse_v1.pt"


def test_a_checkpoint_loads_and_its_leftovers_are_reported(
    file: Path, tiny: BiomedParse, tiny_config: BiomedParseConfig, image: torch.Tensor
) -> None:
    loaded = load(file, tiny_config)
    assert loaded.ignored == tuple(sorted(LEFTOVERS))
    assert loaded.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    prompts = ["tumor in liver CT"]
    torch.testing.assert_close(loaded.model.predict(image, prompts).logits, tiny.predict(image, prompts).logits)


def test_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("R2SEG_CACHE", str(tmp_path))
    monkeypatch.delenv("R2SEG_BIOMEDPARSE", raising=False)
    assert weights_path() == tmp_path / "weights" / "biomedparse_v1.pt"
    with pytest.raises(MissingDependencyError) as caught:
        load(weights_path())
    for words in ("biomedparse_v1.pt", "CC-BY-NC-SA-4.0", "non-commercial", "R2SEG_BIOMEDPARSE", str(weights_path())):
        assert words in str(caught.value)


def test_the_variable_names_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("R2SEG_BIOMEDPARSE", "/elsewhere/model.pt")
    assert weights_path() == Path("/elsewhere/model.pt")


def test_a_cut_off_file(file: Path, tiny_config: BiomedParseConfig) -> None:
    file.write_bytes(file.read_bytes()[:-5000])
    with pytest.raises(InputError, match="cut off"):
        load(file, tiny_config)


def test_a_file_of_something_else(file: Path, tiny_config: BiomedParseConfig) -> None:
    file.write_text("<html>404</html>")
    with pytest.raises(InputError, match="no PyTorch weights file"):
        load(file, tiny_config)


class NotATensor:
    pass


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        ({"state_dict": {}, "epoch": 3}, "training checkpoint.*v2"),
        ([1, 2], "other than named tensors"),
        ({"model": NotATensor()}, "plain tensors"),
    ],
)
def test_a_checkpoint_of_another_kind(file: Path, tiny_config: BiomedParseConfig, contents: object, words: str) -> None:
    torch.save(contents, file)
    with pytest.raises(InputError, match=words):
        load(file, tiny_config)


def test_another_models_tensors(file: Path, state: dict[str, torch.Tensor], tiny_config: BiomedParseConfig) -> None:
    first = "backbone.patch_embed.proj.weight"
    torch.save({key: tensor for key, tensor in state.items() if key != first} | {"new": torch.ones(1)}, file)
    with pytest.raises(InputError, match=f"1 tensors are missing, the first `{first}`; 1 are unknown, the first `new`"):
        load(file, tiny_config)


def test_another_shape(file: Path, state: dict[str, torch.Tensor], tiny_config: BiomedParseConfig) -> None:
    torch.save(state | {"sem_seg_head.predictor.query_feat.weight": torch.ones(3, 32)}, file)
    with pytest.raises(InputError, match=r"query_feat.weight` is torch.float32 \(3, 32\) where v1 has float \(7, 32\)"):
        load(file, tiny_config)
