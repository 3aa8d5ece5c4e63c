"""Masks are accepted on the voxels of their image, however stored, and on no others."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from helpers.broken_inputs import SHAPE, body, good_image, save_nifti
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from r2seg_agent.errors import InputError
from r2seg_agent.imaging.geometry import Box, Geometry
from r2seg_agent.imaging.masks import grid_difference, read_label_map, read_reference
from r2seg_agent.imaging.read import read_image
from r2seg_agent.imaging.write import write_label_map


def marked(shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 4, shape).astype(np.uint8)


@settings(max_examples=48)
@given(axes=st.permutations([0, 1, 2]), signs=st.tuples(*[st.sampled_from([1, -1])] * 3))
def test_masks_saved_with_turned_axes_are_turned_back(
    tmp_path_factory: pytest.TempPathFactory, axes: list[int], signs: tuple[int, int, int]
) -> None:
    """Oracle: nibabel's own reorientation of the mask."""
    folder = tmp_path_factory.mktemp("turned")
    image = read_image(good_image(folder))
    write_label_map(folder / "mask.nii.gz", marked(), image.geometry)
    turned = nib.load(folder / "mask.nii.gz").as_reoriented(np.column_stack([axes, signs]))
    nib.save(turned, folder / "turned.nii.gz")
    np.testing.assert_array_equal(read_label_map(folder / "turned.nii.gz", image.geometry), marked())


def test_small_rounding_of_the_header_is_the_same_grid(tmp_path: Path) -> None:
    image = read_image(good_image(tmp_path))
    rounded = image.geometry.model_copy(update={"spacing_mm": (2.5, 0.7005, 0.7), "origin_lps_mm": (-10.01, -20, -30)})
    write_label_map(tmp_path / "mask.nrrd", marked(), rounded)
    np.testing.assert_array_equal(read_label_map(tmp_path / "mask.nrrd", image.geometry), marked())


def test_slicer_crops_are_put_in_place(tmp_path: Path) -> None:
    image = read_image(good_image(tmp_path))
    box = Box(start=(1, 3, 5), stop=(4, 4, 15))  # one row thin: a small segment
    crop = marked()[box.slices]
    write_label_map(tmp_path / "lesion.seg.nrrd", crop, image.geometry.crop(box))
    expected = np.zeros(SHAPE, np.uint8)
    expected[box.slices] = crop
    np.testing.assert_array_equal(read_label_map(tmp_path / "lesion.seg.nrrd", image.geometry), expected)
    write_label_map(tmp_path / "lesion.nrrd", crop, image.geometry.crop(box))
    with pytest.raises(InputError, match="shape 10 × 1 × 3 instead of 20 × 24 × 6"):
        read_label_map(tmp_path / "lesion.nrrd", image.geometry)
    outside = image.geometry.crop(box).model_copy(update={"origin_lps_mm": (500.0, 0.0, 0.0)})
    write_label_map(tmp_path / "far.seg.nrrd", crop, outside)
    with pytest.raises(InputError, match="another grid"):
        read_label_map(tmp_path / "far.seg.nrrd", image.geometry)


@pytest.mark.parametrize("stored", [np.uint8, np.int16, np.int32, np.int64, np.float32, np.float64, np.uint16])
def test_whole_numbers_of_any_type_are_labels(tmp_path: Path, stored: type) -> None:
    image = read_image(good_image(tmp_path))
    nib.save(
        nib.Nifti1Image(marked().astype(stored).T, nib.load(good_image(tmp_path)).affine, dtype=stored),
        tmp_path / "m.nii",
    )
    labels = read_label_map(tmp_path / "m.nii", image.geometry)
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, marked())


def test_picture_masks(tmp_path: Path) -> None:
    grey = np.add.outer(np.arange(30), np.arange(40)).astype(np.uint8)
    Image.fromarray(grey).save(tmp_path / "image.png")
    like = read_image(tmp_path / "image.png").geometry
    mask = np.zeros((30, 40), np.uint8)
    mask[5:9, 6:20] = 1
    Image.fromarray(mask * 255).save(tmp_path / "white.png")
    Image.fromarray(mask.astype(bool)).save(tmp_path / "bilevel.png")
    palette = Image.fromarray(mask * 2)
    palette.putpalette([0, 0, 0, 9, 9, 9, 255, 0, 0])
    palette.save(tmp_path / "palette.png")
    Image.fromarray(mask).save(tmp_path / "mask.tif")
    for name, label in (("white.png", 1), ("bilevel.png", 1), ("palette.png", 2), ("mask.tif", 1)):
        np.testing.assert_array_equal(read_label_map(tmp_path / name, like)[0], mask * label, err_msg=name)
    Image.fromarray(mask[:-1]).save(tmp_path / "short.png")
    with pytest.raises(InputError, match="shape 40 × 29 × 1 instead of 40 × 30 × 1"):
        read_label_map(tmp_path / "short.png", like)


def test_a_picture_mask_fits_any_one_slice_image_of_its_size(tmp_path: Path) -> None:
    plane = read_image(save_nifti(tmp_path / "a.nii", body()[:1])).geometry
    Image.fromarray(marked()[0]).save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_label_map(tmp_path / "m.png", plane)[0], marked()[0])


def test_differences_are_told_in_words() -> None:
    grid = Geometry(shape=(3, 40, 50), spacing_mm=(2, 1, 1))
    assert grid_difference(grid, grid) == ""
    other = Geometry(shape=(3, 40, 51), spacing_mm=(2, 1, 1.5), origin_lps_mm=(0, 5, 0))
    told = grid_difference(other, grid)
    for word in ("shape 51 × 40 × 3", "spacing 1.5 × 1 × 2", "origin (0, 5, 0)"):
        assert word in told
    turn = np.array([[np.cos(0.0009), -np.sin(0.0009), 0], [np.sin(0.0009), np.cos(0.0009), 0], [0, 0, 1]])
    wide = Geometry(shape=(3, 4000, 4000), spacing_mm=(2, 1, 1))
    slightly = wide.model_copy(update={"direction": tuple(turn.ravel().tolist())})
    assert "corners up to 5.09 mm away" in grid_difference(slightly, wide)


def test_a_structure_can_be_chosen_only_in_a_structure_set(tmp_path: Path) -> None:
    image = read_image(good_image(tmp_path))
    write_label_map(tmp_path / "m.nii", marked(), image.geometry)
    np.testing.assert_array_equal(read_reference(tmp_path / "m.nii", image.geometry), marked())
    with pytest.raises(InputError, match="no structure `GTV` to choose"):
        read_reference(f"{tmp_path / 'm.nii'}::GTV", image.geometry)
