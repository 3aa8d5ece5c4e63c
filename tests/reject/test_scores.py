"""Scores: larger means less like normal tissue, whichever the sign of the contrast."""

from __future__ import annotations

import math

import pytest

from r2seg_agent.errors import InputError
from r2seg_agent.reject.scores import SCORES, score_named
from r2seg_agent.segment.candidates import CandidateFeatures

BASE = CandidateFeatures(
    n_voxels=100,
    volume_mm3=250.0,
    mean_probability=0.8,
    max_probability=0.9,
    anchor_overlap=1.0,
    mean_intensity=20.0,
    sd_intensity=5.0,
    anchor_median=60.0,
    anchor_mad=10.0,
    contrast=-4.0,
    sphericity=0.7,
    elongation=1.2,
    exterior_contact=0.0,
    scan_statistic=2.5,
    radius_mm=4.0,
)


def test_formulas() -> None:
    got = {name: score(BASE, 0.3) for name, score in SCORES.items()}
    assert got == pytest.approx(
        {
            "mmd2": 0.3,
            "mmd2_volume": 0.3 * math.log(251),
            "contrast_log_volume": 4 * math.log(251),
            "contrast_sqrt_volume": 4 * math.sqrt(250),
            "segmenter_mass": 0.8 * 10,
            "scan_statistic": 2.5,
            "scan_radius": 10.0,
            "region": -math.inf,
        }
    )


def test_the_score_of_a_ranked_region_is_its_own() -> None:
    assert score_named("region")(BASE.model_copy(update={"region_score": 3.5}), 0.3) == 3.5


@pytest.mark.parametrize("name", ["contrast_log_volume", "contrast_sqrt_volume"])
def test_contrast_scores_ignore_the_sign_and_grow_with_volume(name: str) -> None:
    score = score_named(name)
    brighter = BASE.model_copy(update={"contrast": 4.0})
    larger = BASE.model_copy(update={"volume_mm3": 500.0})
    assert score(brighter, 0.0) == score(BASE, 0.0) < score(larger, 0.0)


def test_negative_mmd2_does_not_gain_from_volume() -> None:
    assert SCORES["mmd2_volume"](BASE, -0.01) == 0.0


def test_a_candidate_below_chance_does_not_gain_from_its_radius() -> None:
    assert SCORES["scan_radius"](BASE.model_copy(update={"scan_statistic": -1.0}), 0.0) == 0.0


def test_unknown_score_names_the_known_ones() -> None:
    with pytest.raises(InputError, match="contrast_log_volume"):
        score_named("size")
