"""Good files of every format: voxels, number types, geometry in LPS, modality, and what the reader says about them."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from helpers.broken_inputs import AFFINE, SHAPE, body, detached_mhd, detached_nrrd, edit_header, save_nifti
from PIL import Image

from r2seg_agent.errors import InputError
from r2seg_agent.imaging.channels import with_channels
from r2seg_agent.imaging.masks import grid_difference, read_label_map
from r2seg_agent.imaging.read import looks_like_hu, read_image

OBLIQUE = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1.0]])


def itk_image(zyx: np.ndarray) -> SimpleITK.Image:
    image = SimpleITK.GetImageFromArray(zyx)
    image.SetSpacing((0.7, 0.8, 2.5))
    image.SetOrigin((-10.25, 20.5, 1234.5678))
    image.SetDirection(OBLIQUE.ravel().tolist())
    return image


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.nhdr", "a.mha", "a.mhd"])
def test_every_volume_format_gives_the_same_volume_as_itk(tmp_path: Path, name: str) -> None:
    SimpleITK.WriteImage(itk_image(body()), str(tmp_path / name), name.endswith("gz"))
    volume = read_image(tmp_path / name)
    assert volume.array.dtype == np.int16
    np.testing.assert_array_equal(volume.array, body())
    geometry = volume.geometry
    np.testing.assert_allclose(geometry.spacing_mm, (2.5, 0.8, 0.7), rtol=1e-6)
    np.testing.assert_allclose(geometry.origin_lps_mm, (-10.25, 20.5, 1234.5678), rtol=1e-6)
    np.testing.assert_allclose(geometry.direction_matrix, OBLIQUE, atol=1e-6)
    assert (volume.modality, volume.unit, geometry.known_spacing) == ("CT", "HU", "zyx")
    assert not volume.array.flags.writeable


def test_arrays_outlive_the_itk_image_they_came_from(tmp_path: Path) -> None:
    SimpleITK.WriteImage(itk_image(body()), str(tmp_path / "a.nrrd"))
    arrays = [read_image(tmp_path / "a.nrrd").array for _ in range(50)]
    assert all((array == body()).all() for array in arrays)


@pytest.mark.parametrize("make", [detached_nrrd, detached_mhd])
@pytest.mark.parametrize("data", ["scan.raw", "./scan.raw", "sub/M\u00fcller.raw", "LIST", "slice%02d.raw 1 6 1"])
def test_headers_may_name_files_in_their_own_folder(tmp_path: Path, make: Callable[..., Any], data: str) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "M\u00fcller.raw").write_bytes(body().tobytes())
    names = [f"slice{z:02d}.raw" for z in range(1, 7)]
    for name, plane in zip(names, body(), strict=True):
        (tmp_path / name).write_bytes(plane.tobytes())
    if data == "LIST":
        data = "\n".join([data, *names])
    path = make(data)(tmp_path)
    np.testing.assert_array_equal(read_image(path).array, body())


def four_volumes(path: Path) -> Path:
    """Volumes n = 1 … 4: `body()` + 100 n."""
    volumes = np.stack([body() + 100 * n for n in range(1, 5)])
    if ".nii" in path.name:
        nib.save(nib.Nifti1Image(volumes.transpose(3, 2, 1, 0), AFFINE), path)
    else:
        image = SimpleITK.GetImageFromArray(volumes, isVector=False)
        image.SetSpacing((0.7, 0.7, 2.5, 1.0))
        SimpleITK.WriteImage(image, str(path), path.name.startswith("z"))
    return path


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "z.nrrd", "a.mha", "z.mha", "a.mhd"])
def test_one_volume_of_several_is_chosen_by_its_number(tmp_path: Path, name: str) -> None:
    path = four_volumes(tmp_path / name)
    for n in (1, 3, 4):
        volume = read_image(f"{path}::{n}")
        np.testing.assert_array_equal(volume.array, body() + 100 * n)
        assert volume.geometry.spacing_mm == pytest.approx((2.5, 0.7, 0.7))
    with pytest.raises(InputError, match="4D, of shape 20 × 24 × 6 × 4") as caught:
        read_image(path)
    assert f"`{path}::1` … `{path}::4`" in caught.value.hint
    for n in (0, 5):
        with pytest.raises(InputError, match=f"no volume {n}; it holds 4"):
            read_image(f"{path}::{n}")


def test_volumes_of_one_file_are_channels(tmp_path: Path) -> None:
    path = four_volumes(tmp_path / "brats.nii.gz")
    scan = read_image(f"{path}::1", modality="MR")
    names = {"FLAIR": f"{path}::1", "T1c": f"{path}::3"}
    channels = with_channels(scan, f"{path}::1", names, pytest.fail).channels
    np.testing.assert_array_equal(channels["FLAIR"], body() + 100)
    np.testing.assert_array_equal(channels["T1c"], body() + 300)


def test_a_number_behind_a_file_of_one_volume_or_a_picture(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii", body())
    np.testing.assert_array_equal(read_image(f"{path}::1").array, body())
    with pytest.raises(InputError, match="no volume 2; it holds 1"):
        read_image(f"{path}::2")
    Image.fromarray(np.add.outer(np.arange(30), np.arange(40)).astype(np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="holds no volumes"):
        read_image(tmp_path / "a.png::1")


def test_nifti_ras_becomes_lps(tmp_path: Path) -> None:
    """Oracle: nibabel's affine, with x and y negated."""
    rotation = OBLIQUE @ np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0.0]])
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.diag([0.7, 0.8, 2.5])
    affine[:3, 3] = (11, -22, 33)
    geometry = read_image(save_nifti(tmp_path / "a.nii.gz", body(), affine)).geometry
    for zyx in ((0, 0, 0), (5, 0, 3), (1, 23, 19)):
        ras = affine @ np.array([*zyx[::-1], 1.0])
        np.testing.assert_allclose(geometry.to_lps_mm(zyx), ras[:3] * (-1, -1, 1), atol=1e-4)


