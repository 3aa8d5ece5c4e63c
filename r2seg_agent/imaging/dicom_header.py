"""The header of one DICOM file: what kind of object it is, and the few fields that grouping and sorting need.

Names, ids, dates and free text are never read. A field that a search can do without (a thickness, a number) is taken as
absent where its text is damaged; decimal commas are understood.
"""

from __future__ import annotations

import hashlib
import math
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r2seg_agent.errors import InputError
from r2seg_agent.imaging import files, memory
from r2seg_agent.imaging.volume import Modality

MODALITIES: Mapping[str, Modality] = {
    "CT": "CT",
    "MR": "MR",
    "PT": "PT",
    "NM": "PT",
    "US": "US",
    "CR": "XR",
    "DX": "XR",
    "MG": "XR",
    "RG": "XR",
    "RF": "XR",
    "XA": "XR",
    "XC": "photo",
    "ES": "photo",
    "GM": "photo",
    "OP": "photo",
    "DMS": "photo",
}
"""DICOM Modality (0008,0060) → ours; every other image is "unknown"."""
NOT_IMAGES: Mapping[str, str] = {
    "RTSTRUCT": "an RT structure set (contours)",
    "RTPLAN": "an RT plan",
    "RTDOSE": "an RT dose grid",
    "RTRECORD": "an RT treatment record",
    "SEG": "a DICOM segmentation (a mask)",
    "SR": "a structured report",
    "PR": "a presentation state",
    "KO": "a key object selection",
    "REG": "a spatial registration",
    "FID": "a set of fiducials",
    "RWV": "a real world value map",
    "DOC": "a document",
    "ECG": "an ECG",
    "M3D": "a 3D model",
    "ANN": "an annotation",
}
KEY_LENGTH = 6
_DEFLATED = b"1.2.840.10008.1.2.1.99"
"""The transfer syntax "deflated explicit little endian"."""
_META_BYTES = 1024
_CHUNK_BYTES = 1 << 20
NOT_DICOM = "a file that is not DICOM"
_TAGS = [
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "SeriesNumber",
    "Modality",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "ImageType",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "ImagerPixelSpacing",
    "SliceThickness",
    "SamplesPerPixel",
    "BitsAllocated",
]


@dataclass(frozen=True)
class DicomFile:
    """The few header fields of one image file that grouping and sorting need; positions in LPS mm (x, y, z)."""

    path: Path
    series_uid: str
    sop_uid: str
    sop_class: str
    modality: str
    number: int | None
    rows: int
    columns: int
    n_frames: int
    frame_bytes: int
    localizer: bool
    mosaic: bool
    position: tuple[float, float, float] | None
    orientation: tuple[float, ...] | None
    pixel_spacing: tuple[float, float] | None
    thickness: float | None

    @property
    def key(self) -> str:
        """The series' short name."""
        return hashlib.sha256(self.series_uid.encode()).hexdigest()[:KEY_LENGTH]


@dataclass(frozen=True)
class OtherFile:
    """A file that gives no slice: in words what it is, and why it may be a slice all the same.

    `damaged`: it is DICOM, or should be by its name or place, and cannot be read. `series_uid` and `sop_class` are
    empty where the file does not say them.
    """

    path: Path
    kind: str
    damaged: bool = False
    series_uid: str = ""
    sop_class: str = ""


