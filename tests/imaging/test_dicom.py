"""DICOM: series folders, single files, enhanced multi-frame, HU, order, choice of a series, and no patient data."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from helpers import dicom_files
from helpers.broken_inputs import body
from PIL import Image
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence as DicomSequence

from r2seg_agent.errors import InputError
from r2seg_agent.imaging.colour import colours_of, grey_of
from r2seg_agent.imaging.dicom_header import read_single
from r2seg_agent.imaging.masks import grid_difference, read_label_map
from r2seg_agent.imaging.read import list_series, read_image, series_files
from r2seg_agent.imaging.write import write_dicom_seg

OBLIQUE = (0.96, 0.28, 0.0, 0.0, 0.0, -1.0)


def test_a_series_is_sorted_by_position_and_comes_in_hu(tmp_path: Path) -> None:
    dicom_files.write_series(tmp_path / "s", body())
    volume = read_image(tmp_path / "s")
    np.testing.assert_array_equal(volume.array, body())
    assert volume.array.dtype == np.int16
    assert (volume.modality, volume.unit, volume.source_format) == ("CT", "HU", "dicom")
    assert volume.geometry.spacing_mm == pytest.approx((2.5, 0.8, 0.7))
    assert volume.geometry.origin_lps_mm == pytest.approx((-30, -20, 100))


@pytest.mark.parametrize("orientation", [(1, 0, 0, 0, 1, 0), OBLIQUE, (-1, 0, 0, 0, 1, 0)])
def test_geometry_agrees_with_itk(tmp_path: Path, orientation: tuple[float, ...]) -> None:
    dicom_files.write_series(tmp_path / "s", body(), orientation=orientation)
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "s")))
    oracle = reader.Execute()
    volume = read_image(tmp_path / "s")
    np.testing.assert_array_equal(volume.array, SimpleITK.GetArrayFromImage(oracle))
    np.testing.assert_allclose(volume.geometry.origin_lps_mm, oracle.GetOrigin(), atol=1e-5)
    np.testing.assert_allclose(volume.geometry.direction, oracle.GetDirection(), atol=1e-5)
    np.testing.assert_allclose(volume.geometry.spacing_mm[::-1], oracle.GetSpacing(), atol=1e-5)


def test_nested_folders_other_objects_and_junk_are_skipped_by_name(tmp_path: Path) -> None:
    dicom_files.write_series(tmp_path / "study" / "deep" / "s", body())
    square = np.array([[0, 0, 0], [5, 0, 0], [5, 5, 0]], dtype=np.float64)
    dicom_files.rtstruct({"GTV": [square]}).save_as(tmp_path / "study" / "rs.dcm")
    (tmp_path / "study" / "readme.txt").write_text("hello")
    (tmp_path / "study" / ".hidden").write_text("hello")
    notes: list[str] = []
    volume = read_image(tmp_path / "study", note=notes.append)
    assert volume.array.shape == body().shape
    assert notes == ["Skipped in the DICOM folder: 1 × a file that is not DICOM, 1 × an RT structure set (contours)."]


def test_a_series_is_chosen_by_key_or_number(tmp_path: Path) -> None:
    dicom_files.write_series(tmp_path / "a", body(), series=7, modality="MR")
    dicom_files.write_series(tmp_path / "b", body()[:3] + 1, series=3)
    first, second = list_series(tmp_path)
    assert (first.number, first.modality, first.n_slices, first.index) == (3, "CT", 3, 1)
    assert (second.number, second.modality, second.shape) == (7, "MR", body().shape)
    assert second.spacing_mm == pytest.approx((2.5, 0.8, 0.7))
    for choice in (first.key, "1", f" {first.key.upper()} "):
        np.testing.assert_array_equal(read_image(tmp_path, series=choice).array, body()[:3] + 1)
    assert read_image(tmp_path, series="2").modality == "MR"
    with pytest.raises(InputError, match="no series `9`") as caught:
        read_image(tmp_path, series="9")
    assert first.key in str(caught.value)


def test_lists_of_series_hold_no_patient_data(tmp_path: Path) -> None:
    dicom_files.write_series(tmp_path, body())
    text = "".join(info.describe() + info.model_dump_json() for info in list_series(tmp_path))
    for secret in ("Doe", "MRN", "1970", dicom_files.series_uid(1)):
        assert secret not in text


@pytest.mark.parametrize("name", ["slice.dcm", "slice", "slice.00012"])
def test_a_single_file_is_one_slice_whatever_its_name(tmp_path: Path, name: str) -> None:
    dicom_files.dicom_slice((body()[2] + 1024).astype(np.uint16), (1, 2, 3)).save_as(tmp_path / name)
    notes: list[str] = []
    volume = read_image(tmp_path / name, note=notes.append)
    np.testing.assert_array_equal(volume.array[0], body()[2])
    assert volume.geometry.spacing_mm == pytest.approx((2.5, 0.8, 0.7))
    assert volume.geometry.origin_lps_mm == (1, 2, 3)


def test_a_radiograph_without_position_or_spacing(tmp_path: Path) -> None:
    ds = dicom_files.dicom_slice((body()[2] + 1024).astype(np.uint16), (0, 0, 0), modality="DX", slope=None)
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        delattr(ds, name)
    ds.PhotometricInterpretation = "MONOCHROME1"
    ds.save_as(tmp_path / "a.dcm")
    volume = read_image(tmp_path / "a.dcm")
    assert (volume.modality, volume.unit, volume.geometry.known_spacing) == ("XR", "arbitrary", "none")
    np.testing.assert_array_equal(volume.array[0], 4095 - (body()[2] + 1024))  # MONOCHROME1: low is bright
    ds.ImagerPixelSpacing = [0.2, 0.1]
    ds.save_as(tmp_path / "b.dcm")
    assert read_image(tmp_path / "b.dcm").geometry.spacing_mm == (1.0, 0.2, 0.1)
    assert read_image(tmp_path / "b.dcm").geometry.known_spacing == "yx"


def monochrome1(modality: str, bits: int = 12, slope: float | None = 1) -> pydicom.FileDataset:
    stored = (body()[2] + 1024).astype(np.uint16) >> (12 - bits)
    ds = dicom_files.dicom_slice(stored, (0, 0, 0), modality=modality, bits_stored=bits, slope=slope)
    ds.PhotometricInterpretation = "MONOCHROME1"
    return ds


@pytest.mark.parametrize("modality", ["CT", "MR", "PT", "NM"])
def test_quantities_are_not_inverted_however_viewers_show_them(tmp_path: Path, modality: str) -> None:
    """scifio #311: a lesion of +44 HU was reported as -45 HU."""
    monochrome1(modality).save_as(tmp_path / "a.dcm")
    np.testing.assert_array_equal(read_image(tmp_path / "a.dcm").array[0], body()[2])


