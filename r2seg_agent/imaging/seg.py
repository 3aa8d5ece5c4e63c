"""DICOM segmentations (SEG) by highdicom: findings that a PACS shows on the series they were found in.

A SEG belongs to its source's patient and study, so the standard makes it repeat their modules (patient name, id, birth
date, sex; study UID, date, accession number, referring physician), and viewers refuse it otherwise. highdicom copies
exactly those from the source files. r2seg adds none of its own, and nothing of them goes anywhere else. UIDs are
derived from the content, so the same labels on the same series give the same bytes.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.errors import InputError
from r2seg_agent.imaging import checks, dicom_header, files
from r2seg_agent.imaging.geometry import Geometry
from r2seg_agent.imaging.memory import check_memory

SERIES_NUMBER = 9001
_UID_ROOT = "2.25."
"""UIDs from UUIDs or hashes (DICOM PS3.5 B.2): no registered root is needed."""


def read_dicom_seg(path: Path, what: str = "mask") -> tuple[NDArray[Any], Geometry]:
    """Labels (z, y, x), the segment numbers, on the grid of the SEG's own frames (often fewer slices than the image).

    Raises:
        InputError: unreadable, overlapping segments, or frames that form no regular grid.
    """
    highdicom: Any = importlib.import_module("highdicom")
    try:
        with dicom_header.quiet():
            ds = dicom_header.read_dataset(path)
            frames = (dicom_header.numbers(dicom_header.field(ds, "NumberOfFrames"), 1) or (1,))[0]
            check_memory(path, what, int(frames) * int(ds.Rows) * int(ds.Columns))
            volume = highdicom.seg.Segmentation.from_dataset(ds, copy=False).get_volume(combine_segments=True)
    except InputError:
        raise
    except Exception as error:  # highdicom raises many types
        raise InputError(
            f"The {what} `{path}` is a DICOM segmentation that cannot be read: {files.last_sentence(str(error))}",
            "Overlapping segments and unequal slices are not supported; export it as NIfTI or NRRD.",
        ) from None
    affine = np.asarray(volume.affine, dtype=np.float64)  # columns: slice, row and column steps in LPS mm
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    geometry = checks.checked_geometry(
        path,
        what,
        shape=volume.array.shape,
        spacing_zyx_mm=tuple(spacing),
        origin_lps_mm=tuple(affine[:3, 3]),
        direction=(affine[:3, :3] / spacing)[:, ::-1],
    )
    return np.asarray(volume.array), geometry


def dicom_seg(labels: NDArray[Any], names: Mapping[int, str], source_series: Sequence[Path]) -> Any:
    """A highdicom `Segmentation` of labels (z, y, x) whose slices are `source_series` in this order.

    One segment per label above 0, numbered from 1 in the order of the labels.

    Raises:
        InputError: no label, or source files that no SEG can refer to.
    """
    from r2seg_agent.version import __version__

    highdicom: Any = importlib.import_module("highdicom")
    codes: Any = importlib.import_module("pydicom.sr.codedict").codes
    present = [int(v) for v in np.unique(labels) if v > 0]
    if not present:
        raise InputError("A DICOM segmentation needs at least one label; there is none to write.")
    with dicom_header.quiet():
        sources = [_with_uids(dicom_header.read_dataset(path, stop_before_pixels=True)) for path in source_series]
        digest = _digest(labels, names, sources)
        algorithm = highdicom.AlgorithmIdentificationSequence(
            name="r2seg-agent", version=__version__, family=codes.cid7162.ArtificialIntelligence
        )
        descriptions = [
            highdicom.seg.SegmentDescription(
                segment_number=number,
                segment_label=(names.get(label) or f"label {label}")[:64],
                segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
                segmented_property_type=codes.SCT.Lesion,
                algorithm_type="AUTOMATIC",
                algorithm_identification=algorithm,
                tracking_uid=_uid(digest, f"segment {number}"),
                tracking_id=f"r2seg {digest[:8]} {number}",
            )
            for number, label in enumerate(present, start=1)
        ]
        stacked = np.stack([labels == label for label in present], axis=-1).astype(np.uint8)
        try:
            result = highdicom.seg.Segmentation(
                source_images=sources,
                pixel_array=stacked,
                segmentation_type="BINARY",
                segment_descriptions=descriptions,
                series_instance_uid=_uid(digest, "series"),
                series_number=SERIES_NUMBER,
                sop_instance_uid=_uid(digest, "instance"),
                instance_number=1,
                manufacturer="r2seg-agent",
                manufacturer_model_name="r2seg",
                software_versions=__version__,
                device_serial_number="0",
                series_description="r2seg findings (research, not for diagnosis)",
            )
        except Exception as error:  # missing or contradictory attributes of the source
            raise InputError(
                f"No DICOM segmentation can refer to this series: {files.last_sentence(str(error))}",
                "Its headers lack what the standard requires; write NIfTI instead.",
            ) from None
    _make_reproducible(result, digest, sources[0])
    return result


def _with_uids(ds: Any) -> Any:
    """Fill empty SOP UIDs (some de-identifiers blank them) from the file's meta header, which repeats them."""
    for name, meta in (("SOPClassUID", "MediaStorageSOPClassUID"), ("SOPInstanceUID", "MediaStorageSOPInstanceUID")):
        if not ds.get(name) and ds.file_meta.get(meta):
            setattr(ds, name, ds.file_meta.get(meta))
    return ds


def _digest(labels: NDArray[Any], names: Mapping[int, str], sources: Sequence[Any]) -> str:
    digest = hashlib.sha256(f"{sorted(names.items())}|{labels.shape}".encode())
    for ds in sources:
        digest.update(str(ds.SOPInstanceUID).encode())
    for plane in labels:
        digest.update(np.ascontiguousarray(plane, dtype="<u2").data)
    return digest.hexdigest()


def _uid(digest: str, role: str) -> str:
    number = int.from_bytes(hashlib.sha256(f"{digest}|{role}".encode()).digest()[:16], "big")
    return f"{_UID_ROOT}{number}"


def _make_reproducible(ds: Any, digest: str, source: Any) -> None:
    """Replace what highdicom takes from the clock or at random by values of the source or the content."""
    date = str(source.get("SeriesDate") or source.get("StudyDate") or "19000101")
    time = str(source.get("SeriesTime") or source.get("StudyTime") or "000000")
    for name in ("ContentDate", "InstanceCreationDate", "SeriesDate"):
        if name in ds:
            setattr(ds, name, date)
    for name in ("ContentTime", "InstanceCreationTime", "SeriesTime"):
        if name in ds:
            setattr(ds, name, time)
    for item in ds.get("ContributingEquipmentSequence") or ():
        item.ContributionDateTime = date + time
    organization = _uid(digest, "dimensions")
    for item in ds.get("DimensionOrganizationSequence") or ():
        item.DimensionOrganizationUID = organization
    for item in ds.get("DimensionIndexSequence") or ():
        item.DimensionOrganizationUID = organization
    if "FrameOfReferenceUID" in ds and source.get("FrameOfReferenceUID"):
        ds.FrameOfReferenceUID = source.FrameOfReferenceUID
