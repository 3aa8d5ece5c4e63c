"""Golden equality with the official BiomedParse v1, with made-up weights of the released size.

The golden file was measured on the official code; see its keys below. Logits reach ±17, so 2e-4 is float rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from r2seg_agent.segment.biomedparse.decoder import ImageFeatures
from r2seg_agent.segment.biomedparse.model import BiomedParse, Decoded
from r2seg_agent.segment.biomedparse.recipe import fill_with_made_up_weights
from r2seg_agent.segment.biomedparse.text import TextEmbedding
from r2seg_agent.segment.biomedparse.tokenizer import tokenize
from r2seg_agent.segment.biomedparse.weights import IGNORED_PARTS

DATA = Path(__file__).parents[2] / "data" / "biomedparse"
PROMPTS = ("tumor in liver CT", "left kidney in abdomen CT", "edema in brain MRI-FLAIR")
ATOL = 2e-4


@dataclass(frozen=True)
class Official:
    golden: dict[str, np.ndarray]
    model: BiomedParse
    res5: torch.Tensor
    features: ImageFeatures
    texts: list[TextEmbedding]


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(DATA / "golden.npz") as archive:
        return dict(archive)


@pytest.fixture(scope="module")
def official(golden: dict[str, np.ndarray]) -> Official:
    """1.4 GB, built once; the image is encoded once."""
    with torch.device("meta"):
        empty = BiomedParse()
    model = empty.to_empty(device="cpu").eval().requires_grad_(False)
    fill_with_made_up_weights(model)
    maps = model.backbone_maps(torch.from_numpy(golden["image"]).float()[None])
    features = model.decoder_features(maps)[0]
    return Official(golden, model, maps[3][0], features, [model.embed(prompt) for prompt in PROMPTS])


def test_every_tensor_of_the_checkpoint_has_its_place() -> None:
    with torch.device("meta"):
        own = {key: str(tuple(tensor.shape)) for key, tensor in BiomedParse().state_dict().items()}
    lines = (DATA / "keys.tsv").read_text().splitlines()
    released = {key: shape for key, shape, _ in (line.split("\t") for line in lines)}
    assert len(released) == 932
    assert own == {key: shape for key, shape in released.items() if not any(part in key for part in IGNORED_PARTS)}


@pytest.mark.parametrize("j", range(3))
def test_token_ids(golden: dict[str, np.ndarray], j: int) -> None:
    assert tokenize(PROMPTS[j]) == golden[f"ids{j}"].tolist()


def test_backbone_and_mask_features(official: Official) -> None:
    golden = official.golden
    np.testing.assert_allclose(official.res5[::96].numpy(), golden["res5_sub"], rtol=0, atol=ATOL)
    with torch.inference_mode():
        mask_features = official.model.sem_seg_head.pixel_decoder.mask_features(official.features.finest[None])[0]
    sub = mask_features[::32, ::8, ::8].numpy()
    np.testing.assert_allclose(sub, golden["mask_features_sub"], rtol=0, atol=ATOL)


def check(decoded: Decoded, row: int, golden: dict[str, np.ndarray], j: int) -> None:
    np.testing.assert_allclose(decoded.logits[row].numpy(), golden[f"single{j}"], rtol=0, atol=ATOL)
    assert int(decoded.query[row]) == int(golden[f"q{j}"][0])
    assert float(decoded.similarity[row]) == pytest.approx(float(golden[f"sim{j}"][0]), abs=1e-6)


@pytest.mark.parametrize("j", range(3))
def test_a_prompt_alone(official: Official, j: int) -> None:
    check(official.model.decode(official.features, [official.texts[j]]), 0, official.golden, j)


def test_many_prompts_are_answered_as_if_alone(official: Official) -> None:
    decoded = official.model.decode(official.features, official.texts)
    for j in range(3):
        check(decoded, j, official.golden, j)


def test_joint_prompts_as_in_the_original(official: Official) -> None:
    decoded = official.model.decode(official.features, official.texts, joint=True)
    np.testing.assert_allclose(decoded.logits.numpy(), official.golden["joint"], rtol=0, atol=ATOL)
    assert decoded.query.tolist() == official.golden["jq"].tolist()
