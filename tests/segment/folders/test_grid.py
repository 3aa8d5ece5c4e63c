"""Turning arrays to a network's orientation: nibabel's own reorientation as the oracle."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from r2seg_agent.imaging.geometry import Geometry
from r2seg_agent.reason.anchors.totalseg.image import ras_affine
from r2seg_agent.segment.folders.grid import turn_to
from r2seg_agent.segment.folders.side_file import SideFile

CODES = [a + b + c for a in "LR" for b in "AP" for c in "IS"] + ["PIR", "SAL", "ILA", "AIL"]


def _rotation(angles: tuple[float, float, float]) -> np.ndarray:
    """Any rotation, mirrored or not; near enough to an axis for the nearest axes to be clear."""
    x, y, z = angles
    turn_x = np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
    turn_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    turn_z = np.array([[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]])
    return turn_x @ turn_y @ turn_z


@given(
    code=st.sampled_from(CODES),
    order=st.permutations([0, 1, 2]),
    signs=st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3),
    tilt=st.tuples(*[st.floats(-0.3, 0.3)] * 3),
)
def test_as_nibabel_turns_it(
    code: str, order: list[int], signs: tuple[float, float, float], tilt: tuple[float, float, float]
) -> None:
    direction = _rotation(tilt) @ (np.eye(3)[:, order] * signs)
    geometry = Geometry(shape=(3, 4, 5), spacing_mm=(3.0, 2.0, 1.0), direction=tuple(direction.ravel()))
    array = np.arange(60).reshape(3, 4, 5)
    image = nib.Nifti1Image(array.transpose(2, 1, 0).astype(np.int16), ras_affine(geometry))
    wanted = nib.orientations.axcodes2ornt(tuple(code))
    turned = image.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(image.affine), wanted))
    turn = turn_to(code, geometry)
    ours = turn.apply(array)
    np.testing.assert_array_equal(ours, np.asarray(turned.dataobj).transpose(2, 1, 0))
    np.testing.assert_array_equal(turn.undo(ours), array)
    np.testing.assert_array_equal(turn.undo(turn.apply(array[None]))[0], array)
    np.testing.assert_allclose(turn.triple(geometry.spacing_mm), turned.header.get_zooms()[::-1], rtol=1e-5)
    assert turn.triple_back(turn.triple((1.0, 2.0, 3.0))) == (1.0, 2.0, 3.0)


@pytest.mark.parametrize("wrong", ["LP", "LLS", "XYZ", "lps", "LPSA", "", "stored"])
def test_what_is_no_orientation(wrong: str) -> None:
    with pytest.raises(ValidationError, match="as_stored"):
        SideFile(orientation=wrong)
