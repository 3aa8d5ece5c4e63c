"""Planes follow the radiological convention on every orientation of the grid."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np

from r2seg_agent.imaging.geometry import Geometry
from r2seg_agent.imaging.volume import Volume
from r2seg_agent.report.planes import axial_axis, orientation_letters, planes


def volume_on(direction: np.ndarray, array: np.ndarray, **more) -> Volume:
    geometry = Geometry(shape=array.shape, spacing_mm=(1, 1, 1), direction=tuple(direction.ravel().tolist()), **more)
    return Volume(array, geometry, "CT", "HU")


def test_every_orientation_shows_the_same_pictures():
    """A patient-space block with a mark at the right, front, top corner lands in the same place of every plane."""
    patient = np.zeros((4, 5, 6), dtype=np.int16)  # z up, y back, x left
    patient[-1, 0, 0] = 1
    for order in permutations(range(3)):
        for signs in product((1, -1), repeat=3):
            # Index axis i (0 = z, 1 = y, 2 = x) runs along patient axis order[i], towards signs[i].
            array = patient.transpose(order)[tuple(slice(None, None, s) for s in signs)].copy()
            direction = np.zeros((3, 3))
            for index_axis, (along, sign) in enumerate(zip(order, signs, strict=True)):
                direction[2 - along, 2 - index_axis] = sign
            volume = volume_on(direction, array)
            axial, coronal, sagittal = planes(volume)
            assert [p.name for p in (axial, coronal, sagittal)] == ["axial", "coronal", "sagittal"]
            assert axial.letters == ("R", "L", "A", "P")
            assert coronal.letters == ("R", "L", "S", "I")
            assert sagittal.letters == ("A", "P", "S", "I")
            for plane in (axial, coronal, sagittal):
                where = np.argwhere(array == 1)[0]
                shown = plane.take(volume.array, int(where[plane.slice_axis]))
                assert tuple(np.argwhere(shown == 1)[0]) == (0, 0)
                assert plane.project(array == 1)[0, 0]
            assert order[axial_axis(volume.geometry)] == 0


def test_oblique_grids_get_two_letters():
    assert orientation_letters((1.0, 0.0, 0.0)) == "L"
    assert orientation_letters((0.0, 0.0, -1.0)) == "I"
    assert orientation_letters((-0.8, 0.6, 0.0)) == "RP"
    assert orientation_letters((-0.98, 0.199, 0.0)) == "R"


def test_each_patient_axis_gets_its_own_index_axis_at_45_degrees():
    c = np.sqrt(0.5)
    volume = volume_on(np.asarray([[1, 0, 0], [0, c, -c], [0, c, c]]), np.zeros((3, 4, 5), dtype=np.int16))
    assert {p.slice_axis for p in planes(volume)} == {0, 1, 2}
    assert axial_axis(volume.geometry) == 0


def test_a_picture_has_one_plane_without_letters():
    volume = volume_on(np.eye(3), np.zeros((1, 4, 5), dtype=np.int16), known_spacing="none")
    (plane,) = planes(volume)
    assert (plane.name, plane.letters) == ("image", ("", "", "", ""))


def test_a_single_slice_of_a_scan_keeps_its_patient_letters():
    coronal_slice = np.asarray([[1.0, 0, 0], [0, 0, 1.0], [0, -1.0, 0]])
    volume = volume_on(coronal_slice, np.zeros((1, 4, 5), dtype=np.int16), known_spacing="yx")
    (plane,) = planes(volume)
    assert (plane.name, plane.slice_axis, plane.letters) == ("coronal", 0, ("R", "L", "S", "I"))
