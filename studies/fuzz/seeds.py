"""Whole files of every kind, made up and small: what the fuzzer damages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, RTStructureSetStorage

from r2seg_agent.imaging.geometry import Geometry
from r2seg_agent.imaging.volume import Volume
from r2seg_agent.imaging.write import write_dicom_seg, write_label_map, write_volume
from r2seg_agent.reject.calibration import CaseScores, build_calibration
from r2seg_agent.reject.calibration_file import save_calibration
from r2seg_agent.runs.api import reopen, run_find
from r2seg_agent.runs.options import RunOptions

GEOMETRY = Geometry(shape=(12, 24, 24), spacing_mm=(4.0, 3.0, 3.0))
ROOT = "1.2.826.0.1.3680043.8.498"


def hounsfield() -> NDArray[np.int16]:
    """A uniform organ with noise and a dark ball, (z, y, x) in HU."""
    rng = np.random.default_rng(0)
    z, y, x = np.indices(GEOMETRY.shape)
    ball = ((z - 6) * 4.0) ** 2 + ((y - 12) * 3.0) ** 2 + ((x - 12) * 3.0) ** 2 <= 11.0**2
    found: NDArray[np.int16] = (100.0 - 60.0 * ball + rng.normal(0.0, 6.0, GEOMETRY.shape)).astype(np.int16)
    return found


def labels() -> NDArray[np.uint8]:
    """A liver with a spleen beside it, (z, y, x)."""
    found = np.zeros(GEOMETRY.shape, np.uint8)
    found[1:-1, 2:-2, 2:-6] = 1
    found[1:-1, 2:-2, -5:-1] = 2
    return found


def write_images(folder: Path) -> None:
    """One file of every format that is read as a scan or as a mask, and `series/`, a DICOM series."""
    folder.mkdir(parents=True, exist_ok=True)
    write_volume(folder / "a.nii.gz", Volume(array=hounsfield(), geometry=GEOMETRY, modality="CT", unit="HU"))
    write_volume(folder / "a.nii", Volume(array=hounsfield(), geometry=GEOMETRY, modality="CT", unit="HU"))
    write_label_map(folder / "organs.nii.gz", labels(), GEOMETRY, names={1: "liver", 2: "spleen"})
    image: Any = SimpleITK.GetImageFromArray(hounsfield())
    image.SetSpacing((3.0, 3.0, 4.0))
    for name in ("a.nrrd", "z.nrrd", "a.mha", "z.mha"):
        SimpleITK.WriteImage(image, str(folder / name), name.startswith("z"))
    (folder / "series").mkdir()
    for z, plane in enumerate(hounsfield()[:5]):
        slice_of(plane, z).save_as(folder / "series" / f"{z}.dcm")
    write_dicom_seg(folder / "seg.dcm", labels()[:5], {1: "liver", 2: "spleen"}, folder / "series")
    square = [[3.0, 3.0], [40.0, 3.0], [40.0, 40.0], [3.0, 40.0]]
    structures({"liver": [[(x, y, 4.0 * z) for x, y in square] for z in range(1, 4)]}).save_as(folder / "rs.dcm")


def write_run(folder: Path) -> str:
    """A finished run in `folder/ws`, its plan and a calibration for it beside it; the run's id."""
    write_images(folder)
    options = RunOptions.model_validate(
        {
            "anchors": str(folder / "organs.nii.gz"),
            "segmenter": "contrast",
            "reject": "paper",
            "modality": "CT",
            "overlays": False,
            "workspace": folder / "ws",
        }
    )
    found = run_find("find a liver lesion", str(folder / "a.nii.gz"), options)
    (folder / "plan.json").write_bytes((found.folder / "plan.json").read_bytes())
    with reopen(found.report.run_id, folder / "ws", look=True) as session:
        identity = session.context.calibration_identity(found.report.targets[0].plan)
    cases = [CaseScores(case=f"c{i}", patient=f"p{i}", scores=(float(i),), rounds=(1,)) for i in range(19)]
    save_calibration(build_calibration(identity, cases), folder / "calibration.json")
    return found.report.run_id


