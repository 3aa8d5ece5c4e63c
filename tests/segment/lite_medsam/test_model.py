"""The network: the released checkpoint fits it name by name, and its answers are those of the released model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.lite_medsam_models import TINY, random_model

from r2seg_agent.segment.lite_medsam.layers import LayerNorm2d
from r2seg_agent.segment.lite_medsam.mask_decoder import OUTSIDE
from r2seg_agent.segment.lite_medsam.model import LiteMedSam
from r2seg_agent.segment.lite_medsam.tiny_vit import WindowAttention
from r2seg_agent.segment.weights import weights_path

DATA = Path(__file__).parents[2] / "data" / "lite_medsam"


def boxes(*rows: tuple[float, float, float, float]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float32)


def image(size: int = 64, n: int = 1, seed: int = 0) -> torch.Tensor:
    return torch.rand((n, 3, size, size), generator=torch.Generator().manual_seed(seed))


def test_names_shapes_and_types_are_those_of_the_released_checkpoint() -> None:
    lines = (DATA / "keys.tsv").read_text().splitlines()
    released = {name: (shape, dtype) for name, shape, dtype in (line.split("\t") for line in lines)}
    ours = {name: (str(tuple(v.shape)), str(v.dtype)) for name, v in LiteMedSam().state_dict().items()}
    assert len(released) == 435
    assert ours == released


@pytest.fixture(scope="module")
def released() -> LiteMedSam:
    if weights_path("lite-medsam") is None:
        pytest.skip("the weights are not in the cache: r2seg weights fetch lite-medsam")
    from r2seg_agent.segment.lite_medsam.weights import released_model

    return released_model()


@pytest.mark.data
def test_answers_equal_the_released_model(released: LiteMedSam) -> None:
    golden = np.load(DATA / "golden.npz")
    embedding = released.encode(torch.from_numpy(golden["image"])[None])
    np.testing.assert_allclose(embedding[0, ::8, ::4, ::4], golden["embedding_sub"], atol=2e-5)
    asked = torch.from_numpy(golden["boxes"])
    np.testing.assert_allclose(released.prompt_encoder.boxes(asked), golden["sparse"], atol=1e-5)
    masks = released.decode(embedding, asked)
    assert masks.logits.shape == (3, 256, 256)
    np.testing.assert_allclose(masks.logits[:, 1::3, 2::3], golden["low_res_logits_sub"], atol=1e-3)
    np.testing.assert_allclose(masks.iou, golden["iou"], atol=1e-4)


@pytest.mark.data
def test_the_released_model_segments_what_lies_in_the_box(released: LiteMedSam) -> None:
    y, x = np.indices((256, 256))
    disc = (y - 120) ** 2 + (x - 140) ** 2 <= 22**2
    noise = np.random.default_rng(0).normal(0.0, 0.02, disc.shape)
    grey = torch.from_numpy((0.35 + 0.3 * disc + noise).clip(0, 1).astype(np.float32))
    embedding = released.encode(grey.expand(1, 3, -1, -1))
    mask = released.decode(embedding, boxes((116, 96, 164, 144))).logits[0].numpy() > 0
    assert 2 * np.count_nonzero(mask & disc) / (np.count_nonzero(mask) + np.count_nonzero(disc)) > 0.9


def test_a_checkpoint_with_another_set_of_tensors_is_refused() -> None:
    state = random_model().state_dict()
    del state["mask_decoder.iou_token.weight"]
    with pytest.raises(RuntimeError, match="iou_token"):
        LiteMedSam(TINY).load(state)


def test_folded_norms_give_the_same_answers() -> None:
    plain = random_model()
    folded = LiteMedSam(TINY).load(plain.state_dict())
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())
    expected, got = plain.encode(image()), folded.encode(image())
    np.testing.assert_allclose(got, expected, atol=1e-4 * float(expected.abs().max()))
    assert float(expected.std()) > 1e-3


def test_boxes_do_not_change_each_others_masks() -> None:
    model = random_model().fold()
    embedding = model.encode(image())
    asked = boxes((4, 4, 20, 24), (30, 10, 60, 50), (0, 0, 63, 63))
    together = model.decode(embedding, asked)
    scale = float(together.logits.abs().max())
    for n in range(3):
        alone = model.decode(embedding, asked[n : n + 1])
        np.testing.assert_allclose(alone.logits[0], together.logits[n], atol=1e-5 * scale)
        np.testing.assert_allclose(alone.iou[0], together.iou[n], atol=1e-5 * float(together.iou.abs().max()))
    assert not torch.allclose(together.logits[0], together.logits[1], atol=1e-3 * scale)


def test_images_of_a_batch_do_not_change_each_other() -> None:
    model = random_model().fold()
    pair = image(n=2)
    together = model.encode(pair)
    for n in range(2):
        np.testing.assert_allclose(model.encode(pair[n : n + 1])[0], together[n], atol=1e-4)


def test_drawing_in_a_part_of_the_grid_changes_nothing_inside() -> None:
    model = random_model().fold()
    embedding, asked = model.encode(image()), boxes((4, 4, 20, 24))
    whole = model.decode(embedding, asked)
    part = model.decode(embedding, asked, cells=(slice(1, 7), slice(2, 16)))
    np.testing.assert_allclose(part.logits[:, 4:28, 8:64], whole.logits[:, 4:28, 8:64], atol=1e-5)
    assert (part.logits[:, 28:] == OUTSIDE).all()
    assert (part.logits[:, :, :8] == OUTSIDE).all()
    np.testing.assert_array_equal(part.iou, whole.iou)


def test_points_and_an_earlier_mask_guide_the_answer() -> None:
    model = random_model().fold()
    embedding, asked = model.encode(image()), boxes((4, 4, 20, 24))
    plain = model.decode(embedding, asked).logits
    at = torch.tensor([[[12.0, 14.0]]])
    positive = model.decode(embedding, asked, points=(at, torch.tensor([[True]]))).logits
    negative = model.decode(embedding, asked, points=(at, torch.tensor([[False]]))).logits
    earlier = model.decode(embedding, asked, masks=plain[:, None]).logits
    for one, other in ((plain, positive), (positive, negative), (plain, earlier)):
        assert one.shape == other.shape == (1, 64, 64)
        assert not torch.allclose(one, other)


def test_window_offsets_are_numbered_in_the_order_of_the_checkpoint() -> None:
    """Offsets (|Δy|, |Δx|) of a 2×2 window, met row by row from the first pixel: (0,0) (0,1) (1,0) (1,1)."""
    index = WindowAttention(4, 1, window=2).bias_index
    assert index.tolist() == [[0, 1, 2, 3], [1, 0, 3, 2], [2, 3, 0, 1], [3, 2, 1, 0]]


def test_layer_norm_over_channels_at_each_pixel() -> None:
    x = image(size=5)
    norm = LayerNorm2d(3)
    expected = (x - x.mean(1, keepdim=True)) / torch.sqrt(x.var(1, keepdim=True, unbiased=False) + 1e-6)
    np.testing.assert_allclose(norm(x).detach(), expected, atol=1e-5)


def test_the_network_needs_torch_and_numpy_only() -> None:
    """A GPU machine often has no more: importing and building it must not load our other dependencies."""
    code = (
        "import sys; from r2seg_agent.segment.lite_medsam.model import LiteMedSam; LiteMedSam(); "
        "print(sorted({'pydantic', 'scipy', 'cc3d', 'SimpleITK', 'langchain_core', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
