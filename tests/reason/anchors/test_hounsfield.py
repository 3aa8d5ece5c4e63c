"""HU anchors on a synthetic thorax: two lungs, heart, spine, ribs, a tumour on the pleura."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from r2seg_agent.errors import InputError
from r2seg_agent.imaging.geometry import Geometry
from r2seg_agent.imaging.volume import Volume
from r2seg_agent.reason.anchors.hounsfield import HounsfieldSource
from r2seg_agent.reason.anchors.protocol import AnchorSource

SHAPE, SPACING = (60, 84, 108), (4.0, 3.0, 3.0)
TUMOUR_CENTRE_MM = np.array([120.0, 172.0, 242.0])


def positions() -> tuple[NDArray[np.float64], ...]:
    z, y, x = np.indices(SHAPE)
    return z * SPACING[0], y * SPACING[1], x * SPACING[2]


def ball(centre: NDArray[np.float64], radius: float) -> NDArray[np.bool_]:
    return sum((p - c) ** 2 for p, c in zip(positions(), centre, strict=True)) <= radius**2


def ellipse(y0: float, x0: float, ry: float, rx: float) -> NDArray[np.bool_]:
    _, y, x = positions()
    return ((y - y0) / ry) ** 2 + ((x - x0) / rx) ** 2 <= 1


@cache
def thorax(with_tumour: bool = True) -> NDArray[np.int16]:
    """HU (z, y, x), LPS: x grows to the patient's left, y to the back; a table below the patient."""
    z, y, x = positions()
    hu = np.full(SHAPE, -1000.0)
    hu[ellipse(126, 162, 105, 150)] = 40
    hu[(y > 236) & (y < 243) & (x > 60) & (x < 260)] = 100
    chest = (z > 24) & (z < 216)
    lungs = chest & (ellipse(126, 90, 72, 54) | ellipse(126, 234, 72, 54))
    hu[lungs] = -850
    hu[chest & ball(np.array([100.0, 110.0, 170.0]), 52)] = 45
    ribs = ellipse(126, 162, 90, 138) & ~ellipse(126, 162, 84, 132) & (np.abs(y - 126) > 15)
    hu[ribs & (z % 24 < 12)] = 500
    hu[ellipse(200, 162, 18, 18)] = 400
    if with_tumour:
        hu[ball(TUMOUR_CENTRE_MM, 21) & lungs] = 35
    noise = np.random.default_rng(3).normal(0, 15, SHAPE)
    return (hu + ndimage.gaussian_filter(noise, 0.7)).astype(np.int16)


def volume(array: NDArray[np.int16], direction: tuple[float, ...] = (1, 0, 0, 0, 1, 0, 0, 0, 1)) -> Volume:
    geometry = Geometry(shape=array.shape, spacing_mm=SPACING, direction=direction)
    return Volume(array=array, geometry=geometry, modality="CT", unit="HU")


@cache
def anchors_with_tumour() -> NDArray[np.uint8]:
    return HounsfieldSource().locate(volume(thorax()), ["lung_left"]).labels


def test_it_is_an_anchor_source_marked_as_stand_in():
    source = HounsfieldSource()
    assert isinstance(source, AnchorSource)
    assert source.info.stand_in
    assert source.organs("CT") == {"body", "bone", "lung_left", "lung_right"}
    assert source.organs("MR") == frozenset()


def test_lungs_and_their_sides():
    found = HounsfieldSource().locate(volume(thorax()), ["lung_left", "lung_right"])
    _, _, x = positions()
    air = thorax() < -600
    for name, side in (("lung_left", x > 162), ("lung_right", x < 162)):
        mask, truth = found.mask(name), air & side & ellipse(126, 162, 100, 145)
        assert (mask & truth).sum() / truth.sum() > 0.97
        assert (mask & ~side).sum() == 0


def test_a_pleural_tumour_stays_inside_and_the_heart_outside():
    lungs = np.isin(anchors_with_tumour(), (2, 3))
    tumour = ball(TUMOUR_CENTRE_MM, 21) & (thorax(False) < -600)
    heart = ball(np.array([100.0, 110.0, 170.0]), 45)
    assert tumour.sum() > 400
    assert (lungs & tumour).sum() / tumour.sum() > 0.9
    assert (lungs & heart).sum() / heart.sum() < 0.02


