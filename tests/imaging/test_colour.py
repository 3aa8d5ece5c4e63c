"""Colour pictures: grey by luminance, the colours kept beside it; and grey values for a screen, which are no HU."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from helpers.broken_inputs import AFFINE, rgb_nifti, rgb_picture
from numpy.typing import NDArray
from PIL import Image

from r2seg_agent.errors import InputError
from r2seg_agent.imaging.channels import with_channels
from r2seg_agent.imaging.colour import COLOURS, colours_of, grey_of, has_colours
from r2seg_agent.imaging.geometry import Geometry
from r2seg_agent.imaging.identity import volume_sha256
from r2seg_agent.imaging.in_memory import ScanInMemory
from r2seg_agent.imaging.masks import read_label_map
from r2seg_agent.imaging.read import read_image
from r2seg_agent.imaging.volume import Volume

SHAPE = (30, 40)
"""(y, x) of the pictures."""


@pytest.fixture
def rgb() -> NDArray[np.uint8]:
    """(y, x, 3): a reddish disc on a bluish ground with some texture."""
    y, x = np.indices(SHAPE)
    disc = (y - 14) ** 2 + (x - 22) ** 2 <= 36
    picture = np.where(disc[..., None], (180, 60, 40), (70, 90, 160)) + np.random.default_rng(3).integers(
        0, 9, (*SHAPE, 3)
    )
    return picture.astype(np.uint8)


def records(rgb: NDArray[np.uint8], fields: str) -> NDArray[np.void]:
    """(x, y, 1) voxels of the NIfTI type RGB24 or RGBA32."""
    voxels = np.zeros((*SHAPE[::-1], 1), dtype=[(name, "u1") for name in fields])
    for n, name in enumerate(fields):
        voxels[name][..., 0] = rgb[..., n].T if n < 3 else 255
    return voxels


def saved(kind: str, rgb: NDArray[np.uint8], folder: Path) -> Path:
    """The picture as a file of this kind."""
    path = folder / ("a.png" if kind.startswith("png") else "a.nii.gz")
    xy = rgb.transpose(1, 0, 2)
    opaque = np.concatenate([xy, np.full((*xy.shape[:2], 1), 255, np.uint8)], axis=2)
    if kind == "png":
        Image.fromarray(rgb).save(path)
    elif kind == "png rgba":
        Image.fromarray(opaque.transpose(1, 0, 2)).save(path)
    else:
        nib.save(
            nib.Nifti1Image(
                {
                    "nifti rgb": lambda: records(rgb, "RGB"),
                    "nifti rgba": lambda: records(rgb, "RGBA"),
                    "nifti last axis": lambda: xy,
                    "nifti last axis of four": lambda: opaque,
                    "nifti fourth axis": lambda: xy[:, :, np.newaxis],
                    "nifti vector": lambda: xy[:, :, np.newaxis, np.newaxis],
                }[kind](),
                np.eye(4),
            ),
            path,
        )
    return path


KINDS = (
    "png",
    "png rgba",
    "nifti rgb",
    "nifti rgba",
    "nifti last axis",
    "nifti last axis of four",
    "nifti fourth axis",
    "nifti vector",
)


@pytest.mark.parametrize("kind", KINDS)
def test_a_colour_picture_is_one_grey_slice_and_keeps_its_colours(
    kind: str, rgb: NDArray[np.uint8], tmp_path: Path
) -> None:
    volume = read_image(saved(kind, rgb, tmp_path), modality="photo")
    assert volume.array.shape == volume.geometry.shape == (1, *SHAPE)
    assert volume.array.dtype == np.uint8
    np.testing.assert_array_equal(volume.array[0], grey_of(rgb))
    colours = colours_of(volume)
    assert colours is not None
    np.testing.assert_array_equal(colours[0], rgb)
    assert tuple(volume.channels) == COLOURS
    assert (volume.unit, volume.geometry.is_2d) == ("arbitrary", True)


def test_the_grey_values_are_pillows_luminance(rgb: NDArray[np.uint8]) -> None:
    pillow = np.asarray(Image.fromarray(rgb).convert("L")).astype(int)
    np.testing.assert_allclose(grey_of(rgb).astype(int), pillow, atol=1)


@pytest.mark.parametrize("kind", KINDS[2:])
def test_a_colour_picture_in_memory_is_that_of_its_file(kind: str, rgb: NDArray[np.uint8], tmp_path: Path) -> None:
    path = saved(kind, rgb, tmp_path)
    from_memory = ScanInMemory(nib.load(path)).volume("photo", lambda text: None)
    assert volume_sha256(from_memory) == volume_sha256(read_image(path, modality="photo"))


def test_colours_belong_to_the_identity_of_a_picture(rgb: NDArray[np.uint8], tmp_path: Path) -> None:
    Image.fromarray(grey_of(rgb)).save(tmp_path / "grey.png")
    grey = read_image(tmp_path / "grey.png")
    coloured = read_image(saved("png", rgb, tmp_path))
    np.testing.assert_array_equal(grey.array, coloured.array)
    assert not has_colours(grey)
    assert grey.name != coloured.name


def test_three_slices_of_bytes_with_a_voxel_size_are_three_slices(rgb: NDArray[np.uint8], tmp_path: Path) -> None:
    xy = rgb.transpose(1, 0, 2)
    nib.save(nib.Nifti1Image(xy, np.diag([0.8, 0.8, 5.0, 1.0])), tmp_path / "a.nii")
    turned = np.array([[0.6, -0.8, 0, 0], [0.8, 0.6, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    nib.save(nib.Nifti1Image(xy, turned), tmp_path / "b.nii")
    nib.save(nib.Nifti1Image(xy.astype(np.int16), np.eye(4)), tmp_path / "c.nii")
    for name in ("a.nii", "b.nii", "c.nii"):
        volume = read_image(tmp_path / name, modality="MR")
        assert volume.array.shape == (3, *SHAPE)
        assert not has_colours(volume)


def test_equal_colours_in_a_nifti_are_grey(rgb: NDArray[np.uint8], tmp_path: Path) -> None:
    grey = np.repeat(grey_of(rgb)[..., None], 3, axis=2)
    volume = read_image(saved("nifti rgb", grey, tmp_path))
    np.testing.assert_array_equal(volume.array[0], grey[..., 0])
    assert not volume.channels


def test_a_partly_transparent_nifti_is_refused(rgb: NDArray[np.uint8], tmp_path: Path) -> None:
    voxels = records(rgb, "RGBA")
    voxels["A"][3, 3] = 100
    nib.save(nib.Nifti1Image(voxels, np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(InputError, match="transparent"):
        read_image(tmp_path / "a.nii")


def test_a_volume_in_colour_keeps_its_slices(tmp_path: Path) -> None:
    volume = read_image(rgb_nifti(tmp_path))
    assert volume.array.shape == (4, 8, 8)
    assert has_colours(volume)


@pytest.mark.parametrize("make", [rgb_picture("mask.png"), rgb_picture("mask.jpg"), rgb_nifti])
def test_a_colour_picture_is_no_mask(make, tmp_path: Path) -> None:
    path = make(tmp_path)
    grid = read_image(path).geometry
    with pytest.raises(InputError, match=r"colour \(RGB\)"):
        read_label_map(path, grid)


def test_further_channels_leave_the_colours_alone(rgb: NDArray[np.uint8], tmp_path: Path) -> None:
    scan = read_image(saved("png", rgb, tmp_path))
    Image.fromarray(rgb[..., 1]).save(tmp_path / "infrared.png")
    both = with_channels(scan, str(tmp_path / "a.png"), {"infrared": str(tmp_path / "infrared.png")}, lambda text: None)
    assert set(both.channels) == {*COLOURS, "infrared"}


def test_colours_go_with_a_crop(rgb: NDArray[np.uint8], tmp_path: Path) -> None:
    volume = read_image(saved("png", rgb, tmp_path))
    box = volume.geometry.full_box.model_copy(update={"start": (0, 5, 6), "stop": (1, 20, 30)})
    colours = colours_of(volume.crop(box))
    assert colours is not None
    np.testing.assert_array_equal(colours[0], rgb[5:20, 6:30])


def grey_slice(low: int, high: int) -> NDArray[np.int16]:
    """(x, y, 1) int16 from `low` to `high`."""
    ramp = np.linspace(low, high, SHAPE[0] * SHAPE[1]).round().astype(np.int16)
    return ramp.reshape(*SHAPE[::-1], 1)


@pytest.mark.parametrize(
    ("values", "unit"),
    [
        (grey_slice(0, 255).astype(np.uint8), "arbitrary"),
        (grey_slice(3, 200).astype(np.uint8), "arbitrary"),
        (grey_slice(0, 255), "arbitrary"),
        (grey_slice(0, 255).astype(np.float32), "arbitrary"),
        (grey_slice(-1000, 255), "HU"),
        (grey_slice(0, 300), "HU"),
        (grey_slice(20, 80), "HU"),
    ],
)
def test_a_ct_of_display_values_is_not_in_hounsfield_units(
    values: NDArray[np.int16], unit: str, tmp_path: Path
) -> None:
    nib.save(nib.Nifti1Image(values, AFFINE), tmp_path / "a.nii")
    volume: Volume = read_image(tmp_path / "a.nii", modality="CT")
    assert (volume.modality, volume.unit) == ("CT", unit)


def test_bytes_that_the_header_rescales_to_hu_are_hu(tmp_path: Path) -> None:
    image = nib.Nifti1Image(grey_slice(0, 255).astype(np.uint8), AFFINE)
    image.header.set_slope_inter(4, -500)
    nib.save(image, tmp_path / "a.nii")
    assert read_image(tmp_path / "a.nii", modality="CT").unit == "HU"


def test_a_geometry_of_pixels_has_no_millimetres(rgb: NDArray[np.uint8], tmp_path: Path) -> None:
    geometry: Geometry = read_image(saved("png", rgb, tmp_path)).geometry
    assert geometry.known_spacing == "none"
