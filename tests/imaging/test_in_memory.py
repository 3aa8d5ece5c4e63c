"""Scans in memory: the same scan as the file that would hold them, or the same error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from r2seg_agent.errors import InputError
from r2seg_agent.imaging.identity import volume_sha256
from r2seg_agent.imaging.in_memory import ScanInMemory
from r2seg_agent.imaging.read import read_image
from r2seg_agent.imaging.volume import Modality, Volume


def voxels(dtype: Any = np.int16, shape: tuple[int, ...] = (6, 7, 5)) -> Any:
    """Grey values that look like HU."""
    return np.random.default_rng(0).integers(-1000, 400, shape).astype(dtype)


def oblique(angles: tuple[float, float, float] = (10.0, 20.0, 5.0)) -> Any:
    """A RAS affine of a tilted grid."""
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ np.diag([-0.7, 0.8, 2.5])
    affine[:3, 3] = (33.3, -5.1, 7.0)
    return affine


def held(scan: Any, modality: Modality | None = None, **grid: Any) -> Volume:
    return ScanInMemory(scan, **grid).volume(modality, lambda text: None)


def same(a: Volume, b: Volume) -> bool:
    return (volume_sha256(a), a.name, a.modality, a.unit) == (volume_sha256(b), b.name, b.modality, b.unit)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float32, np.float64])
def test_a_nibabel_image_is_the_scan_that_its_file_holds(dtype: Any, tmp_path: Path) -> None:
    image = nib.Nifti1Image(voxels(dtype), oblique())
    nib.save(image, tmp_path / "a.nii.gz")
    assert same(held(image), read_image(tmp_path / "a.nii.gz"))
    assert same(held(nib.load(tmp_path / "a.nii.gz")), read_image(tmp_path / "a.nii.gz"))


def test_whole_numbers_of_eight_bytes_and_the_second_nifti_are_read_alike(tmp_path: Path) -> None:
    for name, image in {
        "long.nii": nib.Nifti1Image(voxels(np.int64), oblique(), dtype=np.int64),
        "second.nii": nib.Nifti2Image(voxels(), oblique()),
    }.items():
        nib.save(image, tmp_path / name)
        assert same(held(image), read_image(tmp_path / name))


def test_a_rescaled_file_opened_by_nibabel_is_rescaled_as_we_do_it(tmp_path: Path) -> None:
    image = nib.Nifti1Image(voxels(np.float64) / 3, oblique())
    image.set_data_dtype(np.int16)
    nib.save(image, tmp_path / "scaled.nii")
    opened = nib.load(tmp_path / "scaled.nii")
    assert opened.dataobj.slope != 1
    assert same(held(opened), read_image(tmp_path / "scaled.nii"))


@given(st.tuples(*(st.floats(-180, 180) for _ in range(3))))
def test_any_orientation_survives(angles: tuple[float, float, float]) -> None:
    affine = oblique(angles)
    volume = held(nib.Nifti1Image(voxels(), affine))
    z, y, x = 2, 3, 4
    ras = (affine @ (x, y, z, 1.0))[:3]
    assert volume.geometry.to_lps_mm((float(z), float(y), float(x))) == pytest.approx(
        (-ras[0], -ras[1], ras[2]), abs=1e-4
    )
    assert volume.array[z, y, x] == voxels()[x, y, z]


@pytest.mark.parametrize("suffix", ["nrrd", "mha"])
def test_a_simpleitk_image_is_the_scan_that_its_file_holds(suffix: str, tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(voxels())
    image.SetSpacing((0.7, 0.8, 2.5))
    image.SetOrigin((1.0, 2.0, 3.3))
    image.SetDirection(Rotation.from_euler("z", 90, degrees=True).as_matrix().round().ravel().tolist())
    sitk.WriteImage(image, str(tmp_path / f"a.{suffix}"))
    assert same(held(image), read_image(tmp_path / f"a.{suffix}"))


def test_an_array_with_its_grid_is_the_simpleitk_image_of_it() -> None:
    image = sitk.GetImageFromArray(voxels())
    image.SetSpacing((0.7, 0.8, 2.5))
    image.SetOrigin((1.0, 2.0, 3.3))
    assert same(held(image), held(voxels(), spacing_mm=(2.5, 0.8, 0.7), origin_lps_mm=(1.0, 2.0, 3.3)))


def test_an_array_without_orientation_lies_along_the_patients_axes() -> None:
    geometry = held(voxels(), spacing_mm=(2.5, 0.8, 0.7)).geometry
    assert geometry.origin_lps_mm == (0.0, 0.0, 0.0)
    assert geometry.direction == (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


def test_one_slice_has_two_spacings() -> None:
    volume = held(voxels(shape=(6, 7)), "CT", spacing_mm=(0.8, 0.7))
    assert volume.geometry.shape == (1, 6, 7)
    assert volume.geometry.spacing_mm == (1.0, 0.8, 0.7)
    assert volume.geometry.known_spacing == "yx"


def test_what_the_caller_does_to_the_array_later_changes_nothing() -> None:
    array = voxels()
    volume = held(array, spacing_mm=(1.0, 1.0, 1.0))
    array[0] = 0
    assert volume.name == held(voxels(), spacing_mm=(1.0, 1.0, 1.0)).name
    assert (volume.array == voxels()).all()
    image = nib.Nifti1Image(array, np.eye(4))
    before = image.header.copy()
    held(image)
    array[0] = 1
    assert image.header == before


@pytest.mark.parametrize(
    ("scan", "grid", "words"),
    [
        (voxels(), {}, "needs spacing_mm in the order"),
        (voxels(), {"spacing_mm": (1.0, 1.0)}, "2 numbers were given"),
        (voxels(), {"spacing_mm": (1.0, 0.0, 1.0)}, "each must be above zero"),
        (voxels(shape=(2, 6, 7, 5)), {"spacing_mm": (1.0, 1.0, 1.0)}, "4 dimensions"),
        (voxels(complex), {"spacing_mm": (1.0, 1.0, 1.0)}, "one real grey value"),
        (np.full((3, 4, 5), np.nan), {"spacing_mm": (1.0, 1.0, 1.0)}, "NaN or infinite"),
        (np.zeros((3, 4, 5)), {"spacing_mm": (1.0, 1.0, 1.0)}, "constant"),
        (voxels(), {"spacing_mm": (1.0, 1.0, 1.0), "direction": (1.0, 0.0)}, "3 × 3 numbers, got 2"),
        (voxels(), {"spacing_mm": (1.0, 1.0, 1.0), "origin_lps_mm": (1.0,)}, "three numbers"),
        (voxels(), {"spacing_mm": (1.0, 1.0, 1.0), "direction": np.ones(9)}, "not orthonormal"),
        (nib.Nifti1Image(voxels(), np.eye(4)), {"spacing_mm": (1.0, 1.0, 1.0)}, "states its own grid"),
        (nib.Nifti1Image(voxels(shape=(4, 5, 6, 2)), np.eye(4)), {}, "4D"),
        (sitk.Image([4, 5, 6], sitk.sitkVectorUInt8, 3), {}, "3 values per voxel"),
        (object(), {}, "one real grey value"),
    ],
)
def test_what_is_no_scan_is_an_error_that_says_so(scan: Any, grid: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        held(scan, **grid)
