"""Small files that honestly hold more than fits into memory are refused before anything is unpacked."""

from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from helpers import dicom_files
from helpers.broken_inputs import body, good_image, save_nifti
from PIL import Image
from pydicom.uid import DeflatedExplicitVRLittleEndian

from r2seg_agent.errors import InputError
from r2seg_agent.imaging import memory
from r2seg_agent.imaging.masks import read_label_map
from r2seg_agent.imaging.read import read_image
from r2seg_agent.imaging.write import write_dicom_seg

SHAPE = (32, 512, 512)
"""16 MB of zeros as int16: a few kB when packed."""


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda: 1_000_000)


def itk(path: Path) -> Path:
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.zeros(SHAPE, np.int16)), str(path), True)
    return path


def large(folder: Path, name: str) -> Path:
    """A file, or a DICOM folder, whose voxels take 16 MB."""
    path = folder / name
    zeros = np.zeros(SHAPE, np.int16)
    if name.endswith((".nii", ".nii.gz")):
        return save_nifti(path, zeros)
    if name.endswith((".nrrd", ".mha", ".mhd")):
        return itk(path)
    if name == "series":
        dicom_files.write_series(path, zeros)
        return path
    if name == "deflated.dcm":
        ds = dicom_files.dicom_slice(np.zeros((1024, 1024), np.uint16), (0, 0, 0))
        ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        ds.save_as(path)
        return path
    Image.fromarray(np.zeros((4096, 4096), np.uint8)).save(path)
    return path


NAMES = ["a.nii", "a.nii.gz", "a.nrrd", "a.mha", "a.mhd", "series", "a.png", "a.tif"]


@pytest.mark.parametrize("name", NAMES)
def test_voxels_that_do_not_fit_are_refused_before_they_are_unpacked(
    tmp_path: Path, name: str, little_memory: None
) -> None:
    path = large(tmp_path, name)
    tracemalloc.start()
    with pytest.raises(InputError, match=r"does not fit into memory.* GB are free"):
        read_image(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4_000_000


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nrrd", "a.mha", "a.png"])
def test_nor_are_masks(tmp_path: Path, name: str, little_memory: None) -> None:
    geometry = read_image(good_image(tmp_path)).geometry
    with pytest.raises(InputError, match="does not fit into memory"):
        read_label_map(large(tmp_path, name), geometry)


def test_a_dicom_segmentation_is_not_unpacked_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dicom_files.write_series(tmp_path / "s", body((6, 200, 200)))
    volume = read_image(tmp_path / "s")
    write_dicom_seg(tmp_path / "seg.dcm", (volume.array > 0).astype(np.uint8), {1: "liver"}, tmp_path / "s")
    monkeypatch.setattr(memory, "free_bytes", lambda: 100_000)
    with pytest.raises(InputError, match="does not fit into memory"):
        read_label_map(tmp_path / "seg.dcm", volume.geometry)


def test_a_deflated_dicom_file_is_read_and_a_bomb_is_not_inflated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = large(tmp_path, "deflated.dcm")
    assert path.stat().st_size < 10_000
    assert pydicom.dcmread(path).Rows == 1024
    with pytest.raises(InputError, match="constant"):
        read_image(path)
    monkeypatch.setattr(memory, "free_bytes", lambda: 1_000_000)
    with pytest.raises(InputError, match="deflated DICOM file that does not fit into memory"):
        read_image(path)


def test_what_fits_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda: int(body().nbytes / memory.LARGEST_SHARE) + 1)
    assert read_image(good_image(tmp_path)).array.nbytes == body().nbytes


def test_the_free_memory_is_that_of_the_container_where_it_has_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = memory.free_bytes()
    assert machine is not None
    assert machine > 10_000_000
    (tmp_path / "max").write_text("5000000\n")
    (tmp_path / "current").write_text("2000000\n")
    monkeypatch.setattr(memory, "_CGROUPS", ((tmp_path / "max", tmp_path / "current"),))
    assert memory.free_bytes() == 3_000_000
    (tmp_path / "max").write_text("max\n")
    assert (memory.free_bytes() or 0) > 10_000_000
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "not there")
    assert (memory.free_bytes() or 0) > 10_000_000


def test_names_in_a_header_are_looked_for_in_its_first_bytes_only(tmp_path: Path) -> None:
    """An extension that claims 300 MB, which pack into 300 kB."""
    from r2seg_agent.reason.anchors.label_names import names_in_file

    raw = bytearray(save_nifti(tmp_path / "a.nii", body()).read_bytes()[:352])
    raw[108:112] = np.float32(3e8).tobytes()
    raw[348] = 1
    claim = np.array([3e8 // 16 * 16, 0], dtype="<i4").tobytes()
    (tmp_path / "bomb.nii.gz").write_bytes(gzip.compress(bytes(raw) + claim + bytes(300_000_000), 1))
    tracemalloc.start()
    assert names_in_file(tmp_path / "bomb.nii.gz") == ()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50_000_000
