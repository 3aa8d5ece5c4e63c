"""Surface distances and panoptic counts of MONAI against plain geometry."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from helpers.evaluation_cases import pair
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial.distance import cdist

from r2seg_agent.errors import MissingDependencyError
from r2seg_agent.evals.overlap import shared_voxels
from r2seg_agent.evals.surface import panoptic_counts, require_monai, surface_distances


def _brute(lesions: np.ndarray, findings: np.ndarray, spacing: tuple[float, ...], tolerance: float) -> list[float]:
    """HD95, ASSD and surface Dice from all pairs of surface voxels."""
    points = []
    for mask in (np.pad(lesions > 0, 1), np.pad(findings > 0, 1)):
        edge = mask & ~ndimage.binary_erosion(mask)
        points.append(np.argwhere(edge) * np.asarray(spacing))
    distances = cdist(points[0], points[1])
    there, back = distances.min(axis=1), distances.min(axis=0)
    near = (there <= tolerance).sum() + (back <= tolerance).sum()
    return [
        max(np.percentile(there, 95), np.percentile(back, 95)),
        (there.sum() + back.sum()) / (len(there) + len(back)),
        near / (len(there) + len(back)),
    ]


@given(st.integers(0, 10_000), st.sampled_from([(5.0, 0.7, 0.7), (1.0, 1.0, 1.0), (0.8, 2.0, 1.1)]))
@settings(max_examples=15, deadline=None)
def test_distances_are_in_mm_on_any_spacing(seed: int, spacing: tuple[float, float, float]) -> None:
    lesions, findings = pair(np.random.default_rng(seed))
    found = surface_distances(lesions, findings, spacing, 1.5)
    if not (findings > 0).any():
        assert found is None
        return
    assert found is not None
    assert [found.hd95_mm, found.assd_mm, found.nsd] == pytest.approx(_brute(lesions, findings, spacing, 1.5), rel=1e-4)


def test_a_lesion_at_the_rim_of_the_scan_has_a_surface_there() -> None:
    lesions, findings = np.zeros((6, 6, 6), np.uint8), np.zeros((6, 6, 6), np.uint8)
    lesions[:, :, :3] = 1
    findings[:, :, :2] = 1
    found = surface_distances(lesions, findings, (3.0, 1.0, 2.0), 1.0)
    assert found is not None
    assert [found.hd95_mm, found.assd_mm, found.nsd] == pytest.approx(_brute(lesions, findings, (3, 1, 2), 1), rel=1e-4)


def test_one_slice_is_measured_in_its_plane() -> None:
    lesions, findings = np.zeros((1, 12, 12), np.uint8), np.zeros((1, 12, 12), np.uint8)
    lesions[0, 2:6, 2:6] = 1
    findings[0, 4:9, 2:6] = 1
    found = surface_distances(lesions, findings, (99.0, 2.0, 0.5), 1.0)
    assert found is not None
    expected = _brute(lesions[0], findings[0], (2.0, 0.5), 1.0)
    assert [found.hd95_mm, found.assd_mm, found.nsd] == pytest.approx(expected, rel=1e-4)


def test_equal_masks_have_distance_0() -> None:
    lesions, _ = pair(np.random.default_rng(3))
    found = surface_distances(lesions, lesions, (2.0, 1.0, 1.0), 0.0)
    assert found is not None
    assert (found.hd95_mm, found.assd_mm, found.nsd) == (0.0, 0.0, 1.0)


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_panoptic_counts_are_the_pairs_above_one_half(seed: int) -> None:
    lesions, findings = pair(np.random.default_rng(seed))
    shared = shared_voxels(lesions, findings)
    above = [v for pair_ in shared.common if (v := shared.iou(*pair_)) > 0.5]
    counts = panoptic_counts(lesions, findings)
    assert counts.tp == len(above)
    assert counts.fp == len(shared.findings) - len(above)
    assert counts.fn == len(shared.lesions) - len(above)
    assert counts.iou_sum == pytest.approx(sum(above), rel=1e-5)


def test_without_monai_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "monai.metrics", None)
    with pytest.raises(MissingDependencyError, match="MONAI") as raised:
        require_monai()
    assert "--no-surface" in raised.value.hint
