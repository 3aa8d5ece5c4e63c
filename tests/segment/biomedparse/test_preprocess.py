"""From grey values to the network's input and back, against the original's own steps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from skimage import transform

from r2seg_agent.imaging.window import WINDOWS
from r2seg_agent.reason.concepts import concepts, windows_hu
from r2seg_agent.segment.biomedparse.preprocess import (
    SITE_WINDOWS,
    frame_of,
    network_input,
    prompt_text,
    slice_probabilities,
    window_of,
)
from r2seg_agent.segment.protocol import Prompt


def scan(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(60, 120, shape).astype(np.int16)


def original(pixels: np.ndarray, window: tuple[float, float] | None, size: int) -> np.ndarray:
    """The steps of the original's inference code, with its own library (even differences of the sides only)."""
    low, high = window or tuple(np.percentile(pixels[pixels > 0], (0.5, 99.5)))
    grey = np.clip(pixels, low, high).astype(np.float64)
    grey = (grey - grey.min()) / (grey.max() - grey.min()) * 255.0
    pad = (max(pixels.shape) - np.array(pixels.shape)) // 2
    grey = np.pad(grey, [(p, p) for p in pad])
    return transform.resize(
        grey, (size, size), order=3, mode="constant", preserve_range=True, anti_aliasing=True
    ).astype(np.uint8)


@pytest.mark.parametrize("shape", [(40, 40), (30, 50), (90, 64), (128, 128)])
@pytest.mark.parametrize("window", [(-150.0, 250.0), None])
def test_as_the_original(shape: tuple[int, int], window: tuple[float, float] | None) -> None:
    """Enlarged and shrunk, with and without a window; the same 8-bit values."""
    ours, theirs = network_input(scan(shape), window, 64), original(scan(shape), window, 64)
    # A value that is whole but for rounding errors may fall to either side when it is cut to 8 bits.
    difference = np.abs(ours.astype(int) - theirs.astype(int))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3


@pytest.mark.parametrize("value", [0, -1000, 70])
def test_a_slice_of_one_grey_value_is_black(value: int) -> None:
    assert not network_input(np.full((20, 30), value, dtype=np.int16), None, 64).any()
    assert not network_input(np.full((20, 30), value, dtype=np.int16), (-150, 250), 64).any()


@pytest.mark.parametrize("shape", [(20, 33), (33, 20), (70, 128), (31, 31), (1, 5)])
def test_a_mask_comes_back_where_it_was(shape: tuple[int, int]) -> None:
    """A bright pixel block, seen as the network's own map at stride 4, lands on itself."""
    pixels = np.zeros(shape, dtype=np.float32)
    y, x = shape[0] // 4, shape[1] // 3
    block = (slice(y, y + max(1, shape[0] // 4)), slice(x, x + max(1, shape[1] // 4)))
    pixels[block] = 100.0
    seen = torch.from_numpy(network_input(pixels, (0.0, 100.0), 256)).float()
    logits = torch.nn.functional.avg_pool2d(seen[None], 4)[0] - 127.5
    found = slice_probabilities(logits[None], frame_of(shape))
    assert found.shape == (1, *shape)
    assert found.dtype == np.float32
    inside = np.zeros(shape, dtype=bool)
    inside[block] = True
    assert (found[0] >= 0.5)[inside].mean() > 0.9
    assert (found[0] >= 0.5)[~inside].mean() < 0.1


def prompt(site: str, modality: str = "CT", window: tuple[float, float] | None = None) -> Prompt:
    return Prompt(text="", target="tumor", site=site, modality=modality, window=window)


def test_windows_per_site_and_modality() -> None:
    assert window_of(prompt("pancreas")) == WINDOWS["pancreas"]
    assert window_of(prompt("kidney")) == window_of(prompt("an unknown place")) == WINDOWS["abdomen"]
    assert window_of(prompt("Prostate")) == WINDOWS["pelvis"]
    assert window_of(prompt("brain")) == (0.0, 80.0)
    assert window_of(prompt("skull")) == (-450.0, 1050.0)
    assert window_of(prompt("pancreas", window=(0.0, 80.0))) == (0.0, 80.0)
    assert window_of(prompt("liver", "MR")) is None
    assert window_of(replace(prompt("liver"), hounsfield=False)) is None, "grey values for a screen have no HU window"


def test_every_site_of_the_concept_table_has_a_window_of_its_own() -> None:
    """`body` is the place of lesions that can be anywhere; nothing falls back to the abdomen by omission."""
    known = {"abdomen", "lung", "pelvis", "liver", "colon", "pancreas", *SITE_WINDOWS}
    assert {concept.site for concept in concepts().values()} <= known
    assert set(SITE_WINDOWS.values()) <= set(windows_hu())


def test_pictures_of_8_bits_are_taken_as_they_are() -> None:
    picture = np.full((64, 64), 40, dtype=np.uint8)
    picture[20:40, 20:40] = 90
    np.testing.assert_array_equal(network_input(picture, None, 64), picture)
    assert network_input(picture, (0.0, 100.0), 64).max() == 255  # a window asks for the stretch


def test_prompt_template() -> None:
    assert prompt_text("tumor", "liver", "CT") == "tumor in liver CT"
    assert prompt_text("edema", "brain", "MR") == "edema in brain MRI"
    assert prompt_text("polyp", "colon", "photo") == "polyp in colon"