def write_tables(folder: Path) -> None:
    """Tables of cases, and the side files of data sets in the known layouts."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("a.nii.gz", "b.nii.gz", "mask.nii.gz"):
        (folder / name).write_bytes(b"")
    (folder / "cases.csv").write_text(
        "image,request,truth,anchors,modality,patient,site\n"
        "a.nii.gz,find a liver lesion,mask.nii.gz,,CT,p1,north\n"
        'b.nii.gz,"find the ""cyst"", liver",,mask.nii.gz=liver,MR,p2,south\n',
        encoding="utf-8",
    )
    rows = [{"image": "a.nii.gz", "request": "liver lesion", "channels": {"t1": "b.nii.gz"}}, {"image": "b.nii.gz"}]
    (folder / "cases.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "dataset.json").write_text(
        json.dumps(
            {
                "name": "Liver",
                "channel_names": {"0": "CT"},
                "labels": {"background": 0, "liver": 1, "tumor": 2},
                "numTraining": 1,
                "file_ending": ".nii.gz",
                "modality": {"0": "CT"},
                "training": [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}],
                "test": ["./imagesTs/b.nii.gz"],
            }
        ),
        encoding="utf-8",
    )
    for sub, name in (("imagesTr", "a_0000"), ("imagesTr", "a"), ("labelsTr", "a"), ("imagesTs", "b")):
        (folder / sub).mkdir(exist_ok=True)
        (folder / sub / f"{name}.nii.gz").write_bytes(b"")


def slice_of(plane: NDArray[np.int16], z: int) -> FileDataset:
    """One CT slice at 4 mm times `z`."""
    ds = _empty(CTImageStorage, f"{ROOT}.2.{z + 1}", "CT", 1)
    ds.InstanceNumber, ds.ImageType = z + 1, ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.ImagePositionPatient, ds.ImageOrientationPatient = [0, 0, 4.0 * z], [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing, ds.SliceThickness = [3.0, 3.0], 4.0
    ds.Rows, ds.Columns = plane.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.RescaleSlope, ds.RescaleIntercept, ds.WindowCenter, ds.WindowWidth = 1, -1024, 40, 400
    ds.PixelData = (plane + 1024).astype("<u2").tobytes()
    return ds


def structures(contours: dict[str, list[list[tuple[float, float, float]]]]) -> FileDataset:
    """An RT structure set: closed contours in LPS mm, by structure."""
    ds = _empty(RTStructureSetStorage, f"{ROOT}.9.1", "RTSTRUCT", 9)
    ds.StructureSetROISequence, ds.ROIContourSequence = Sequence(), Sequence()
    for number, (name, polygons) in enumerate(contours.items(), start=1):
        roi, drawn = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName = number, name
        drawn.ReferencedROINumber, drawn.ContourSequence = number, Sequence()
        for points in polygons:
            contour = Dataset()
            contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", len(points)
            contour.ContourData = [f"{value:g}" for point in points for value in point]
            drawn.ContourSequence.append(contour)
        ds.StructureSetROISequence.append(roi)
        ds.ROIContourSequence.append(drawn)
    return ds


def _empty(sop_class: UID, sop_uid: str, modality: str, series: int) -> FileDataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = sop_class, UID(sop_uid)
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = sop_class, sop_uid
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = f"{ROOT}.1", f"{ROOT}.1.{series}", f"{ROOT}.3"
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = "", "", "", ""
    ds.StudyDate, ds.StudyTime, ds.StudyID, ds.AccessionNumber, ds.ReferringPhysicianName = "", "", "1", "", ""
    ds.SeriesNumber, ds.Modality, ds.Manufacturer = series, modality, "fuzz"
    return ds
