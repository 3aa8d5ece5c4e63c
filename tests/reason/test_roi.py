"""ROIs: B_σ of the method contains its anchors, stays in the image, grows with σ and ρ, is square; the ladder."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from r2seg_agent.imaging.geometry import Box, Geometry
from r2seg_agent.reason.anchors.protocol import AnchorSet, AnchorSourceInfo
from r2seg_agent.reason.language.plan_request import plan_request
from r2seg_agent.reason.roi import MAX_ROUNDS, build_rois, rois_around, widen

INFO = AnchorSourceInfo(name="test", version="1", kind="masks", stand_in=False, licence="", modalities=("CT",))


def _interval(n):
    return st.tuples(st.integers(0, n - 1), st.integers(1, n)).map(lambda p: (p[0], min(n, p[0] + p[1])))


@st.composite
def scenes(draw, max_boxes=1):
    """An image geometry and boxes inside it."""
    shape = draw(st.tuples(st.integers(1, 40), st.integers(2, 60), st.integers(2, 60)))
    spacing = draw(st.tuples(*[st.sampled_from([0.5, 0.7, 1.0, 2.5, 5.0])] * 3))
    boxes = {}
    for k in range(draw(st.integers(1, max_boxes))):
        (z0, z1), (y0, y1), (x0, x1) = (draw(_interval(n)) for n in shape)
        boxes[f"organ{k}"] = Box(start=(z0, y0, x0), stop=(z1, y1, x1))
    return Geometry(shape=shape, spacing_mm=spacing), boxes


PADDING = st.floats(0, 60)
SCALES = st.lists(st.floats(0, 3), min_size=1, max_size=4)


@given(scenes(max_boxes=3), PADDING, SCALES, st.booleans())
def test_roi_contains_its_anchors_and_stays_in_the_image(scene, padding, scales, square):
    geometry, boxes = scene
    rois = rois_around(geometry, boxes, padding_mm=padding, scales=scales, square=square)
    assert {name for roi in rois for name in roi.anchors} == set(boxes)
    for roi in rois:
        assert geometry.full_box.contains(roi.box)
        assert all(roi.box.contains(boxes[name]) for name in roi.anchors)
        assert roi.scale in scales


@given(scenes(), PADDING, SCALES)
def test_margin_is_at_least_padding_times_scale_where_the_image_allows(scene, padding, scales):
    geometry, boxes = scene
    b0 = boxes["organ0"]
    for roi in rois_around(geometry, boxes, padding_mm=padding, scales=scales, square=False):
        for axis in range(3):
            spacing, size = geometry.spacing_mm[axis], geometry.shape[axis]
            below, above = b0.start[axis] - roi.box.start[axis], roi.box.stop[axis] - b0.stop[axis]
            for margin, at_edge in ((below, roi.box.start[axis] == 0), (above, roi.box.stop[axis] == size)):
                assert at_edge or margin * spacing >= padding * roi.scale - 1e-4
                assert margin * spacing < padding * roi.scale + spacing


@given(scenes(), PADDING, PADDING, st.floats(0, 3), st.floats(0, 3), st.booleans())
def test_roi_grows_with_padding_and_scale(scene, padding, more, scale, larger, square):
    geometry, boxes = scene
    low, high = sorted((scale, larger))
    small = rois_around(geometry, boxes, padding_mm=padding, scales=[low], square=square)[0]
    wide = rois_around(geometry, boxes, padding_mm=padding + more, scales=[high], square=square)[0]
    assert wide.box.contains(small.box)


@given(scenes(max_boxes=3), PADDING, SCALES)
def test_roi_is_square_in_plane_unless_the_image_is_too_small(scene, padding, scales):
    geometry, boxes = scene
    for roi in rois_around(geometry, boxes, padding_mm=padding, scales=scales):
        _, height, width = roi.box.shape
        assert height == width or min(height, width) in (geometry.shape[1], geometry.shape[2])
        if height < width:
            assert height == geometry.shape[1]
        if width < height:
            assert width == geometry.shape[2]


@given(scenes(max_boxes=3), PADDING, SCALES)
def test_equal_boxes_are_merged_into_the_smallest_scale(scene, padding, scales):
    geometry, boxes = scene
    rois = rois_around(geometry, boxes, padding_mm=padding, scales=scales)
    keys = [(roi.anchors, roi.box) for roi in rois]
    assert len(set(keys)) == len(keys)
    for group in {roi.anchors for roi in rois}:
        own = [roi.scale for roi in rois if roi.anchors == group]
        assert own == sorted(own)
        assert own[0] == min(scales)


@given(scenes(max_boxes=4), PADDING, SCALES)
def test_groups_do_not_depend_on_the_order_of_anchors(scene, padding, scales):
    geometry, boxes = scene
    one = rois_around(geometry, boxes, padding_mm=padding, scales=scales)
    other = rois_around(geometry, dict(reversed(boxes.items())), padding_mm=padding, scales=scales)
    assert {(frozenset(r.anchors), r.box, r.scale) for r in one} == {
        (frozenset(r.anchors), r.box, r.scale) for r in other
    }


def test_formula_by_hand():
    geometry = Geometry(shape=(40, 200, 200), spacing_mm=(5.0, 0.75, 0.75))
    b0 = Box(start=(10, 80, 90), stop=(20, 120, 110))
    first, second = rois_around(geometry, {"liver": b0}, padding_mm=10.0, scales=(1.5, 1.0))
    # z: 10 mm / 5 mm = 2; in-plane: ceil(10 / 0.75) = 14, so 40 + 28 = 68 rows and as many columns.
    assert first.box == Box(start=(8, 66, 66), stop=(22, 134, 134))
    # 15 mm: z 3; in-plane exactly 20.
    assert second.box == Box(start=(7, 60, 60), stop=(23, 140, 140))
    assert (first.scale, second.scale) == (1.0, 1.5)


def test_square_is_shifted_inward_at_the_edge():
    geometry = Geometry(shape=(1, 100, 100), spacing_mm=(1.0, 1.0, 1.0))
    b0 = Box(start=(0, 0, 40), stop=(1, 10, 80))
    (roi,) = rois_around(geometry, {"skin": b0}, padding_mm=5.0, scales=(1.0,))
    assert roi.box == Box(start=(0, 0, 35), stop=(1, 50, 85))


def test_a_slice_has_no_z_margin_and_pixels_count_without_spacing():
    geometry = Geometry(shape=(1, 64, 64), spacing_mm=(1.0, 1.0, 1.0), known_spacing="none")
    (roi,) = rois_around(geometry, {"thyroid": Box(start=(0, 30, 30), stop=(1, 34, 34))}, padding_mm=3.0, scales=(1.0,))
    assert roi.box == Box(start=(0, 27, 27), stop=(1, 37, 37))


def test_kidneys_get_rois_of_their_own_until_their_margins_meet():
    geometry = Geometry(shape=(20, 100, 200), spacing_mm=(2.0, 1.0, 1.0))
    kidneys = {
        "kidney_right": Box(start=(5, 40, 40), stop=(15, 60, 60)),
        "kidney_left": Box(start=(5, 40, 120), stop=(15, 60, 140)),
    }
    apart = rois_around(geometry, kidneys, padding_mm=10.0, scales=(1.0, 2.0))
    assert [roi.anchors for roi in apart] == [("kidney_right",)] * 2 + [("kidney_left",)] * 2
    together = rois_around(geometry, kidneys, padding_mm=20.0, scales=(1.0, 2.0))
    assert {roi.anchors for roi in together} == {("kidney_right", "kidney_left")}


def test_limit_holds_unless_the_anchor_leaves_it():
    geometry = Geometry(shape=(10, 50, 50), spacing_mm=(1.0, 1.0, 1.0))
    limit = Box(start=(0, 10, 10), stop=(10, 40, 40))
    inside = {"a": Box(start=(4, 20, 20), stop=(6, 25, 25))}
    (roi,) = rois_around(geometry, inside, padding_mm=30.0, scales=(1.0,), limit=limit)
    assert roi.box == limit
    outside = {"a": Box(start=(4, 2, 20), stop=(6, 25, 25))}
    (roi,) = rois_around(geometry, outside, padding_mm=30.0, scales=(1.0,), limit=limit)
    assert roi.box.contains(outside["a"])


def test_rois_of_a_plan_skip_anchors_out_of_view():
    geometry = Geometry(shape=(4, 50, 50), spacing_mm=(1.0, 1.0, 1.0))
    labels = np.zeros(geometry.shape, np.uint8)
    labels[1:3, 20:30, 20:30] = 1
    anchors = AnchorSet(labels=labels, names={"kidney_left": (1,), "kidney_right": (2,)}, geometry=geometry, info=INFO)
    both = plan_request("kidney tumor", "CT").plans[0]
    assert {roi.anchors for roi in build_rois(anchors, both)} == {("kidney_left",)}
    right = plan_request("right kidney tumor", "CT").plans[0]
    assert build_rois(anchors, right) == ()


def test_ladder_of_rounds():
    plan = plan_request("pancreatic lesion", "CT").plans[0]
    first, second, third = (widen(plan, n) for n in (1, 2, 3))
    assert first.plan == plan
    assert second.plan.padding_mm == 2 * plan.padding_mm
    assert second.plan.scales == (1.5, 2.0)  # 20 mm was searched in round 1
    assert second.plan.anchors == plan.anchors
    assert third.plan.anchors == (*plan.anchors, *plan.neighbours)
    assert third.plan.padding_mm == second.plan.padding_mm
    assert widen(plan, MAX_ROUNDS + 1) is None
    for step in (first, second, third):
        assert step.why.endswith(".")
        assert step == widen(plan, step.round)


@given(st.floats(0, 500), st.lists(st.floats(0, 20), min_size=1, max_size=4))
def test_round_two_reaches_further_than_round_one(padding, scales):
    assume(max(scales) > 0.01)
    plan = (
        plan_request("liver lesion", "CT").plans[0].model_copy(update={"padding_mm": padding, "scales": tuple(scales)})
    )
    second = widen(plan, 2).plan
    assert all(second.padding_mm * s > padding * max(scales) for s in second.scales)
    assert set(second.scales) <= set(scales)


def test_a_plan_with_no_padding_recovers():
    plan = plan_request("liver lesion", "CT").plans[0].model_copy(update={"padding_mm": 0.0, "scales": (1.0,)})
    assert widen(plan, 2).plan.padding_mm == pytest.approx(10.0)


def test_neighbours_must_be_findable():
    plan = plan_request("pancreatic lesion", "CT").plans[0]
    assert widen(plan, 3, available={"pancreas", "spleen"}).plan.anchors == ("pancreas", "spleen")
    assert widen(plan, 3, available={"pancreas"}) is None
    assert widen(plan.model_copy(update={"neighbours": ()}), 3) is None