@pytest.mark.parametrize(
    ("stored", "kept"),
    [
        (np.uint8, np.uint8),
        (np.int16, np.int16),
        (np.uint16, np.uint16),
        (np.int32, np.int32),
        (np.uint32, np.int16),
        (np.int64, np.int16),
        (np.float32, np.float32),
        (np.float64, np.int16),
    ],
)
def test_number_types_stay_or_become_the_smallest_lossless(tmp_path: Path, stored: type, kept: type) -> None:
    values = np.abs(body()).astype(stored)
    volume = read_image(save_nifti_as(tmp_path / "a.nii", values))
    assert volume.array.dtype == kept
    np.testing.assert_array_equal(volume.array, np.abs(body()).astype(stored).astype(np.float64))


def save_nifti_as(path: Path, zyx: np.ndarray) -> Path:
    nib.save(nib.Nifti1Image(zyx.T, AFFINE, dtype=zyx.dtype), path)
    return path


def test_float64_fractions_become_float32_and_large_integers_int32(tmp_path: Path) -> None:
    assert read_image(save_nifti_as(tmp_path / "a.nii", body() + 0.25)).array.dtype == np.float32
    assert read_image(save_nifti_as(tmp_path / "b.nii", body() * 1000.0)).array.dtype == np.int32
    assert read_image(save_nifti_as(tmp_path / "c.nii", body().astype(np.int64) * 10**7)).array.dtype == np.float32
    with pytest.raises(InputError, match="beyond single precision"):
        read_image(save_nifti_as(tmp_path / "d.nii", body() * 1e300))


def test_nifti_slope_and_intercept_are_applied_in_integers(tmp_path: Path) -> None:
    path = edit_header(save_nifti(tmp_path / "a.nii", body() + 1024), scl_slope=1, scl_inter=-1024)
    volume = read_image(path)
    assert volume.array.dtype == np.int16
    np.testing.assert_array_equal(volume.array, body())
    np.testing.assert_array_equal(volume.array, nib.load(path).get_fdata().T)


def test_nifti_fractional_slope_gives_float32(tmp_path: Path) -> None:
    path = edit_header(save_nifti(tmp_path / "a.nii", body()), scl_slope=0.5, scl_inter=0.25)
    volume = read_image(path)
    assert volume.array.dtype == np.float32
    np.testing.assert_allclose(volume.array, nib.load(path).get_fdata().T)