@pytest.mark.parametrize(("modality", "bits", "slope"), [("DX", 12, 1), ("US", 12, None), ("CT", 8, None)])
def test_values_for_display_become_brighter_is_larger(
    tmp_path: Path, modality: str, bits: int, slope: float | None
) -> None:
    monochrome1(modality, bits, slope).save_as(tmp_path / "a.dcm")
    stored = (body()[2] + 1024) >> (12 - bits)
    expected = (1 << bits) - 1 - stored - (1024 if slope else 0)
    np.testing.assert_array_equal(read_image(tmp_path / "a.dcm").array[0], expected)


def test_a_series_with_a_rescale_slope_in_some_slices_only_is_refused(tmp_path: Path) -> None:
    paths = dicom_files.write_series(tmp_path, body())
    ds = pydicom.dcmread(paths[3])
    del ds.RescaleSlope, ds.RescaleIntercept
    ds.save_as(paths[3])
    with pytest.raises(InputError, match="rescale slope in 5 of 6 slices only"):
        read_image(tmp_path)


def test_hu_behind_a_look_up_table_are_refused(tmp_path: Path) -> None:
    ds = dicom_files.dicom_slice((body()[2] + 1024).astype(np.uint16), (0, 0, 0), slope=None)
    table = Dataset()
    table.LUTDescriptor, table.ModalityLUTType, table.LUTData = [4096, 0, 16], "HU", [7] * 4096
    table["LUTDescriptor"].VR = table["LUTData"].VR = "US"
    ds.ModalityLUTSequence = DicomSequence([table])
    ds.save_as(tmp_path / "a.dcm")
    with pytest.raises(InputError, match="look-up table"):
        read_image(tmp_path / "a.dcm")


