"""Level and power from largest scores alone."""

import math

import numpy as np
import pytest

from studies.validity.cells import scanner_named
from studies.validity.region_score import level, power, search
from studies.validity.search import ALPHA
from studies.validity.volumes import LesionKind


def test_the_level_is_what_ranks_give() -> None:
    """By 99 of exchangeable scans the p of another is at most 0.05 in 5 of 100."""
    maxima = np.random.default_rng(1).normal(size=400)
    found, error = level(maxima, draws=300)
    assert found == pytest.approx(ALPHA, abs=0.004)
    assert error == pytest.approx(math.sqrt(found * (1 - found) / 400))


def test_power_counts_lesions_above_nearly_all_lesion_free_scans() -> None:
    maxima = np.linspace(0.0, 1.0, 120)
    found, _ = power(np.array([2.0, 2.0, 0.5, -math.inf]), maxima)
    assert found == 0.5


@pytest.mark.slow
def test_a_plain_lesion_in_noise_ranks_first() -> None:
    one = search(scanner_named("small organ"), LesionKind(volume_ml=1.0, cnr=6.0, edge="sharp"), 0)
    assert one.hit == one.largest > search(scanner_named("small organ"), None, 0).largest
