"""The original's existence check: its statistics, its score against scipy, and what its file may hold."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from r2seg_agent.errors import InputError
from r2seg_agent.segment.biomedparse.existence import existence_score, mask_statistics, read_existence_file

FITS = ((8.0, 2.0), (3.0, 4.0), (3.0, 4.5), (2.5, 5.0))


def original(image: np.ndarray, mask: np.ndarray) -> float:
    """The check as the authors describe it: one-sample Kolmogorov–Smirnov tests, on an RGB image and an 8-bit mask."""
    inside = mask >= 128
    means = [mask[inside].mean() / 256, *(image[..., channel][inside].mean() / 256 for channel in range(3))]
    tests = (stats.ks_1samp([x], stats.beta(*fit).cdf).pvalue for x, fit in zip(means, FITS, strict=True))
    return float(np.prod(list(tests)))


@given(st.integers(0, 2**32 - 1))
def test_the_score_is_the_originals(seed: int) -> None:
    rng = np.random.default_rng(seed)
    grey = rng.integers(0, 256, (9, 7), dtype=np.uint8)
    probability = rng.beta(2, 2, (9, 7)).astype(np.float32)
    probability[0, 0] = 0.9
    expected = original(np.repeat(grey[..., None], 3, axis=2), probability * 255.0)
    assert existence_score(grey, probability, FITS) == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_an_empty_mask_does_not_exist() -> None:
    grey = np.full((4, 4), 200, dtype=np.uint8)
    faint = np.full((4, 4), 0.5, dtype=np.float32)  # 127.5 of 255: the original's threshold is 128
    assert mask_statistics(grey, faint) == (0.0, 0.0, 0.0, 0.0)
    assert existence_score(grey, faint, FITS) == 0.0


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "target_dist.json"
    path.write_text(
        json.dumps({"CT-Abdomen": {"Liver": FITS}, "CT-Liver": {"tumor": FITS}, "CT-Chest": {"tumor": FITS}})
    )
    return path


def test_targets_are_found_by_organ_then_by_region(file: Path) -> None:
    check = read_existence_file(file)
    assert check.entry("CT", "liver", "tumor") == FITS
    assert check.entry("CT", "lung", "Tumor") == FITS  # the chest's
    assert check.entry("CT", "liver", "liver") == FITS  # the abdomen's
    assert check.entry("CT", "kidney", "tumor") is None
    assert check.entry("MR", "liver", "tumor") is None


def test_a_mask_of_an_unknown_target_is_kept(file: Path) -> None:
    check = read_existence_file(file, below=0.99)
    grey, probability = np.zeros((4, 4), dtype=np.uint8), np.ones((4, 4), dtype=np.float32)
    assert not check.keeps(grey, probability, "CT", "liver", "tumor")
    assert check.keeps(grey, probability, "CT", "liver", "cyst")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "holds a list"),
        ('{"CT-Liver": 3}', "`CT-Liver`: a int came"),
        ('{"CT-Liver": {"tumor": [[1, 2]]}}', "`tumor`: .* not four pairs"),
        ('{"CT-Liver": {"tumor": [[1, 2], [1, 2], [1, 2], [1, -2]]}}', "positive numbers"),
        ('{"CT-Liver": {"tumor": [[1, 2], [1, 2], [1, 2], [1, NaN]]}}', "positive numbers"),
    ],
)
def test_a_file_of_another_form(file: Path, text: str, words: str) -> None:
    file.write_text(text)
    with pytest.raises(InputError, match=words):
        read_existence_file(file)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="`none.json` cannot be read"):
        read_existence_file(tmp_path / "none.json")