def test_the_sign_is_the_highest_stored_bit(tmp_path: Path) -> None:
    stored = np.array([[0x0FFF, 0x0001], [0x0800, 0x07FF]], dtype=np.int16)  # 12 bits: -1, 1, -2048, 2047
    ds = dicom_files.dicom_slice(stored, (0, 0, 0), slope=1, intercept=0)
    ds.save_as(tmp_path / "a.dcm")
    np.testing.assert_array_equal(read_image(tmp_path / "a.dcm").array[0], [[-1, 1], [-2048, 2047]])


def test_slopes_may_differ_by_slice_as_in_pet(tmp_path: Path) -> None:
    stored = (np.abs(body()) + 1).astype(np.uint16)
    for z, plane in enumerate(stored):
        dicom_files.dicom_slice(plane, (0, 0, 3 * z), z=z, slope=0.5 + z, intercept=0, modality="PT").save_as(
            tmp_path / str(z)
        )
    volume = read_image(tmp_path)
    assert (volume.modality, volume.unit, volume.array.dtype) == ("PT", "arbitrary", np.float32)
    np.testing.assert_allclose(volume.array, stored * (0.5 + np.arange(6))[:, None, None], rtol=1e-6)


def test_positions_rounded_to_a_tenth_of_a_millimetre_are_one_grid(tmp_path: Path) -> None:
    for z, plane in enumerate(body()):
        stored = (plane + 1024).astype(np.uint16)
        dicom_files.dicom_slice(stored, (0, 0, round(0.625 * z, 1)), z=z).save_as(tmp_path / str(z))
    assert read_image(tmp_path).geometry.spacing_mm[0] == pytest.approx(3.1 / 5)


def test_spacings_and_directions_that_each_file_rounds_for_itself_are_one_series(tmp_path: Path) -> None:
    """Comparing rounded values took 0.70314 and 0.70316 for different spacings, 0.00049 and 0.00051 for directions."""
    for z, plane in enumerate(body()):
        small = 0.00049 if z % 2 else 0.00051
        spacing = (0.8, 0.70314 if z % 2 else 0.70316)
        dicom_files.dicom_slice(
            (plane + 1024).astype(np.uint16),
            (0, 0, 2.5 * z),
            z=z,
            pixel_spacing=spacing,
            orientation=(1, small, 0, -small, 1, 0),
        ).save_as(tmp_path / str(z))
    np.testing.assert_array_equal(read_image(tmp_path).array, body())


def with_text(path: Path, name: str, text: str) -> None:
    """Overwrite a header field by any text, as sloppy exporters do."""
    ds = pydicom.dcmread(path)
    tag = pydicom.datadict.tag_for_keyword(name)
    raw = text.encode() + b" " * (len(text) % 2)
    ds[name] = RawDataElement(pydicom.tag.Tag(tag), ds[name].VR, len(raw), raw, 0, False, True)
    ds.save_as(path)


OPTIONAL = ["SliceThickness", "SeriesNumber", "InstanceNumber", "NumberOfFrames", "ImageType"]


