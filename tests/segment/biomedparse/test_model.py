"""Claims about the network that hold for any weights, on a tiny one."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from r2seg_agent.errors import InputError
from r2seg_agent.segment.biomedparse.attention import Attention
from r2seg_agent.segment.biomedparse.model import PIXEL_MEAN, BiomedParse
from r2seg_agent.segment.biomedparse.tokenizer import tokenize

PROMPTS = ("tumor in liver CT", "cyst", "a far longer description of some tumour in the left kidney in abdomen CT")


def test_prompts_of_any_length_do_not_change_each_other(tiny: BiomedParse, image: torch.Tensor) -> None:
    together = tiny.predict(image, PROMPTS)
    assert together.logits.shape == (3, 16, 24)
    for n, prompt in enumerate(PROMPTS):
        alone = tiny.predict(image, [prompt])
        torch.testing.assert_close(together.logits[n], alone.logits[0], rtol=1e-4, atol=1e-4)
        assert together.query[n] == alone.query[0]


def test_joint_prompts_do_change_each_other(tiny: BiomedParse, image: torch.Tensor) -> None:
    joint = tiny.predict(image, PROMPTS, joint=True)
    assert (joint.logits[0] - tiny.predict(image, PROMPTS).logits[0]).abs().max() > 0.01
    one = tiny.predict(image, PROMPTS[:1], joint=True)
    torch.testing.assert_close(one.logits, tiny.predict(image, PROMPTS[:1]).logits)


def test_prompts_differ(tiny: BiomedParse, image: torch.Tensor) -> None:
    logits = tiny.predict(image, PROMPTS).logits
    assert (logits[0] - logits[1]).abs().max() > 0.01


def test_a_batch_of_images_is_its_images(tiny: BiomedParse, image: torch.Tensor) -> None:
    batch = tiny.encode(torch.stack([image, image.flip(2)]))
    for features, one in zip(batch, (image, image.flip(2)), strict=True):
        torch.testing.assert_close(features.finest, tiny.encode(one[None])[0].finest, rtol=1e-4, atol=1e-4)


def test_mask_features_are_never_needed_at_full_size(tiny: BiomedParse, image: torch.Tensor) -> None:
    """The two shortcuts around the largest convolution give what it and plain bilinear resizing give."""
    decoder = tiny.sem_seg_head.pixel_decoder
    with torch.inference_mode():
        finest, scales = decoder(tiny.backbone_maps(image[None]))
        full = decoder.mask_features(finest)
        for small, scale in zip(decoder.small_mask_features(finest), scales, strict=True):
            plain = functional.interpolate(full, size=scale.shape[-2:], mode="bilinear", align_corners=False)
            torch.testing.assert_close(small, plain, rtol=1e-4, atol=1e-5)
        embeddings = torch.randn((3, 32), generator=torch.Generator().manual_seed(1))
        products = torch.einsum("pc,chw->phw", embeddings, full[0])
        torch.testing.assert_close(decoder.mask_logits(finest[0], embeddings), products, rtol=1e-4, atol=1e-4)


def test_other_sides_are_filled_with_the_mean_pixel(tiny: BiomedParse, image: torch.Tensor) -> None:
    cut = image[:, :50, :70]
    filled = torch.tensor(PIXEL_MEAN).view(3, 1, 1).repeat(1, 64, 96)
    filled[:, :50, :70] = cut
    torch.testing.assert_close(tiny.predict(cut, PROMPTS).logits, tiny.predict(filled, PROMPTS).logits)


def test_grey_images_need_three_channels(tiny: BiomedParse) -> None:
    with pytest.raises(InputError, match=r"\(1, 1, 64, 64\) came"):
        tiny.encode(torch.zeros(1, 1, 64, 64))


def test_padding_behind_the_end_token_changes_nothing(tiny: BiomedParse) -> None:
    """The original pads to 77 tokens; causal attention makes that needless."""
    tower = tiny.sem_seg_head.predictor.lang_encoder.lang_encoder
    ids = tokenize(PROMPTS[0])
    with torch.inference_mode():
        short = tower(torch.tensor([ids]))
        padded = tower(torch.tensor([ids + [49407] * (77 - len(ids))]))
    torch.testing.assert_close(short[0], padded[0, : len(ids)], rtol=1e-5, atol=1e-5)


def test_attention_is_torchs() -> None:
    """Same names, same numbers as `torch.nn.MultiheadAttention`, masks included."""
    torch.manual_seed(0)
    theirs = nn.MultiheadAttention(24, 3, batch_first=True).eval()
    ours = Attention(24, 3)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    q, k, v = torch.randn(2, 5, 24), torch.randn(2, 7, 24), torch.randn(2, 7, 24)
    allowed = torch.rand(5, 7) > 0.4
    allowed[:, 0] = True
    with torch.inference_mode():
        expected = theirs(q, k, v, attn_mask=~allowed, need_weights=False)[0]
        torch.testing.assert_close(ours(q, k, v, allowed), expected)


def test_a_query_without_a_mask_looks_everywhere(tiny: BiomedParse) -> None:
    predictor = tiny.sem_seg_head.predictor
    queries = predictor.query_feat.weight[None]
    features = torch.zeros(32, 4, 4)
    with torch.inference_mode():
        embedded = predictor.mask_embed(predictor.decoder_norm(queries))[0]
        features[:, 0, 0] = embedded[0]  # a positive product for query 0 only there …
        features[:, 1:] = -embedded[0][:, None, None]
        features[:, 0, 1:] = -embedded[0][:, None]
        visible = predictor._visible(queries, features)[0, 0].view(4, 4)
        assert visible.nonzero().tolist() == [[0, 0]]
        features[:, 0, 0] = -embedded[0]  # … and nowhere
        assert predictor._visible(queries, features)[0, 0].all()


@pytest.mark.parametrize(("dtype", "share"), [(torch.bfloat16, 0.05), (torch.float16, 0.01)])
def test_an_encoder_in_half_precision(tiny: BiomedParse, image: torch.Tensor, dtype: torch.dtype, share: float) -> None:
    exact = tiny.encode(image[None])[0]
    with torch.autocast("cpu", dtype=dtype):
        half = tiny.encode(image[None])[0]
    assert half.finest.dtype == dtype
    for ours, reference in zip(half.float32().small, exact.small, strict=True):
        assert ours.dtype == torch.float32
        assert 0 < (ours - reference).abs().max() < share * reference.abs().max()