def test_big_endian_nifti_and_nifti2(tmp_path: Path) -> None:
    header = nib.Nifti1Header(endianness=">")
    nib.save(nib.Nifti1Image(body().T, AFFINE, header), tmp_path / "big.nii")
    assert (tmp_path / "big.nii").read_bytes()[:4] == b"\x00\x00\x01\x5c"
    nib.save(nib.Nifti2Image(body().T, AFFINE), tmp_path / "two.nii.gz")
    for name in ("big.nii", "two.nii.gz"):
        volume = read_image(tmp_path / name)
        np.testing.assert_array_equal(volume.array, body())
        assert volume.array.dtype.isnative


def test_nifti_units_and_trailing_axes(tmp_path: Path) -> None:
    path = edit_header(save_nifti(tmp_path / "a.nii", body(), AFFINE @ np.diag([1e3, 1e3, 1e3, 1])), xyzt_units=3)
    np.testing.assert_allclose(read_image(path).geometry.spacing_mm, (2.5, 0.7, 0.7), rtol=1e-5)
    assert read_image(save_nifti(tmp_path / "b.nii", body()[None])).array.shape == SHAPE


def sheared_nifti(path: Path, shear: float, shape: tuple[int, int, int]) -> Path:
    affine = AFFINE.copy()
    affine[0, 1] = shear * 0.7
    return edit_header(save_nifti(path, body(shape), affine), qform_code=0)


@pytest.mark.parametrize("shear", [2e-4, 1e-3, 1e-2])
def test_a_slightly_sheared_grid_is_straightened_and_said(tmp_path: Path, shear: float) -> None:
    """TotalSegmentator #461, nnUNet #2265: no corner may move by more than a fraction of a voxel."""
    path = sheared_nifti(tmp_path / "a.nii", shear, (6, 60, 50))
    notes: list[str] = []
    geometry = read_image(path, note=notes.append).geometry
    assert "not quite perpendicular" in notes[0]
    affine = nib.load(path).affine
    for zyx in ((0, 0, 0), (5, 59, 49), (0, 59, 0), (5, 0, 49), (2.5, 29.5, 24.5)):
        ras = affine @ np.array([*zyx[::-1], 1.0])
        moved = np.linalg.norm(geometry.to_lps_mm(zyx) - ras[:3] * (-1, -1, 1)) / 0.7
        assert moved < min(0.5, 30 * shear)
    assert moved < 1e-5  # the centre stays


