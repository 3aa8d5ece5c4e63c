"""Which bodies are asked about, and their sections: the self-contained before the pieces of something larger."""

from __future__ import annotations

import numpy as np
import pytest

from r2seg_agent.imaging.geometry import Box, Geometry
from r2seg_agent.imaging.volume import Volume
from r2seg_agent.segment.lite_medsam.sections import plane_box, sections
from r2seg_agent.segment.lite_medsam.segmenter import moved
from r2seg_agent.segment.proposals import propose
from r2seg_agent.segment.protocol import Prompt

SHAPE = (24, 60, 60)
Z, Y, X = np.indices(SHAPE)
BALL = ((Z - 12) * 2.0) ** 2 + (Y - 42) ** 2 + (X - 42) ** 2 <= 6**2
VESSEL = (Y - 15) ** 2 + (X - 20) ** 2 <= 5**2
"""Through the whole organ and out of it: larger than the ball, and no body of its own."""


def scene() -> tuple[Volume, np.ndarray, Prompt]:
    rng = np.random.default_rng(3)
    organ = (Z >= 3) & (Z < 21) & (Y >= 4) & (Y < 56) & (X >= 4) & (X < 56)
    grey = np.where(organ | VESSEL, 50.0, -100.0) + 80.0 * (BALL | VESSEL) + rng.normal(0, 8, SHAPE)
    volume = Volume(grey.astype(np.int16), Geometry(shape=SHAPE, spacing_mm=(2.0, 1.0, 1.0)), "CT", "HU")
    prompt = Prompt(
        text="t", target="t", site="liver", modality="CT", contrast="brighter", diameters_mm=(6.0, 40.0), mask=organ
    )
    return volume, organ, prompt


def holds(region: object, at: tuple[int, int, int]) -> bool:
    box = region.box  # type: ignore[attr-defined]
    return bool(box.contains(Box(start=at, stop=(at[0] + 1, at[1] + 1, at[2] + 1))))


def test_the_self_contained_body_comes_first_though_the_vessel_is_larger() -> None:
    volume, _, prompt = scene()
    whole = volume.geometry.full_box
    first, *others = propose(volume, whole, prompt, 10)
    assert holds(first, (12, 42, 42))
    assert any(holds(other, (12, 15, 20)) and other.mask.sum() > first.mask.sum() for other in others)
    assert [one.box for one in propose(volume, whole, prompt, 1)] == [first.box]


def test_the_roi_changes_nothing_and_a_slice_is_searched_as_a_slice() -> None:
    volume, organ, prompt = scene()
    roi = Box(start=(2, 3, 3), stop=(22, 57, 57))
    inside = Prompt(**{**prompt.__dict__, "mask": organ[roi.slices]})
    wide, tight = propose(volume, volume.geometry.full_box, prompt, 10), propose(volume, roi, inside, 10)
    assert [one.box for one in wide] == [one.box for one in tight]
    plane = Box(start=(12, 0, 0), stop=(13, *SHAPE[1:]))
    flat = propose(volume, plane, Prompt(**{**prompt.__dict__, "mask": organ[12:13]}), 10)
    assert {holds(one, (12, 42, 42)) for one in flat} == {True, False}
    assert all(one.box.start[0] == 12 and one.box.shape[0] == 1 for one in flat)


def test_what_the_window_shows_as_black_or_white_is_not_asked_about() -> None:
    volume, _, prompt = scene()
    whole = volume.geometry.full_box
    bodies = len(propose(volume, whole, prompt, 20))
    for window, some in (((-150.0, 250.0), True), ((-150.0, 100.0), False), ((200.0, 300.0), False)):
        found = propose(volume, whole, Prompt(**{**prompt.__dict__, "window": window}), 20)
        assert any(holds(one, (12, 42, 42)) for one in found) is some
        assert len(found) <= bodies


def test_an_empty_mask_proposes_nothing() -> None:
    volume, organ, prompt = scene()
    none = Prompt(**{**prompt.__dict__, "mask": np.zeros_like(organ)})
    assert propose(volume, volume.geometry.full_box, none, 10) == ()


def test_sections_are_the_body_slice_by_slice_with_its_outline() -> None:
    volume, _, prompt = scene()
    (body,) = propose(volume, volume.geometry.full_box, prompt, 1)
    found = dict(sections(body))
    assert sorted(found) == list(range(body.box.start[0], body.box.stop[0]))
    total = 0
    for section in found.values():
        y0, x0, y1, x1 = section.box
        assert section.outline is not None
        assert section.outline.shape == (y1 - y0, x1 - x0)
        assert plane_box(section.outline) == (0, 0, y1 - y0, x1 - x0)
        total += int(section.outline.sum())
    assert total == body.mask.sum()
    assert plane_box(np.zeros((3, 4), bool)) is None


@pytest.mark.parametrize("cut", [(0, 0), (5, 7), (44, 44)])
def test_moving_a_section_to_a_crop_moves_its_outline_along(cut: tuple[int, int]) -> None:
    volume, _, prompt = scene()
    (body,) = propose(volume, volume.geometry.full_box, prompt, 1)
    z, section = next(iter(sections(body)))
    part = Box(start=(z, *cut), stop=(z + 1, 60, 60))
    there = moved(section, part)
    whole = np.zeros(SHAPE[1:], dtype=bool)
    y0, x0, y1, x1 = section.box
    whole[y0:y1, x0:x1] = section.outline
    shown = np.zeros(part.shape[1:], dtype=bool)
    a0, b0, a1, b1 = there.box
    shown[a0:a1, b0:b1] = there.outline
    np.testing.assert_array_equal(shown, whole[part.slices[1:]])
