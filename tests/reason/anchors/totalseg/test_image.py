"""Crop, orientation and resampling in memory equal the library's own, on grids of any orientation."""

from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from totalsegmentator.alignment import as_closest_canonical, undo_canonical
from totalsegmentator.cropping import crop_to_mask, undo_crop
from totalsegmentator.resampling import change_spacing

from r2seg_agent.imaging.geometry import Geometry
from r2seg_agent.imaging.volume import Volume
from r2seg_agent.reason.anchors.totalseg.image import prepare, ras_affine, restore, to_nifti


@st.composite
def volumes(draw: Any) -> Volume:
    """Small scans with any axis order, flips, obliquity up to 20° and anisotropic spacing."""
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    shape = tuple(int(n) for n in rng.integers(4, 24, 3))
    spacing = tuple(float(s) for s in np.round(rng.uniform(0.6, 7.0, 3), 3))
    axes = np.eye(3)[:, rng.permutation(3)] * rng.choice([-1.0, 1.0], 3)
    angles = rng.uniform(-0.3, 0.3, 3) * draw(st.sampled_from([0.0, 1.0]))
    direction = _rotation(angles) @ axes
    kind = draw(st.sampled_from([np.int16, np.float32, np.uint8, np.int32]))
    array = rng.normal(100, 60, shape).clip(0, 250).astype(kind)
    geometry = Geometry(
        shape=shape,
        spacing_mm=spacing,
        origin_lps_mm=tuple(float(v) for v in rng.uniform(-200, 200, 3)),
        direction=tuple(float(v) for v in direction.ravel()),
    )
    return Volume(array=array, geometry=geometry, modality="CT", unit="HU")


def _rotation(angles: np.ndarray) -> np.ndarray:
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        i, j = [k for k in range(3) if k != axis]
        turn = np.eye(3)
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    return matrix


@settings(max_examples=60)
@given(volume=volumes(), spacing=st.sampled_from([1.5, 3.0, 6.0]), cropped=st.booleans(), seed=st.integers(0, 999))
def test_there_and_back_as_the_library_does_it(volume: Volume, spacing: float, cropped: bool, seed: int):
    rng = np.random.default_rng(seed)
    image = to_nifti(volume)
    mask = None
    theirs = nib.Nifti1Image(image.get_fdata(), image.affine)
    if cropped:
        mask = np.zeros(image.shape, dtype=bool)
        low = [int(rng.integers(0, n)) for n in image.shape]
        mask[tuple(slice(a, a + int(rng.integers(1, 6))) for a in low)] = True
        mask_image = nib.Nifti1Image(mask.astype(np.uint8), image.affine)
        theirs, bbox = crop_to_mask(theirs, mask_image, addon=[5, 5, 5], dtype=np.int32)
    canonical = as_closest_canonical(theirs)
    resampled = change_spacing(canonical, spacing, order=1, dtype=np.int32)

    ours = prepare(image, (spacing,) * 3, mask, (5.0, 5.0, 5.0))
    assert ours is not None
    assert np.array_equal(ours.array, resampled.get_fdata())
    assert ours.spacing_xyz_mm == pytest.approx(tuple(float(z) for z in resampled.header.get_zooms()), rel=1e-6)

    labels = rng.integers(0, 118, ours.array.shape).astype(np.uint8)
    predicted = nib.Nifti1Image(labels, resampled.affine)
    back = change_spacing(predicted, spacing, canonical.shape, order=0, dtype=np.uint8, force_affine=canonical.affine)
    back = undo_canonical(back, image)
    if cropped:
        back = undo_crop(back, image, bbox)
    assert np.array_equal(restore(labels, ours), back.get_fdata())


@given(volume=volumes())
def test_the_affine_is_the_same_place_in_nifti_words(volume: Volume):
    corner = np.array([s - 1.0 for s in volume.geometry.shape])
    lps = volume.geometry.to_lps_mm(corner)
    ras = ras_affine(volume.geometry) @ np.array([*corner[::-1], 1.0])
    assert ras[:3] == pytest.approx(lps * (-1, -1, 1))
    assert to_nifti(volume).shape == volume.geometry.shape[::-1]


def test_empty_crop_is_nothing():
    volume = Volume(
        array=np.zeros((4, 5, 6), dtype=np.int16),
        geometry=Geometry(shape=(4, 5, 6), spacing_mm=(1, 1, 1)),
        modality="CT",
        unit="HU",
    )
    image = to_nifti(volume)
    assert prepare(image, None, np.zeros(image.shape, dtype=bool), (0, 0, 0)) is None


def test_mr_in_small_numbers_keeps_its_contrast():
    array = np.random.default_rng(0).uniform(0, 1, (6, 7, 8)).astype(np.float32)
    volume = Volume(
        array=array, geometry=Geometry(shape=(6, 7, 8), spacing_mm=(3, 3, 3)), modality="MR", unit="arbitrary"
    )
    prepared = prepare(to_nifti(volume), (6.0, 6.0, 6.0), None, (0, 0, 0))
    assert prepared is not None
    assert len(np.unique(prepared.array)) > 30