def test_a_shear_of_more_than_half_a_voxel_is_refused_by_the_size_of_the_image(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not orthonormal"):
        read_image(sheared_nifti(tmp_path / "a.nii", 1e-2, (6, 300, 50)))
    with pytest.raises(InputError, match="not orthonormal"):
        read_image(sheared_nifti(tmp_path / "b.nii", 0.2, (6, 10, 50)))


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha"])
def test_every_format_may_be_sheared_a_little_and_so_may_its_mask(tmp_path: Path, name: str) -> None:
    image = itk_image(body())
    sheared = OBLIQUE + np.array([[0, 1e-3, 0], [0, 0, 0], [0, 0, 0]])
    image.SetDirection(sheared.ravel().tolist())
    SimpleITK.WriteImage(image, str(tmp_path / name))
    notes: list[str] = []
    volume = read_image(tmp_path / name, note=notes.append)
    assert "not quite perpendicular" in notes[0]
    mask = SimpleITK.GetImageFromArray((body() > 0).astype(np.uint8))
    mask.CopyInformation(image)
    SimpleITK.WriteImage(mask, str(tmp_path / f"mask_{name}"))
    np.testing.assert_array_equal(read_label_map(tmp_path / f"mask_{name}", volume.geometry), body() > 0)


@pytest.mark.parametrize("pixdim", [(0, 0, 0), (-0.7, 0.7, 2.5), (0.7, 0.7, np.nan), (np.inf, 0.7, 2.5), (1, 1, 1)])
def test_the_spacing_comes_from_a_good_sform_where_pixdim_is_none(tmp_path: Path, pixdim: tuple[float, ...]) -> None:
    path = edit_header(save_nifti(tmp_path / "a.nii", body()), pixdim=[1, *pixdim, 0, 0, 0, 0], qform_code=1)
    notes: list[str] = []
    if all(step > 0 for step in pixdim) and np.isfinite(pixdim).all():
        edit_header(path, qform_code=0)
    geometry = read_image(path, note=notes.append).geometry
    assert geometry.spacing_mm == pytest.approx((2.5, 0.7, 0.7))
    assert "the matrix was used" in notes[0]
    assert not grid_difference(geometry, read_image(save_nifti(tmp_path / "b.nii", body())).geometry)
    edit_header(path, sform_code=0)
    if pixdim != (1, 1, 1):
        with pytest.raises(InputError, match="spacing"):
            read_image(path)


def test_nifti_qform_serves_where_sform_is_sheared_in_another_space(tmp_path: Path) -> None:
    image = nib.Nifti1Image(body().T, AFFINE)
    sheared = AFFINE.copy()
    sheared[0, 1] = 0.3
    image.set_qform(AFFINE, code=1)
    image.set_sform(sheared, code=4)
    nib.save(image, tmp_path / "a.nii")
    plain = read_image(save_nifti(tmp_path / "b.nii", body()))
    assert not grid_difference(read_image(tmp_path / "a.nii").geometry, plain.geometry)


def test_a_nifti_without_orientation_is_read_as_itk_reads_it(tmp_path: Path) -> None:
    path = edit_header(save_nifti(tmp_path / "a.nii", body()), qform_code=0, sform_code=0)
    notes: list[str] = []
    geometry, itk = read_image(path, note=notes.append).geometry, SimpleITK.ReadImage(str(path))
    assert "no orientation" in notes[0]
    np.testing.assert_allclose(geometry.spacing_mm[::-1], itk.GetSpacing(), rtol=1e-6)
    np.testing.assert_allclose(geometry.direction, itk.GetDirection(), atol=1e-6)


def test_gzip_is_recognised_by_content_not_by_name(tmp_path: Path) -> None:
    plain = save_nifti(tmp_path / "a.nii", body()).read_bytes()
    (tmp_path / "packed.nii").write_bytes(gzip.compress(plain))
    (tmp_path / "plain.nii.gz").write_bytes(plain)
    assert read_image(tmp_path / "packed.nii").name == read_image(tmp_path / "plain.nii.gz").name


def test_one_slice_files_have_unknown_z(tmp_path: Path) -> None:
    plane = body()[2].T
    affine = AFFINE.copy()
    nib.save(nib.Nifti1Image(plane, affine), tmp_path / "a.nii")
    image = SimpleITK.GetImageFromArray(body()[2])
    image.SetSpacing((0.7, 0.8))
    SimpleITK.WriteImage(image, str(tmp_path / "a.mha"))
    for name, spacing in (("a.nii", (1.0, 0.7, 0.7)), ("a.mha", (1.0, 0.8, 0.7))):
        geometry = read_image(tmp_path / name).geometry
        assert geometry.shape == (1, *SHAPE[1:])
        assert geometry.known_spacing == "yx"
        np.testing.assert_allclose(geometry.spacing_mm, spacing, rtol=1e-6)


@pytest.mark.parametrize("name", ["p.png", "p.jpg", "p.tif", "p.jpeg", "p.tiff"])
def test_pictures_are_one_slice_in_pixels(tmp_path: Path, name: str) -> None:
    grey = np.add.outer(np.arange(30), np.arange(40)).astype(np.uint8)
    Image.fromarray(grey).save(tmp_path / name, quality=100)
    volume = read_image(tmp_path / name)
    assert volume.array.dtype == np.uint8
    np.testing.assert_allclose(volume.array[0].astype(int), grey, atol=3 if "jp" in name else 0)
    assert volume.geometry.known_spacing == "none"
    assert volume.geometry.shape == (1, 30, 40)
    assert (volume.modality, volume.unit, volume.source_format) == ("unknown", "arbitrary", "picture")


def test_pictures_16_bit_float_and_bilevel(tmp_path: Path) -> None:
    wide = np.add.outer(np.arange(30), np.arange(40)).astype(np.uint16) * 900
    Image.fromarray(wide).save(tmp_path / "a.png")
    Image.fromarray(wide).save(tmp_path / "a.tif")
    Image.fromarray(wide.astype(np.float32) / 7).save(tmp_path / "f.tif")
    Image.fromarray(wide > 9000).save(tmp_path / "b.png")
    for name in ("a.png", "a.tif"):
        volume = read_image(tmp_path / name)
        assert volume.array.dtype == np.uint16
        np.testing.assert_array_equal(volume.array[0], wide)
    assert read_image(tmp_path / "f.tif").array.dtype == np.float32
    assert set(np.unique(read_image(tmp_path / "b.png").array)) == {0, 255}


def test_grey_saved_as_colour_counts_as_grey(tmp_path: Path) -> None:
    grey = np.add.outer(np.arange(30), np.arange(40)).astype(np.uint8)
    opaque = np.dstack([grey, grey, grey, np.full_like(grey, 255)])
    Image.fromarray(opaque[..., :3]).save(tmp_path / "rgb.png")
    Image.fromarray(opaque).save(tmp_path / "rgba.png")
    Image.fromarray(grey).convert("P").save(tmp_path / "p.png")
    for name in ("rgb.png", "rgba.png", "p.png"):
        np.testing.assert_array_equal(read_image(tmp_path / name).array[0], grey)


def test_a_rotated_photo_is_used_as_stored_and_says_so(tmp_path: Path) -> None:
    image = Image.fromarray(np.add.outer(np.arange(30), np.arange(40)).astype(np.uint8))
    exif = image.getexif()
    exif[274] = 6
    image.save(tmp_path / "a.jpg", exif=exif)
    notes: list[str] = []
    assert read_image(tmp_path / "a.jpg", note=notes.append).array.shape == (1, 30, 40)
    assert "rotate" in notes[0]


def test_a_picture_has_no_hounsfield_units_whatever_the_user_says(tmp_path: Path) -> None:
    Image.fromarray(np.add.outer(np.arange(30), np.arange(40)).astype(np.uint8)).save(tmp_path / "a.png")
    volume = read_image(tmp_path / "a.png", modality="CT")
    assert (volume.modality, volume.unit) == ("CT", "arbitrary")


def test_the_user_may_name_the_modality(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii", np.abs(body()))
    assert read_image(path).modality == "unknown"
    assert (read_image(path, modality="MR").modality, read_image(path, modality="MR").unit) == ("MR", "arbitrary")
    notes: list[str] = []
    assert read_image(path, modality="CT", note=notes.append).unit == "HU"
    assert "may not be HU" in notes[0]


def test_hu_are_recognised_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    ct = body((8, 64, 64))
    padded = ct.copy()
    padded[:, :9] = -3024
    assert looks_like_hu(ct)
    assert looks_like_hu(padded)
    assert looks_like_hu(ct.astype(np.float32))
    assert not looks_like_hu(rng.integers(-4096, 4096, ct.shape))  # MR phase
    assert not looks_like_hu(rng.normal(0, 1, ct.shape))  # standardised MR
    assert not looks_like_hu(np.abs(ct))
    assert not looks_like_hu(np.where(ct < 0, -1000, 3000))  # nothing soft
    assert not looks_like_hu(np.clip(ct, -150, 250))  # a windowed CT has lost its air


def test_the_name_is_a_pseudonym_of_the_content(tmp_path: Path) -> None:
    one = read_image(save_nifti(tmp_path / "Doe_Jane.nii.gz", body()))
    other = read_image(save_nifti(tmp_path / "copy.nii", body()))
    assert one.name == other.name
    assert one.name.startswith("image-")
    assert "Doe" not in one.name
    assert read_image(save_nifti(tmp_path / "c.nii", body() + 1)).name != one.name


def test_series_is_refused_for_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="only in a DICOM folder"):
        read_image(save_nifti(tmp_path / "a.nii", body()), series="1")


def test_reading_loads_no_torch_and_importing_loads_no_reader() -> None:
    import subprocess
    import sys

    code = (
        "import sys, r2seg_agent.imaging.read, r2seg_agent.imaging.write, r2seg_agent.imaging.masks;"
        "heavy = {'torch', 'SimpleITK', 'pydicom', 'PIL', 'nibabel', 'highdicom', 'scipy', 'matplotlib'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
