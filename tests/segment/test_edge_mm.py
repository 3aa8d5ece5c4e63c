"""A body continues only beyond what its segmenter's edge may miss: rims do not count, vessels still do."""

from __future__ import annotations

import numpy as np
import pytest

from r2seg_agent.imaging.geometry import Geometry, bounding_box
from r2seg_agent.imaging.volume import Volume
from r2seg_agent.segment.candidates import Region
from r2seg_agent.segment.features import describe

GEOMETRY = Geometry(shape=(40, 40, 40), spacing_mm=(1.0, 1.0, 1.0))
Z, Y, X = np.indices(GEOMETRY.shape) - 20


def continuation(body: np.ndarray, found: np.ndarray, edge_mm: float) -> float:
    volume = Volume(array=np.where(body, 40, -850).astype(np.int16), geometry=GEOMETRY, modality="CT", unit="HU")
    box = bounding_box(found)
    assert box is not None
    mask = found[box.slices]
    region = Region(box=box, mask=mask, probability=mask.astype(np.float32), scale=1.0)
    return describe(region, volume, np.ones(GEOMETRY.shape, bool), edge_mm=edge_mm).inner_continuation


BALL = Z**2 + Y**2 + X**2 <= 10**2
VESSEL = (Y**2 + X**2 <= 4**2) & (abs(Z) < 18)


def test_a_mask_inside_the_visible_edge_is_not_a_piece_of_something_larger() -> None:
    inside = Z**2 + Y**2 + X**2 <= 8**2
    assert continuation(BALL, inside, edge_mm=0.0) > 0.9
    assert continuation(BALL, inside, edge_mm=2.0) < 0.1


@pytest.mark.parametrize("edge_mm", [0.0, 2.0])
def test_a_piece_of_a_vessel_goes_on_at_any_edge(edge_mm: float) -> None:
    piece = VESSEL & (abs(Z) < 3)
    ends = 2 * np.count_nonzero(VESSEL[20]) / (2 * np.count_nonzero(VESSEL[20]) + 5 * 36)
    assert continuation(VESSEL, piece, edge_mm) == pytest.approx(ends, abs=0.06)
