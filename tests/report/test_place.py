"""Places are the patient's: right is the patient's right, whatever order and direction the voxels have."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from r2seg_agent.imaging.geometry import Geometry, bounding_box
from r2seg_agent.imaging.volume import Volume
from r2seg_agent.reason.anchors.protocol import AnchorSet, AnchorSourceInfo
from r2seg_agent.reason.plan import AnatomyPlan
from r2seg_agent.report.place import organ_name, place

INFO = AnchorSourceInfo(name="x", version="1", kind="masks", stand_in=False, licence="own", modalities=("CT",))
SIZE = 60.0
"""The synthetic patient is a cube of 2 × 60 mm around the origin."""


def plan(*organs: str) -> AnatomyPlan:
    return AnatomyPlan(target="t", target_name="t", site="s", modality="CT", anchors=organs, prompt="p")


def ball(points: np.ndarray, centre: tuple[float, float, float], radius: float) -> np.ndarray:
    return np.linalg.norm(points - np.asarray(centre), axis=-1) <= radius


def patient(direction: np.ndarray, spacing: tuple[float, float, float] = (3.0, 3.0, 3.0)):
    """Volume, grid points (LPS mm) and anchors: two lungs as boxes, the right one at −x, on a grid of any direction."""
    n = [int(2 * SIZE / s) + 1 for s in spacing]
    half = direction @ (np.asarray([n[2] - 1, n[1] - 1, n[0] - 1]) / 2 * np.asarray(spacing[::-1]))
    geometry = Geometry(
        shape=(n[0], n[1], n[2]),
        spacing_mm=spacing,
        origin_lps_mm=tuple((-half).tolist()),
        direction=tuple(direction.ravel().tolist()),
    )
    points = geometry.to_lps_mm(np.stack(np.indices(geometry.shape), -1).astype(float))
    labels = np.zeros(geometry.shape, dtype=np.uint8)
    inside = (np.abs(points[..., 1]) < 36) & (np.abs(points[..., 2]) < 40)
    labels[inside & (points[..., 0] < -5) & (points[..., 0] > -40)] = 1
    labels[inside & (points[..., 0] > 5) & (points[..., 0] < 40)] = 2
    names = {"lung_right": (1,), "lung_left": (2,), "lungs": (1, 2), "body": (1, 2)}
    volume = Volume(np.zeros(geometry.shape, dtype=np.int16), geometry, "CT", "HU")
    return volume, points, AnchorSet(labels, names, geometry, INFO)


def signed_permutations():
    for order in permutations(range(3)):
        for signs in product((1, -1), repeat=3):
            yield np.eye(3)[:, list(order)] * signs


@pytest.mark.parametrize("tilt", [0.0, 12.0])
def test_the_same_place_on_every_orientation_of_the_grid(tilt):
    turn = Rotation.from_euler("xyz", [tilt, -tilt / 2, tilt / 3], degrees=True).as_matrix()
    for base in signed_permutations():
        volume, points, anchors = patient(turn @ base)
        mask = ball(points, (-32, 26, 30), 5)
        box = bounding_box(mask)
        assert box is not None
        text = place(mask[box.slices], box, volume, anchors, plan("lung_right"))
        assert text.startswith("right lung, upper third, posterior, lateral, ")


@pytest.mark.parametrize(
    ("centre", "expected"),
    [
        ((-21, 0, 0), "right lung, middle third, 12 mm"),
        ((-10, 0, -30), "right lung, lower third, medial, at its surface"),
        ((32, -26, 0), "left lung, middle third, anterior, lateral, "),
    ],
)
def test_thirds_and_depth(centre, expected):
    volume, points, anchors = patient(np.eye(3))
    mask = ball(points, centre, 5)
    box = bounding_box(mask)
    assert box is not None
    assert place(mask[box.slices], box, volume, anchors, plan("lung_right")).startswith(expected)


def test_depth_is_the_distance_to_the_nearest_surface_voxel():
    volume, points, anchors = patient(np.eye(3), (2.0, 2.0, 2.0))
    mask = np.zeros(volume.geometry.shape, dtype=bool)
    z, y, x = np.round(volume.geometry.to_zyx((-20.0, 0.0, 0.0))).astype(int)
    mask[z, y, x] = True
    box = bounding_box(mask)
    assert box is not None
    lung = anchors.mask("lung_right")
    outside = points[~lung]
    nearest = np.linalg.norm(outside - points[z, y, x], axis=1).min()
    text = place(mask[box.slices], box, volume, anchors, plan("lung_right"))
    assert text.endswith(f"{nearest - 2:.0f} mm from its surface")  # the surface voxel lies one step before


def test_a_hole_in_an_organ_mask_is_inside_the_organ():
    volume, points, anchors = patient(np.eye(3))
    mask = ball(points, (-22, 0, 0), 7)
    labels = anchors.labels.copy()
    labels[mask] = 0
    holed = AnchorSet(labels, anchors.names, anchors.geometry, INFO)
    box = bounding_box(mask)
    assert box is not None
    assert place(mask[box.slices], box, volume, holed, plan("lung_right")).startswith("right lung, middle third")


def test_outside_every_organ_the_nearest_searched_one_is_named():
    volume, points, anchors = patient(np.eye(3))
    mask = ball(points, (54, 0, 0), 4)
    box = bounding_box(mask)
    assert box is not None
    text = place(mask[box.slices], box, volume, anchors, plan("lung_right", "lung_left"))
    assert text == "outside the organs located, 12 mm from left lung"


def test_without_anchors_the_side_of_the_image_centre():
    volume, points, _ = patient(np.eye(3))
    mask = ball(points, (-30, 12, 21), 4)
    box = bounding_box(mask)
    assert box is not None
    text = place(mask[box.slices], box, volume, None, plan("lung_right"))
    assert text == "30 mm to the patient's right, 12 mm posterior, 21 mm above of the image centre"


def test_an_organ_that_leaves_the_image_has_thirds_of_the_part_in_view():
    volume, points, anchors = patient(np.eye(3))
    labels = anchors.labels.copy()
    labels[np.abs(points[..., 0] + 22) < 15] = 1
    cut = AnchorSet(labels, {"lung_right": (1,)}, anchors.geometry, INFO)
    mask = ball(points, (-22, 0, 45), 4)
    box = bounding_box(mask)
    assert box is not None
    text = place(mask[box.slices], box, volume, cut, plan("lung_right"))
    assert text.startswith("right lung, upper third of the part in view")


def test_a_finding_across_two_organs_names_both():
    volume, points, anchors = patient(np.eye(3))
    labels = anchors.labels.copy()
    labels[(points[..., 2] < 0) & (labels == 1)] = 3
    names = {"lung_right": (1,), "liver": (3,)}
    mask = ball(points, (-22, 0, 0), 8)
    box = bounding_box(mask)
    assert box is not None
    both = AnchorSet(labels, names, anchors.geometry, INFO)
    text = place(mask[box.slices], box, volume, both, plan("liver"))
    assert text.startswith("right lung and liver")


def test_organ_names_read_well():
    assert organ_name("kidney_left") == "left kidney"
    assert organ_name("something_else") == "something else"