@pytest.mark.parametrize("name", OPTIONAL)
@pytest.mark.parametrize("text", ["4,0", "abc", "nan", "1\\2", ""])
@pytest.mark.parametrize("share", ["some", "all"])
def test_an_optional_field_is_no_reason_to_drop_a_slice(tmp_path: Path, name: str, text: str, share: str) -> None:
    """fo-dicom #1296: `SliceThickness` 4,0 in the last files, and the others alone were searched."""
    paths = dicom_files.write_series(tmp_path, body())
    for path in paths if share == "all" else paths[3:]:
        ds = pydicom.dcmread(path)
        ds.NumberOfFrames = 1
        ds.save_as(path)
        if (name, text) != ("NumberOfFrames", "4,0"):  # four frames are four frames
            with_text(path, name, text)
    np.testing.assert_array_equal(read_image(tmp_path).array, body())


def test_decimal_commas_are_understood_in_every_field(tmp_path: Path) -> None:
    paths = dicom_files.write_series(tmp_path, body())
    for z, path in enumerate(paths):
        with_text(path, "PixelSpacing", "0,8\\0,7")
        with_text(path, "ImagePositionPatient", f"-30\\-20,0\\{100 + 2.5 * z}".replace(".", ","))
        with_text(path, "SliceThickness", "2,5")
    volume = read_image(tmp_path)
    assert volume.geometry.spacing_mm == pytest.approx((2.5, 0.8, 0.7))
    np.testing.assert_array_equal(volume.array, body())
    assert read_image(paths[0]).geometry.spacing_mm == pytest.approx((2.5, 0.8, 0.7))


@pytest.mark.parametrize("name", ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"])
def test_a_slice_without_a_needed_field_stops_the_run_and_is_named(tmp_path: Path, name: str) -> None:
    paths = dicom_files.write_series(tmp_path, body())
    with_text(paths[4], name, "abc")
    with pytest.raises(InputError, match=paths[4].name):
        read_image(tmp_path)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut_in_the_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:600])


def cut_before_the_series(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:330])


