"""`--anchors whole`: all of the picture but its dark edge is whatever organ was asked for."""

from __future__ import annotations

import numpy as np
import pytest

from r2seg_agent.errors import InputError
from r2seg_agent.imaging.geometry import Geometry
from r2seg_agent.imaging.volume import Volume
from r2seg_agent.reason.anchors.choose import anchor_source
from r2seg_agent.reason.anchors.hounsfield import HounsfieldSource
from r2seg_agent.reason.anchors.protocol import AnchorSource
from r2seg_agent.reason.anchors.whole_image import WholeImage, foreground
from r2seg_agent.reason.language.plan_request import plan_request

SHAPE = (1, 60, 80)
GEOMETRY = Geometry(shape=SHAPE, spacing_mm=(1.0, 1.0, 1.0), known_spacing="none")


def picture(array: np.ndarray) -> Volume:
    return Volume(array.astype(np.uint8).reshape(SHAPE), GEOMETRY, "photo", "arbitrary", source_format="picture")


@pytest.fixture
def scope() -> tuple[np.ndarray, np.ndarray]:
    """(picture, view): a bright round view with a black spot in it, around it black with the noise of a JPEG file."""
    y, x = np.indices(SHAPE[1:])
    view = (y - 30) ** 2 + (x - 40) ** 2 <= 27**2
    grey = np.where(view, 140.0, 0.0) + np.random.default_rng(0).integers(0, 6, SHAPE[1:])
    grey[28:34, 36:44] = 0
    return grey, view


def test_it_is_an_anchor_source_marked_as_stand_in():
    source = anchor_source("whole")
    assert isinstance(source, WholeImage)
    assert isinstance(source, AnchorSource)
    assert source.info.stand_in
    assert source.info_for("US", ["breasts"]) == source.info


def test_the_black_around_a_round_view_is_left_out_and_a_black_spot_inside_is_not(scope):
    grey, view = scope
    anchors = WholeImage().locate(picture(grey), ["colon"])
    np.testing.assert_array_equal(anchors.mask("colon")[0], view)
    assert anchors.in_view() == ("colon",)


def test_a_picture_without_a_dark_edge_is_taken_whole():
    grey = np.random.default_rng(1).integers(60, 200, SHAPE)
    assert foreground(picture(grey)).all()


def test_a_few_dark_pixels_on_the_edge_are_no_background():
    grey = np.random.default_rng(1).integers(60, 200, SHAPE)
    grey[0, 0, 10:14] = 0
    grey[0, 30:34, 30:40] = 0
    assert foreground(picture(grey)).all()


def test_air_around_a_patient_is_left_out_of_a_ct_in_hu_and_an_empty_slice_stays():
    hu = np.full((3, 40, 40), -1000, np.int16)
    hu[:2, 10:30, 8:32] = 40
    hu[:2, 15:20, 12:18] = -990  # air inside
    volume = Volume(hu, Geometry(shape=hu.shape, spacing_mm=(5.0, 1.0, 1.0)), "CT", "HU")
    found = foreground(volume)
    assert found[0, 10:30, 8:32].all()
    assert np.count_nonzero(found[0]) == 20 * 24
    assert found[2].all()


def test_every_unsided_organ_can_be_asked_for_and_no_side_is_claimed():
    available = WholeImage().organs("photo")
    (skin,) = plan_request("find the skin lesion", "photo", anchors_available=available).plans
    assert skin.anchors == ("skin",)
    (kidney,) = plan_request("find the tumour of the left kidney", "US", anchors_available=available).plans
    assert (kidney.anchors, kidney.laterality) == (("kidneys",), None)
    assert "cannot be applied" in " ".join(kidney.not_used)


def test_hu_anchors_refuse_a_ct_that_is_a_picture():
    ct = Volume(np.zeros(SHAPE, np.uint8), GEOMETRY, "CT", "arbitrary", source_format="picture")
    with pytest.raises(InputError, match="Hounsfield units") as error:
        HounsfieldSource().locate(ct, ["body"])
    assert "--anchors whole" in error.value.hint