def test_bone_and_body():
    found = HounsfieldSource().locate(volume(thorax()), ["body"])
    spine = ellipse(200, 162, 15, 15)
    assert (found.mask("bone") & spine).sum() / spine.sum() > 0.95
    body, truth = found.mask("body"), ellipse(126, 162, 105, 150)
    assert 2 * (body & truth).sum() / (body.sum() + truth.sum()) > 0.97
    _, y, _ = positions()
    assert not (body & (y > 238)).any(), "the table is no patient"
    for organ in ("lung_left", "lung_right", "bone"):
        assert not (found.mask(organ) & ~body).any()


@pytest.mark.parametrize(
    ("axes", "flips", "direction"),
    [
        ((0, 1, 2), (2,), (-1, 0, 0, 0, 1, 0, 0, 0, 1)),
        ((0, 1, 2), (1, 2), (-1, 0, 0, 0, -1, 0, 0, 0, 1)),
        ((0, 1, 2), (0,), (1, 0, 0, 0, 1, 0, 0, 0, -1)),
    ],
    ids=["x to the right", "RAS-like rows", "head first"],
)
def test_sides_come_from_the_geometry_not_from_the_array(axes, flips, direction):
    array = np.flip(thorax().transpose(axes), axis=flips)
    found = HounsfieldSource().locate(volume(np.ascontiguousarray(array), direction), ["lung_left"])
    back = np.flip(found.labels, axis=flips)
    left, expected = back == 2, anchors_with_tumour() == 2
    assert 2 * (left & expected).sum() / (left.sum() + expected.sum()) > 0.97


def test_a_coronal_stack_gives_the_same_lungs():
    array = np.ascontiguousarray(thorax().transpose(1, 0, 2))
    geometry = Geometry(
        shape=array.shape, spacing_mm=(SPACING[1], SPACING[0], SPACING[2]), direction=(1, 0, 0, 0, 0, 1, 0, 1, 0)
    )
    found = HounsfieldSource().locate(Volume(array=array, geometry=geometry, modality="CT", unit="HU"), ["lung_left"])
    back = found.labels.transpose(1, 0, 2)
    assert np.array_equal(back, anchors_with_tumour())


def test_one_lung_in_view_knows_its_side():
    array = np.ascontiguousarray(thorax()[:, :, 46:])
    found = HounsfieldSource().locate(volume(array), ["lung_left"])
    assert found.volumes_ml()["lung_left"] > 500
    assert found.volumes_ml()["lung_right"] == 0


def test_no_lung_in_view_gives_no_voxels_and_keeps_the_name():
    array = thorax().copy()
    array[array < -600] = np.where(ellipse(126, 162, 105, 150)[array < -600], 30, -1000)
    found = HounsfieldSource().locate(volume(array), ["lung_left"])
    assert found.volumes_ml()["lung_left"] == found.volumes_ml()["lung_right"] == 0
    assert "body" in found.in_view()
    assert "lung_left" not in found.in_view()


@pytest.mark.parametrize("shape", [(1, 64, 64), (3, 5, 4), (1, 1, 8)])
@pytest.mark.parametrize("hu", [-1000, 40, 900])
def test_odd_scans_do_not_crash(shape, hu):
    array = np.full(shape, hu, dtype=np.int16)
    array[0, 0, 0] = -1000
    found = HounsfieldSource().locate(volume(array), ["body"])
    assert found.labels.shape == shape
    assert found.volumes_ml()["lung_left"] == 0


def test_finer_grids_give_the_same_organs():
    fine = np.repeat(np.repeat(thorax(), 2, axis=1), 2, axis=2)
    geometry = Geometry(shape=fine.shape, spacing_mm=(4.0, 1.5, 1.5))
    found = HounsfieldSource().locate(Volume(array=fine, geometry=geometry, modality="CT", unit="HU"), ["lung_left"])
    left, expected = found.labels[:, ::2, ::2] == 2, anchors_with_tumour() == 2
    assert 2 * (left & expected).sum() / (left.sum() + expected.sum()) > 0.97


@pytest.mark.parametrize(
    "values", [lambda hu: hu + 1024, lambda hu: (hu - hu.min()) / np.ptp(hu), lambda hu: hu / 1000.0 + 1]
)
def test_a_ct_whose_values_are_no_hu_is_refused(values):
    """It used to answer that no lung is in view."""
    array = values(thorax().astype(np.float32))
    with pytest.raises(InputError, match="need Hounsfield units"):
        HounsfieldSource().locate(volume(array), ["lung_left"])


def test_what_it_cannot_do_is_said_before_work():
    with pytest.raises(InputError, match="CT only"):
        HounsfieldSource().check("MR", ["lung_left"])
    with pytest.raises(InputError, match="`liver`"):
        HounsfieldSource().check("CT", ["liver"])
