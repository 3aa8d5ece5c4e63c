"""Scores: one number per candidate, the larger the less like normal tissue. Conformal mode ranks by them.

Any fixed function of a candidate keeps the guarantee; the choice decides the power (method.md §4). A score must not
adapt to the test image beyond what calibration cases went through too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal, get_args

from r2seg_agent.errors import InputError
from r2seg_agent.segment.candidates import CandidateFeatures

ScoreName = Literal[
    "mmd2",
    "mmd2_volume",
    "contrast_log_volume",
    "contrast_sqrt_volume",
    "segmenter_mass",
    "scan_statistic",
    "scan_radius",
    "region",
]
Score = Callable[[CandidateFeatures, float], float]
"""(features, MMD²) → score."""


def contrast_log_volume(features: CandidateFeatures, mmd2: float) -> float:
    """|contrast| · ln(1 + V), V in mm³ (pixels in a picture without spacing), either sign of contrast alike.

    Millimetres and not voxels, so that a scan and its resampled copy score alike.
    """
    return abs(features.contrast) * math.log1p(features.volume_mm3)


def contrast_sqrt_volume(features: CandidateFeatures, mmd2: float) -> float:
    """|contrast| · √V, V in mm³: close to the z-score of a mean over V independent voxels."""
    return abs(features.contrast) * math.sqrt(features.volume_mm3)


def scan_statistic(features: CandidateFeatures, mmd2: float) -> float:
    """The best z-score of a ball-shaped mean at the candidate, over ball sizes, less what chance reaches.

    Unlike the scores above it does not trust the candidate's outline, which noise draws, and it is measured in units
    of the organ's own ball means, so noise of another correlation changes it little (`segment/ball_scan.py`). The most
    powerful one measured, and the least hurt where calibration and scan differ (docs/evidence/validity.md).
    """
    return features.scan_statistic


def scan_radius(features: CandidateFeatures, mmd2: float) -> float:
    """max(scan statistic, 0) · radius of the largest ball in the candidate: for organs full of vessels, which stand out
    as much as any lesion but are thin. In plain noise a little less powerful than the scan statistic alone.
    """
    return max(features.scan_statistic, 0.0) * features.radius_mm


def region(features: CandidateFeatures, mmd2: float) -> float:
    """The frozen score of `segment.regions`, learned on other patients; −inf for a candidate that it did not rank."""
    return -math.inf if features.region_score is None else features.region_score


def segmenter_mass(features: CandidateFeatures, mmd2: float) -> float:
    """S_k = mean(P̄ on C_k) · √|C_k|, |C_k| in voxels (method.md §3, gate L3)."""
    return features.mean_probability * math.sqrt(features.n_voxels)


def mmd2_alone(features: CandidateFeatures, mmd2: float) -> float:
    """MMD² as it is. Weak by itself: it does not know how large a candidate is."""
    return mmd2


def mmd2_volume(features: CandidateFeatures, mmd2: float) -> float:
    """max(MMD², 0) · ln(1 + V), V in mm³."""
    return max(mmd2, 0.0) * math.log1p(features.volume_mm3)


SCORES: Mapping[ScoreName, Score] = {
    "mmd2": mmd2_alone,
    "mmd2_volume": mmd2_volume,
    "contrast_log_volume": contrast_log_volume,
    "contrast_sqrt_volume": contrast_sqrt_volume,
    "segmenter_mass": segmenter_mass,
    "scan_statistic": scan_statistic,
    "scan_radius": scan_radius,
    "region": region,
}
OF_MASKS: tuple[ScoreName, ...] = tuple(name for name in SCORES if name != "region")
"""Scores of candidates that were cut from a segmenter's mask; `region` ranks candidates of its own."""
USES_MMD2: frozenset[ScoreName] = frozenset({"mmd2", "mmd2_volume"})


def score_named(name: str) -> Score:
    """The score called `name`; raises `InputError` with the known names."""
    for known in get_args(ScoreName):
        if name == known:
            return SCORES[known]
    raise InputError(f"no score `{name}`", f"Choose one of: {', '.join(SCORES)}.")