def cut_in_the_pixels(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def dead_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("../annex/object")


def error_page(path: Path) -> None:
    path.write_text("<html>404</html>")


def no_rows(path: Path) -> None:
    ds = pydicom.dcmread(path)
    del ds.Rows
    ds.save_as(path)


DAMAGES = [empty, cut_in_the_header, cut_before_the_series, cut_in_the_pixels, dead_link, error_page, no_rows]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_file_of_the_series_that_cannot_be_used_stops_the_run_and_is_named(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    """The last file, so that no gap shows it."""
    last = dicom_files.write_series(tmp_path, body())[-1]
    named = [path.rename(path.with_suffix(".dcm")) for path in tmp_path.iterdir()]
    damage(last.with_suffix(".dcm"))
    with pytest.raises(InputError, match=f"{last.name}.dcm"):
        read_image(tmp_path)
    with pytest.raises(InputError, match=f"{last.name}.dcm"):
        read_image(tmp_path, series=pydicom_key(named[0]))


def pydicom_key(path: Path) -> str:
    return read_single(path).key


def test_what_is_no_slice_stops_nothing(tmp_path: Path) -> None:
    dicom_files.write_series(tmp_path / "s", body())
    for name in ("lock.txt", "Thumbs.db", "viewer.xml"):
        (tmp_path / "s" / name).write_bytes(b"")
    (tmp_path / "s" / "README").write_text("hello")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "empty").write_bytes(b"")
    np.testing.assert_array_equal(read_image(tmp_path).array, body())


def test_a_pipe_in_a_dicom_folder_is_not_opened(tmp_path: Path) -> None:
    dicom_files.write_series(tmp_path, body())
    os.mkfifo(tmp_path / "pipe")
    os.mkfifo(tmp_path / "pipe.dcm")
    notes: list[str] = []
    np.testing.assert_array_equal(read_image(tmp_path, note=notes.append).array, body())
    assert notes == ["Skipped in the DICOM folder: 2 × a device or a pipe."]


def bare(ds: pydicom.FileDataset, path: Path, how: str) -> None:
    """Written as a data set alone, as old archives and some scanners do."""
    if how == "meta header without preamble":
        whole = io.BytesIO()
        ds.save_as(whole)
        path.write_bytes(whole.getvalue()[132:])
        return
    implicit, little = how == "implicit", how != "big endian"
    plain = Dataset()
    plain.update({element.tag: element for element in ds if element.tag.group != 2})
    if not little and "PixelData" in ds:
        plain.PixelData = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
    with path.open("wb") as file:
        raw = DicomIO(file)
        raw.is_implicit_VR, raw.is_little_endian = implicit, little
        write_dataset(raw, plain)


BARE = ["implicit", "explicit", "big endian", "meta header without preamble"]


@pytest.mark.parametrize("how", BARE)
@pytest.mark.parametrize("name", ["1.2.840.1.{}", "image.{:03d}", "{}", "{}.dcm", "scan.v{}"])
def test_dicom_without_preamble_or_meta_header(tmp_path: Path, how: str, name: str) -> None:
    """pydicom #860, hazen #433: headers were read, pixels were not; some names were not looked at."""
    for z, plane in enumerate(body()):
        ds = dicom_files.dicom_slice((plane + 1024).astype(np.uint16), (0, 0, 2.5 * z), z=z)
        bare(ds, tmp_path / name.format(z), how)
    np.testing.assert_array_equal(read_image(tmp_path).array, body())
    np.testing.assert_array_equal(read_image(tmp_path / name.format(2)).array[0], body()[2])


@pytest.mark.parametrize("how", BARE)
def test_every_kind_of_dicom_may_lack_its_preamble(tmp_path: Path, how: str) -> None:
    (tmp_path / "s").mkdir()
    for z, plane in enumerate(body()):
        stored = (plane + 1024).astype(np.uint16)
        bare(dicom_files.dicom_slice(stored, (-30, -20, 100 + 2.5 * z), z=z), tmp_path / "s" / f"{z}", how)
    volume = read_image(tmp_path / "s")
    if how != "big endian":  # highdicom refuses sources in big endian
        labels = (volume.array > 0).astype(np.uint8)
        write_dicom_seg(tmp_path / "seg.dcm", labels, {1: "liver"}, tmp_path / "s")
        bare(pydicom.dcmread(tmp_path / "seg.dcm"), tmp_path / "seg", how)
        np.testing.assert_array_equal(read_label_map(tmp_path / "seg", volume.geometry), labels)
    square = volume.geometry.to_lps_mm(np.array([[2, 3, 3], [2, 3, 9], [2, 9, 9], [2, 9, 3]], dtype=np.float64))
    bare(dicom_files.rtstruct({"GTV": [square]}), tmp_path / "rs", how)
    assert read_label_map(tmp_path / "rs", volume.geometry)[2].sum() == 36
    many = enhanced(body(), [3, 1, 0, 5, 4, 2])
    bare(many, tmp_path / "many", how)
    np.testing.assert_array_equal(read_image(tmp_path / "many").array, body())


def test_an_identical_copy_of_a_slice_is_left_out_and_said(tmp_path: Path) -> None:
    paths = dicom_files.write_series(tmp_path, body())
    (tmp_path / "copy of it").write_bytes(paths[2].read_bytes())
    notes: list[str] = []
    np.testing.assert_array_equal(read_image(tmp_path, note=notes.append).array, body())
    assert notes == ["1 file of the series repeat another's slice and were left out."]
    assert len(series_files(tmp_path)) == len(paths)


def test_the_example_of_a_series_is_no_localizer(tmp_path: Path) -> None:
    for path in dicom_files.write_series(tmp_path / "a", body()[:2], series=1):
        ds = pydicom.dcmread(path)
        ds.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        ds.save_as(path)
    dicom_files.write_series(tmp_path / "b", body()[:1], series=2)
    dicom_files.write_series(tmp_path / "c", body(), series=3)
    with pytest.raises(InputError, match="3 image series") as caught:
        read_image(tmp_path)
    assert caught.value.hint.endswith(f"--series {list_series(tmp_path)[2].key}.")


def test_a_mosaic_is_refused(tmp_path: Path) -> None:
    ds = dicom_files.dicom_slice((body()[2] + 1024).astype(np.uint16), (0, 0, 0), modality="MR")
    ds.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]
    ds.save_as(tmp_path / "a.dcm")
    with pytest.raises(InputError, match="mosaic"):
        read_image(tmp_path / "a.dcm")


