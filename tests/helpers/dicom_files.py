"""Small DICOM files made for the tests: nobody's data, valid enough for every reader and for a SEG to refer to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, RTStructureSetStorage

STUDY = "1.2.826.0.1.3680043.8.498.1"
FRAME_OF_REFERENCE = "1.2.826.0.1.3680043.8.498.2"
PATIENT_NAME = "Doe^Jane"
PATIENT_ID = "MRN-0815"


def series_uid(number: int) -> str:
    return f"{STUDY}.{number}"


def empty_file(sop_class: str, sop_uid: str, modality: str, series: int = 1) -> FileDataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = sop_uid
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = sop_class, sop_uid
    ds.StudyInstanceUID, ds.SeriesInstanceUID = STUDY, series_uid(series)
    ds.FrameOfReferenceUID = FRAME_OF_REFERENCE
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = PATIENT_NAME, PATIENT_ID, "19700101", "O"
    ds.StudyDate, ds.StudyTime, ds.StudyID, ds.AccessionNumber = "20200101", "120000", "1", ""
    ds.ReferringPhysicianName, ds.SeriesNumber, ds.Modality, ds.Manufacturer = "", series, modality, "tests"
    return ds


def dicom_slice(
    stored: NDArray,
    position: Sequence[float],
    *,
    z: int = 0,
    series: int = 1,
    orientation: Sequence[float] = (1, 0, 0, 0, 1, 0),
    pixel_spacing: Sequence[float] = (0.8, 0.7),
    slope: float | None = 1,
    intercept: float | None = -1024,
    modality: str = "CT",
    bits_stored: int = 12,
) -> FileDataset:
    """One CT slice of stored values (rows, columns), uint16 or int16; `pixel_spacing` is (y, x) as in DICOM."""
    ds = empty_file(CTImageStorage, f"{series_uid(series)}.{z + 1}", modality, series)
    ds.InstanceNumber = z + 1
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.ImagePositionPatient, ds.ImageOrientationPatient = list(position), list(orientation)
    ds.PixelSpacing, ds.SliceThickness = list(pixel_spacing), 2.5
    ds.Rows, ds.Columns = stored.shape[:2]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, bits_stored, bits_stored - 1
    ds.PixelRepresentation = int(stored.dtype.kind == "i")
    if slope is not None:
        ds.RescaleSlope, ds.RescaleIntercept = slope, intercept
    ds.PixelData = stored.astype(stored.dtype.newbyteorder("<")).tobytes()
    return ds


def write_series(
    folder: Path,
    hu: NDArray[np.int16],
    *,
    step_mm: float = 2.5,
    origin: Sequence[float] = (-30.0, -20.0, 100.0),
    orientation: Sequence[float] = (1, 0, 0, 0, 1, 0),
    series: int = 1,
    skip: Sequence[int] = (),
    modality: str = "CT",
) -> list[Path]:
    """A CT series of HU (z, y, x), in files whose names say nothing of their order."""
    folder.mkdir(parents=True, exist_ok=True)
    normal = np.cross(orientation[:3], orientation[3:])
    paths = []
    for z, plane in enumerate(hu):
        if z in skip:
            continue
        position = np.asarray(origin) + z * step_mm * normal
        ds = dicom_slice(
            (plane + 1024).astype(np.uint16),
            [round(float(v), 6) for v in position],
            z=z,
            series=series,
            orientation=orientation,
            modality=modality,
        )
        paths.append(folder / f"{(z * 7) % 101:03d}_{series}")
        ds.save_as(paths[-1])
    return paths


def rtstruct(contours: dict[str, list[NDArray[np.float64]]]) -> FileDataset:
    """An RT structure set: closed contours, (n, 3) LPS mm, by structure name."""
    ds = empty_file(RTStructureSetStorage, f"{STUDY}.99.1", "RTSTRUCT", series=99)
    ds.StructureSetROISequence, ds.ROIContourSequence = DicomSequence(), DicomSequence()
    for number, (name, polygons) in enumerate(contours.items(), start=1):
        roi, drawn = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName = number, name
        drawn.ReferencedROINumber, drawn.ContourSequence = number, DicomSequence()
        for points in polygons:
            contour = Dataset()
            contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", len(points)
            contour.ContourData = [f"{v:.6f}" for v in points.ravel()]
            drawn.ContourSequence.append(contour)
        ds.StructureSetROISequence.append(roi)
        ds.ROIContourSequence.append(drawn)
    return ds