@contextmanager
def quiet() -> Iterator[None]:
    """Keep pydicom's warnings about sloppy headers away from the user."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def read_dataset(path: Path, **options: Any) -> Any:
    """A pydicom `Dataset` of a file, with or without preamble and meta header; `options` are those of `dcmread`.

    Where the file does not state its transfer syntax it is the one that the data set is written in: implicit little
    endian (the standard's default) or explicit. Raises nearly anything on damaged headers; call it within `quiet`.
    """
    import pydicom
    from pydicom import uid

    _check_deflated(path)
    ds = pydicom.dcmread(path, force=True, **options)
    if not ds.file_meta.get("TransferSyntaxUID"):
        implicit, little = ds.original_encoding
        syntax = uid.ExplicitVRLittleEndian if little else uid.ExplicitVRBigEndian
        ds.file_meta.TransferSyntaxUID = uid.ImplicitVRLittleEndian if implicit or implicit is None else syntax
    return ds


def _check_deflated(path: Path) -> None:
    """Raise `InputError` for a deflated data set that does not fit into memory: pydicom inflates it as a whole."""
    from pydicom import filereader

    with path.open("rb") as file:
        if _DEFLATED not in file.read(_META_BYTES):
            return
        free = memory.free_bytes()
        if free is None or path.stat().st_size * files.MAX_DEFLATE_RATIO <= memory.LARGEST_SHARE * free:
            return
        file.seek(0)
        filereader.read_preamble(file, force=True)
        filereader._read_file_meta_info(file)  # leaves the file where the data set begins
        inflate, n_bytes = zlib.decompressobj(-zlib.MAX_WBITS), 0
        while n_bytes <= memory.LARGEST_SHARE * free and not inflate.eof:
            packed = inflate.unconsumed_tail or file.read(_CHUNK_BYTES)
            if not packed:
                return
            n_bytes += len(inflate.decompress(packed, _CHUNK_BYTES))
    memory.check_memory(path, "DICOM file", n_bytes)


def kind_of_file(path: Path) -> str:
    """The DICOM Modality of a file ("RTSTRUCT", "SEG", "CT", …), or "" when it is not DICOM."""
    try:
        if not path.is_file():
            return ""
        with path.open("rb") as file:
            if not files.looks_like_dicom(file.read(files.HEAD_BYTES)):
                return ""
        with quiet():
            return str(read_dataset(path, stop_before_pixels=True, specific_tags=["Modality"]).get("Modality", ""))
    except Exception:  # pydicom raises nearly anything on damaged headers
        return ""


def read_single(path: Path, what: str = "image") -> DicomFile:
    """The header of one DICOM image file.

    Raises:
        InputError: not DICOM, or DICOM but not an image (says what it is).
    """
    head = files.read_head(path, what)
    found = read_header(path)
    if isinstance(found, DicomFile):
        return found
    if found.kind == NOT_DICOM:
        raise InputError(
            f"The {what} `{path}` is not a readable DICOM file: it looks like {files.describe_content(head)}. "
            f"{files.ALLOWED}",
            "Give the file its true suffix, or copy it again.",
        )
    raise InputError(
        f"The {what} `{path}` is {found.kind}, not an image.", "Give the image series it belongs to (CT, MR, …)."
    )


def read_header(path: Path) -> DicomFile | OtherFile:
    """The header fields of an image file, or what else the file is; only its first bytes say whether it is DICOM.

    Raises `PermissionError`.
    """
    named_dicom = files.FORMAT_OF_SUFFIX.get(files.suffix_of(path)) == "dicom"
    if not path.is_file():
        if path.exists():
            return OtherFile(path, "a device or a pipe")
        return OtherFile(path, "a link that points to nothing", damaged=True)
    try:
        with path.open("rb") as file:
            head = file.read(files.HEAD_BYTES)
        if not head:
            return OtherFile(path, "an empty file (0 bytes)", damaged=True)
        if not files.looks_like_dicom(head):
            return OtherFile(path, NOT_DICOM, damaged=named_dicom)
        with quiet():
            return _fields(path, read_dataset(path, stop_before_pixels=True, specific_tags=[*_TAGS]))
    except PermissionError:
        raise
    except InputError:
        return OtherFile(path, "a deflated DICOM file that does not fit into memory", damaged=True)
    except Exception:  # pydicom raises nearly anything on damaged headers
        return OtherFile(path, "a damaged DICOM file", damaged=True)


def _fields(path: Path, ds: Any) -> DicomFile | OtherFile:
    modality = str(field(ds, "Modality") or "")
    series_uid = str(field(ds, "SeriesInstanceUID") or "")
    sop_class = str(field(ds, "SOPClassUID") or ds.file_meta.get("MediaStorageSOPClassUID", "") or "")
    if modality in NOT_IMAGES:
        return OtherFile(path, NOT_IMAGES[modality], series_uid=series_uid, sop_class=sop_class)
    if not field(ds, "Rows") or not field(ds, "Columns"):
        kind = f"a DICOM object without pixels ({modality or 'no modality'})"
        return OtherFile(path, kind, damaged=not series_uid, series_uid=series_uid, sop_class=sop_class)
    position = numbers(field(ds, "ImagePositionPatient"), 3)
    spacing = numbers(field(ds, "PixelSpacing") or field(ds, "ImagerPixelSpacing"), 2)
    number, frames = numbers(field(ds, "SeriesNumber"), 1), numbers(field(ds, "NumberOfFrames"), 1)
    image_type = [str(word).upper() for word in field(ds, "ImageType") or ()]
    return DicomFile(
        path=path,
        series_uid=series_uid,
        sop_uid=str(field(ds, "SOPInstanceUID") or ds.file_meta.get("MediaStorageSOPInstanceUID", "") or ""),
        sop_class=sop_class,
        modality=modality,
        number=None if number is None else int(number[0]),
        rows=int(ds.Rows),
        columns=int(ds.Columns),
        n_frames=1 if frames is None else max(1, int(frames[0])),
        frame_bytes=_frame_bytes(ds),
        localizer="LOCALIZER" in image_type,
        mosaic="MOSAIC" in image_type,
        position=None if position is None else (position[0], position[1], position[2]),
        orientation=numbers(field(ds, "ImageOrientationPatient"), 6),
        pixel_spacing=None if spacing is None else (spacing[0], spacing[1]),
        thickness=_thickness(ds),
    )


def _frame_bytes(ds: Any) -> int:
    """Bytes of the voxels of one unpacked frame."""
    samples, bits = numbers(field(ds, "SamplesPerPixel"), 1), numbers(field(ds, "BitsAllocated"), 1)
    return int(ds.Rows) * int(ds.Columns) * int((samples or (1,))[0]) * -(-int((bits or (16,))[0]) // 8)


def _thickness(ds: Any) -> float | None:
    found = numbers(field(ds, "SliceThickness"), 1)
    return None if found is None else found[0]


def field(ds: Any, name: str) -> Any:
    """The value of a header field, as text where it is not of the field's own kind; None when it is absent."""
    try:
        return ds.get(name)
    except Exception:  # pydicom converts on access, and raises nearly anything on text that is no number
        raw = getattr(ds.get_item(name), "value", None)
        if isinstance(raw, bytes):
            raw = raw.decode("ascii", errors="replace").strip(" \0").split("\\")
        return raw


def numbers(values: Any, n: int) -> tuple[float, ...] | None:
    """`n` finite floats of a header field; None when it is absent, has another length or is no number."""
    if values is None or values == "":
        return None
    listed: Sequence[Any] = values if isinstance(values, Sequence) and not isinstance(values, str) else [values]
    try:
        found = tuple(float(str(v).replace(",", ".")) for v in listed)
    except ValueError:
        return None
    return found if len(found) == n and all(math.isfinite(v) for v in found) else None