def test_compressed_transfer_syntaxes(tmp_path: Path) -> None:
    ds = dicom_files.dicom_slice((body()[2] + 1024).astype(np.uint16), (0, 0, 0))
    ds.compress(pydicom.uid.RLELossless)
    ds.save_as(tmp_path / "rle.dcm")
    np.testing.assert_array_equal(read_image(tmp_path / "rle.dcm").array[0], body()[2])


def test_grey_stored_as_colour_is_grey_and_colour_is_no_mask(tmp_path: Path) -> None:
    grey = np.add.outer(np.arange(24), np.arange(20)).astype(np.uint8)
    ds = dicom_files.dicom_slice(grey.astype(np.uint16), (0, 0, 0), slope=None, modality="US")
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8, 8, 7
    ds.PixelData = np.dstack([grey] * 3).tobytes()
    ds.save_as(tmp_path / "grey.dcm")
    np.testing.assert_array_equal(read_image(tmp_path / "grey.dcm").array[0], grey)
    ds.PixelData = np.dstack([grey, grey, 255 - grey]).tobytes()
    ds.save_as(tmp_path / "colour.dcm")
    with pytest.raises(InputError, match="colour"):
        read_label_map(tmp_path / "colour.dcm", read_image(tmp_path / "colour.dcm").geometry)


@pytest.mark.parametrize("space", ["RGB", "YBR_FULL"])
def test_an_ultrasound_in_colour_is_grey_with_its_colours_beside(tmp_path: Path, space: str) -> None:
    grey = np.add.outer(np.arange(24), np.arange(20)).astype(np.uint8)
    rgb = np.dstack([grey, grey + 90, 200 - grey])
    ds = dicom_files.dicom_slice(grey.astype(np.uint16), (0, 0, 0), slope=None, modality="US")
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, space, 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8, 8, 7
    stored = rgb if space == "RGB" else np.asarray(Image.fromarray(rgb).convert("YCbCr"))
    ds.PixelData = stored.tobytes()
    ds.save_as(tmp_path / "colour.dcm")
    for path in (tmp_path / "colour.dcm", tmp_path):
        volume = read_image(path)
        colours = colours_of(volume)
        assert colours is not None
        np.testing.assert_allclose(colours[0].astype(int), rgb, atol=2)
        np.testing.assert_array_equal(volume.array, grey_of(colours))
        assert (volume.modality, volume.unit) == ("US", "arbitrary")


def enhanced(hu: np.ndarray, order: list[int]) -> pydicom.FileDataset:
    """An enhanced multi-frame CT: frames in any order, geometry in functional groups."""
    stored = (hu[order] + 1024).astype(np.uint16)
    ds = dicom_files.dicom_slice(stored[0], (0, 0, 0), slope=None)
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
        delattr(ds, name)
    ds.NumberOfFrames, ds.PixelData = len(order), stored.tobytes()

    def item(**fields: object) -> DicomSequence:
        inner = Dataset()
        for name, value in fields.items():
            setattr(inner, name, value)
        return DicomSequence([inner])

    shared = Dataset()
    shared.PlaneOrientationSequence = item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    shared.PixelMeasuresSequence = item(PixelSpacing=[0.8, 0.7], SliceThickness=2.5)
    shared.PixelValueTransformationSequence = item(RescaleSlope=1, RescaleIntercept=-1024)
    ds.SharedFunctionalGroupsSequence = DicomSequence([shared])
    ds.PerFrameFunctionalGroupsSequence = DicomSequence()
    for z in order:
        frame = Dataset()
        frame.PlanePositionSequence = item(ImagePositionPatient=[-30, -20, 100 + 2.5 * z])
        ds.PerFrameFunctionalGroupsSequence.append(frame)
    return ds


