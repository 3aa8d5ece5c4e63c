"""Masks go out on exactly the geometry they came from, as the same bytes, whole or not at all."""

from __future__ import annotations

import time
from pathlib import Path

import highdicom
import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK
from helpers import dicom_files
from helpers.broken_inputs import body
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.spatial.transform import Rotation

from r2seg_agent.errors import InputError, RunFailedError
from r2seg_agent.imaging.geometry import Geometry
from r2seg_agent.imaging.masks import read_label_map
from r2seg_agent.imaging.read import read_image
from r2seg_agent.imaging.volume import Volume
from r2seg_agent.imaging.write import atomic, label_map_suffix, write_dicom_seg, write_label_map, write_volume

VOLUME_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".mha")


@st.composite
def geometries(draw: st.DrawFn) -> Geometry:
    """Any grid a scanner could make: oblique, left-handed, anisotropic, far from the origin."""
    angles = draw(st.tuples(*[st.floats(-180, 180)] * 3))
    matrix = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    if draw(st.booleans()):
        matrix[:, 2] *= -1
    d = matrix.ravel().tolist()
    return Geometry(
        shape=draw(st.tuples(st.integers(1, 5), st.integers(2, 6), st.integers(2, 7))),
        spacing_mm=draw(st.tuples(*[st.floats(0.05, 12.0)] * 3)),
        origin_lps_mm=draw(st.tuples(*[st.floats(-2000, 2000)] * 3)),
        direction=(d[0], d[1], d[2], d[3], d[4], d[5], d[6], d[7], d[8]),
    )


def labels_for(geometry: Geometry, highest: int = 3) -> np.ndarray:
    labels = np.random.default_rng(0).integers(0, highest + 1, geometry.shape)
    labels[0, 0, 0] = highest
    return labels


@pytest.mark.parametrize("suffix", VOLUME_SUFFIXES)
@settings(max_examples=60)
@given(geometry=geometries(), highest=st.sampled_from([1, 200, 300]))
def test_round_trip_over_random_geometries(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, geometry: Geometry, highest: int
) -> None:
    path = tmp_path_factory.mktemp("round") / f"mask{suffix}"
    labels = labels_for(geometry, highest)
    write_label_map(path, labels, geometry)
    back = read_label_map(path, geometry)
    np.testing.assert_array_equal(back, labels)
    assert back.dtype == (np.uint8 if highest < 256 else np.uint16)
    far = np.array([[0, 0, 0], [300, 0, 0], [0, 400, 0], [0, 0, 500.0]])  # small headers err far from the origin
    other = SimpleITK.ReadImage(str(path))  # what other programs see
    seen = [other.TransformContinuousIndexToPhysicalPoint(tuple(c[::-1])) for c in far]
    np.testing.assert_allclose(geometry.to_lps_mm(far), seen, atol=5e-3)


@settings(max_examples=60)
@given(geometry=geometries())
def test_nifti_affine_is_ras_as_nibabel_sees_it(tmp_path_factory: pytest.TempPathFactory, geometry: Geometry) -> None:
    path = tmp_path_factory.mktemp("affine") / "mask.nii.gz"
    write_label_map(path, labels_for(geometry), geometry)
    image = nib.load(path)
    corner = np.array(geometry.shape, dtype=np.float64) - 1
    stored = [image.affine, image.get_sform()]
    if image.header["qform_code"] > 0:  # unset where float32 cannot hold the rotation
        stored.append(image.get_qform())
    for affine in stored:
        ras = affine @ np.append(corner[::-1], 1)
        np.testing.assert_allclose(ras[:3] * (-1, -1, 1), geometry.to_lps_mm(corner), atol=1e-3)
    assert image.header.get_xyzt_units()[0] == "mm"
    np.testing.assert_array_equal(np.asarray(image.dataobj).T, labels_for(geometry))


@settings(max_examples=40)
@given(geometry=geometries())
def test_scans_round_trip_with_their_number_type(tmp_path_factory: pytest.TempPathFactory, geometry: Geometry) -> None:
    array = np.random.default_rng(1).integers(-1000, 1000, geometry.shape).astype(np.int16)
    folder = tmp_path_factory.mktemp("scan")
    for suffix in VOLUME_SUFFIXES:
        write_volume(folder / f"scan{suffix}", Volume(array, geometry, "CT", "HU"))
        back = read_image(folder / f"scan{suffix}", modality="CT")
        np.testing.assert_array_equal(back.array, array)
        assert back.array.dtype == np.int16
        np.testing.assert_allclose(back.geometry.spacing_mm, geometry.spacing_mm, rtol=1e-5)


@pytest.mark.parametrize("suffix", [*VOLUME_SUFFIXES, ".seg.nrrd", ".png", ".tif"])
def test_the_same_labels_give_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    geometry = Geometry(shape=(1, 40, 50), spacing_mm=(1, 1, 1), known_spacing="none")
    labels = labels_for(geometry)
    write_label_map(tmp_path / f"a{suffix}", labels, geometry, names={1: "lesion 1", 2: "lesion 2"})
    time.sleep(1.1 if suffix == ".nii.gz" else 0)  # the gzip header counts seconds
    write_label_map(tmp_path / f"b{suffix}", labels.astype(np.uint16), geometry, names={2: "lesion 2", 1: "lesion 1"})
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"a{suffix}", f"b{suffix}"]


