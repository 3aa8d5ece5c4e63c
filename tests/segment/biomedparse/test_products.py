"""The fast products and convolution of the CPU give what the plain ones give."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from r2seg_agent.segment.biomedparse import products, winograd


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("gelu", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_a_prepared_product_is_linear(gelu: bool, bias: bool) -> None:
    x, weight, shift = random(37, 20), random(11, 20, seed=1), random(11, seed=2) if bias else None
    expected = functional.linear(x, weight, shift)
    expected = functional.gelu(expected) if gelu else expected
    with torch.inference_mode():
        product = products.row_product(weight, shift, 16, gelu=gelu)
        # Packed for 16 rows, it takes any number of them.
        torch.testing.assert_close(product(x), expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(product(x[:1]), expected[:1], rtol=1e-5, atol=1e-5)


def test_without_packing_the_answer_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight, shift = random(37, 20), random(11, 20, seed=1), random(11, seed=2)
    packed = products.row_product(weight, shift, 37, gelu=True)(x)
    monkeypatch.setattr(products, "_packable", lambda weight: None)
    torch.testing.assert_close(products.row_product(weight, shift, 37, gelu=True)(x), packed, rtol=1e-5, atol=1e-5)


def test_blocks_are_laid_end_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight, shift = random(37, 20), random(11, 20, seed=1), random(11, seed=2)
    monkeypatch.setattr(products, "BLOCK_BYTES", 8 * 11 * 4)
    assert products.rows_at_once(37, 11, x.device) == 8
    torch.testing.assert_close(
        products.by_blocks(x, weight, shift), functional.linear(x, weight, shift), rtol=1e-5, atol=1e-5
    )


def test_products_follow_autocast() -> None:
    x, weight = random(8, 20), random(11, 20, seed=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert products.row_product(weight, None, 8)(x).dtype == torch.bfloat16
    assert products.row_product(weight, None, 8)(x).dtype == torch.float32


@pytest.mark.parametrize(("height", "width"), [(4, 4), (12, 8), (20, 28)])
def test_winograd_is_a_convolution(height: int, width: int) -> None:
    x, weight = random(2, 5, height, width), random(7, 5, 3, 3, seed=1)
    expected = functional.conv2d(x, weight, padding=1)
    torch.testing.assert_close(winograd.conv3x3(x, weight), expected, rtol=1e-5, atol=5e-5)


def test_the_points_round_less_than_the_usual_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight = random(1, 512, 16, 16).relu(), random(64, 512, 3, 3, seed=1) / 68
    exact = functional.conv2d(x.double(), weight.double(), padding=1)

    def error() -> float:
        winograd._transforms.cache_clear()
        return float((winograd.conv3x3(x, weight) - exact).abs().max())

    ours = error()
    monkeypatch.setattr(winograd, "POINTS", (0.0, 1.0, -1.0, 2.0, -2.0))
    usual = error()
    winograd._transforms.cache_clear()
    assert ours < 1e-5 < 1.5 * usual
    assert ours < 0.6 * usual


def test_winograd_is_taken_only_where_it_serves() -> None:
    assert winograd.saves(torch.zeros(1, 2, 64, 64))
    for other in (torch.zeros(1, 2, 32, 32), torch.zeros(1, 2, 66, 64), torch.zeros(1, 2, 64, 64).double()):
        assert not winograd.saves(other)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not winograd.saves(torch.zeros(1, 2, 64, 64))