def test_an_enhanced_multi_frame_file_is_a_volume(tmp_path: Path) -> None:
    enhanced(body(), [3, 1, 0, 5, 4, 2]).save_as(tmp_path / "a.dcm")
    dicom_files.write_series(tmp_path / "s", body())
    volume = read_image(tmp_path / "a.dcm")
    np.testing.assert_array_equal(volume.array, body())
    assert not grid_difference(volume.geometry, read_image(tmp_path / "s").geometry)


def test_a_film_is_refused(tmp_path: Path) -> None:
    ds = enhanced(body(), list(range(6)))
    del ds.PerFrameFunctionalGroupsSequence
    ds.save_as(tmp_path / "a.dcm")
    with pytest.raises(InputError, match="film of 6 frames"):
        read_image(tmp_path / "a.dcm")


def test_series_files_come_in_the_order_of_the_slices(tmp_path: Path) -> None:
    written = dicom_files.write_series(tmp_path, body())
    assert series_files(tmp_path) == tuple(written)
    assert series_files(written[2]) == (written[2],)


@pytest.mark.parametrize("syntax", [pydicom.uid.JPEG2000Lossless, pydicom.uid.JPEGLSLossless])
def test_compressed_by_gdcm(tmp_path: Path, syntax: str) -> None:
    """The file is made by GDCM, an encoder that is not the decoder."""
    gdcm = pytest.importorskip("gdcm")
    dicom_files.dicom_slice((body()[2] + 1024).astype(np.uint16), (0, 0, 0)).save_as(tmp_path / "raw.dcm")
    reader, writer, change = gdcm.ImageReader(), gdcm.ImageWriter(), gdcm.ImageChangeTransferSyntax()
    reader.SetFileName(str(tmp_path / "raw.dcm"))
    assert reader.Read()
    kind = gdcm.TransferSyntax.JPEG2000Lossless
    if syntax == pydicom.uid.JPEGLSLossless:
        kind = gdcm.TransferSyntax.JPEGLSLossless
    change.SetTransferSyntax(gdcm.TransferSyntax(kind))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFileName(str(tmp_path / "packed.dcm"))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    assert pydicom.dcmread(tmp_path / "packed.dcm").file_meta.TransferSyntaxUID == syntax
    np.testing.assert_array_equal(read_image(tmp_path / "packed.dcm").array[0], body()[2])


def test_a_multi_frame_file_without_its_last_frames_is_refused(tmp_path: Path) -> None:
    ds = enhanced(body(), list(range(6)))
    ds.PixelData = ds.PixelData[: len(ds.PixelData) // 2]
    ds.save_as(tmp_path / "a.dcm")
    with pytest.raises(InputError, match="cannot be decoded"):
        read_image(tmp_path / "a.dcm")
    del ds.PixelData
    ds.save_as(tmp_path / "b.dcm")
    with pytest.raises(InputError, match=r"cannot be decoded|without pixel data"):
        read_image(tmp_path / "b.dcm")


def test_rescaling_of_a_frame_wins_over_the_shared_one(tmp_path: Path) -> None:
    ds = enhanced(body(), list(range(6)))
    for z, frame in enumerate(ds.PerFrameFunctionalGroupsSequence):
        item = Dataset()
        item.RescaleSlope, item.RescaleIntercept = 1, -1024 + z
        frame.PixelValueTransformationSequence = DicomSequence([item])
    ds.save_as(tmp_path / "a.dcm")
    expected = body() + np.arange(6, dtype=np.int16)[:, None, None]
    np.testing.assert_array_equal(read_image(tmp_path / "a.dcm").array, expected)