def test_names_reach_totalsegmentator_and_slicer(tmp_path: Path) -> None:
    geometry = Geometry(shape=(2, 4, 5), spacing_mm=(1, 1, 1))
    names = {1: "liver lesion <1> & more", 2: "kidney"}
    for suffix in (".nii.gz", ".seg.nrrd"):
        write_label_map(tmp_path / f"m{suffix}", labels_for(geometry, 2), geometry, names=names)
    from totalsegmentator.nifti_ext_header import load_multilabel_nifti

    assert load_multilabel_nifti(tmp_path / "m.nii.gz")[1] == names
    slicer = SimpleITK.ReadImage(str(tmp_path / "m.seg.nrrd"))
    assert slicer.GetMetaData("Segment1_Name") == "kidney"
    assert slicer.GetMetaData("Segment1_LabelValue") == "2"


@pytest.mark.parametrize("highest", [3, 300])
def test_pictures_hold_labels_as_they_are(tmp_path: Path, highest: int) -> None:
    geometry = Geometry(shape=(1, 40, 50), spacing_mm=(1, 1, 1), known_spacing="none")
    labels = labels_for(geometry, highest)
    for suffix in (".png", ".tif"):
        write_label_map(tmp_path / f"m{suffix}", labels, geometry)
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / f"m{suffix}")), labels[0])
        np.testing.assert_array_equal(read_label_map(tmp_path / f"m{suffix}", geometry), labels)


def test_boolean_masks_and_new_folders(tmp_path: Path) -> None:
    geometry = Geometry(shape=(2, 4, 5), spacing_mm=(1, 1, 1))
    mask = labels_for(geometry, 1).astype(bool)
    write_label_map(tmp_path / "new" / "folder" / "m.nrrd", mask, geometry)
    np.testing.assert_array_equal(read_label_map(tmp_path / "new" / "folder" / "m.nrrd", geometry), mask)


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    geometry = Geometry(shape=(2, 4, 5), spacing_mm=(1, 1, 1))
    labels = labels_for(geometry)
    with pytest.raises(InputError, match=r"suffix `\.jpg`"):
        write_label_map(tmp_path / "m.jpg", labels, geometry)
    with pytest.raises(InputError, match="2 slices"):
        write_label_map(tmp_path / "m.png", labels, geometry)
    with pytest.raises(InputError, match=r"suffix `\.png`"):
        write_volume(tmp_path / "m.png", Volume(labels, geometry, "CT", "HU"))
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_label_map(tmp_path / "file" / "m.nii", labels, geometry)
    for wrong in (labels[:1], labels - 5, labels * 0.5, labels * 100_000):
        with pytest.raises(ValueError, match="labels"):
            write_label_map(tmp_path / "m.nii", wrong, geometry)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "m.nii"
    path.write_bytes(b"old")

    def write_half() -> None:
        with atomic(path) as temporary:
            temporary.write_bytes(b"half")
            raise OSError(28, "No space left on device")

    with pytest.raises(RunFailedError, match="No space left"):
        write_half()
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["m.nii"]


def test_suffixes_by_source() -> None:
    assert label_map_suffix("nrrd") == ".nrrd"
    assert label_map_suffix("dicom") == ".nii.gz"
    assert label_map_suffix("picture") == ".png"


def seg_files(tmp_path: Path) -> tuple[Path, np.ndarray, Volume]:
    dicom_files.write_series(tmp_path / "s", body(), orientation=(0.96, 0.28, 0.0, -0.28, 0.96, 0.0))
    volume = read_image(tmp_path / "s")
    labels = np.zeros(volume.array.shape, np.uint8)
    labels[1:3, 5:9, 6:10] = 1
    labels[4, 12:15, 3:8] = 4
    return tmp_path / "s", labels, volume


def test_dicom_seg_round_trip(tmp_path: Path) -> None:
    series, labels, volume = seg_files(tmp_path)
    write_dicom_seg(tmp_path / "seg.dcm", labels, {1: "liver lesion", 4: "kidney lesion"}, series)
    back = read_label_map(tmp_path / "seg.dcm", volume.geometry)
    np.testing.assert_array_equal(back, np.where(labels == 4, 2, labels))  # segments are numbered from 1
    seg = highdicom.seg.segread(tmp_path / "seg.dcm")
    assert [d.SegmentLabel for d in seg.SegmentSequence] == ["liver lesion", "kidney lesion"]
    assert seg.NumberOfFrames == 3  # only the slices with findings are stored


def test_dicom_seg_is_reproducible_and_belongs_to_its_patient_and_nobody_else(tmp_path: Path) -> None:
    series, labels, _ = seg_files(tmp_path)
    write_dicom_seg(tmp_path / "a.dcm", labels, {1: "one"}, series)
    time.sleep(1.1)  # DICOM times count seconds
    write_dicom_seg(tmp_path / "b.dcm", labels, {1: "one"}, series)
    assert (tmp_path / "a.dcm").read_bytes() == (tmp_path / "b.dcm").read_bytes()
    ds = pydicom.dcmread(tmp_path / "a.dcm")
    assert (str(ds.PatientName), ds.PatientID) == (dicom_files.PATIENT_NAME, dicom_files.PATIENT_ID)
    assert ds.StudyInstanceUID == dicom_files.STUDY
    assert ds.FrameOfReferenceUID == dicom_files.FRAME_OF_REFERENCE
    assert ds.SeriesInstanceUID != dicom_files.series_uid(1)


def test_dicom_seg_refuses_nothing_and_foreign_sources(tmp_path: Path) -> None:
    series, labels, _ = seg_files(tmp_path)
    with pytest.raises(InputError, match="at least one label"):
        write_dicom_seg(tmp_path / "seg.dcm", labels * 0, {}, series)
    with pytest.raises(InputError, match="No DICOM segmentation can refer"):
        write_dicom_seg(tmp_path / "seg.dcm", labels[:2], {1: "one"}, series)
