"""DICOM files and folders: which image series are there, and what else. No patient identifier leaves this file.

A series is named by a short hash of its UID (`SeriesInfo.key`); names, ids, dates and free text are never read.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r2seg_agent.errors import InputError
from r2seg_agent.frozen import Frozen
from r2seg_agent.imaging import files
from r2seg_agent.imaging.geometry import Index3
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
MAX_FILES = 50_000
_TAGS = [
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
    "InstanceNumber",
]


class SeriesInfo(Frozen):
    """One image series of a folder, without any patient identifier. `index` counts from 1, `key` is a UID's hash.

    `spacing_mm` is (z, y, x); z is None for one slice, unknown or unequal positions.
    """

    index: int
    key: str
    number: int | None
    modality: Modality
    n_slices: int
    shape: Index3
    spacing_mm: tuple[float | None, float | None, float | None]
    localizer: bool = False

    def describe(self) -> str:
        """One line for a list to choose from."""
        z, y, x = self.spacing_mm
        steps = " × ".join("?" if v is None else f"{v:.3g}" for v in (x, y, z))
        size = " × ".join(str(n) for n in reversed(self.shape))
        number = "" if self.number is None else f", series number {self.number}"
        scout = ", localizer" if self.localizer else ""
        return f"{self.index}. {self.key}: {self.modality}, {size} voxels of {steps} mm (x, y, z){number}{scout}"


@dataclass(frozen=True)
class DicomFile:
    """The few header fields of one image file that grouping and sorting need; positions in LPS mm (x, y, z)."""

    path: Path
    series_uid: str
    sop_uid: str
    modality: str
    number: int | None
    rows: int
    columns: int
    n_frames: int
    localizer: bool
    position: tuple[float, float, float] | None
    orientation: tuple[float, ...] | None
    pixel_spacing: tuple[float, float] | None
    thickness: float | None

    @property
    def key(self) -> str:
        """The series' short name."""
        return hashlib.sha256(self.series_uid.encode()).hexdigest()[:KEY_LENGTH]


@dataclass(frozen=True)
class Folder:
    """What a folder holds: image series in the order of their listing, and what was skipped, by kind."""

    series: tuple[tuple[SeriesInfo, tuple[DicomFile, ...]], ...]
    skipped: Mapping[str, int]

    def skipped_text(self) -> str:
        """ "1 RT structure set …, 2 files that are not DICOM"; empty when nothing was skipped."""
        return ", ".join(f"{n} × {kind}" for kind, n in sorted(self.skipped.items()))


@contextmanager
def quiet() -> Iterator[None]:
    """Keep pydicom's warnings about sloppy headers away from the user."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def list_series(folder: Path | str) -> tuple[SeriesInfo, ...]:
    """The image series in a folder and its sub-folders, sorted by series number, then key.

    Raises:
        InputError: the folder is missing, unreadable or holds no DICOM image.
    """
    return tuple(info for info, _ in scan_folder(Path(folder)).series)


def scan_folder(folder: Path, what: str = "image") -> Folder:
    """Read the headers of all files in a folder and its sub-folders and group the images by series.

    Raises:
        InputError: the folder is missing, unreadable or holds no DICOM image.
    """
    files.check_path(folder, what)
    groups: dict[str, list[DicomFile]] = {}
    skipped: Counter[str] = Counter()
    with files.readable(folder, what):
        paths = _all_files(folder, what)
        for path in paths:
            found = _read_file(path)
            if isinstance(found, str):
                skipped[found] += 1
            else:
                groups.setdefault(found.series_uid, []).append(found)
    if not groups:
        raise InputError(
            _nothing_found(folder, what, paths, skipped), f"Name one file or a series folder. {files.ALLOWED}"
        )
    ordered = sorted(groups.values(), key=lambda g: (g[0].number is None, g[0].number or 0, g[0].key))
    series = tuple((_info(i, group), tuple(group)) for i, group in enumerate(ordered, start=1))
    return Folder(series=series, skipped=dict(skipped))


def choose_series(folder: Path, found: Folder, series: str | None, what: str = "image") -> tuple[DicomFile, ...]:
    """The files of the one series, or of the one that `series` (a key or a 1-based index) names.

    Raises:
        InputError: several series and none chosen, or a choice that is not there; lists what is.
    """
    table = "\n".join(f"  {info.describe()}" for info, _ in found.series)
    if series is None:
        if len(found.series) == 1:
            return found.series[0][1]
        raise InputError(
            f"The {what} folder `{folder}` holds {len(found.series)} image series:\n{table}",
            f"Choose with --series KEY, for example --series {found.series[0][0].key}.",
        )
    wanted = series.strip().lower()
    for info, members in found.series:
        if wanted == info.key:
            return members
    for info, members in found.series:
        if wanted == str(info.index):
            return members
    raise InputError(
        f"The {what} folder `{folder}` has no series `{series}`. It holds:\n{table}",
        "Choose one of them by its key or its number in this list.",
    )


def kind_of_file(path: Path) -> str:
    """The DICOM Modality of a file ("RTSTRUCT", "SEG", "CT", …), or "" when it is not DICOM."""
    import pydicom

    try:
        with path.open("rb") as file:
            if not files.has_dicom_magic(file.read(files.HEAD_BYTES)):
                return ""
        with quiet():
            return str(pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["Modality"]).get("Modality", ""))
    except Exception:  # pydicom raises nearly anything on damaged headers
        return ""


def read_single(path: Path, what: str = "image") -> DicomFile:
    """The header of one DICOM image file.

    Raises:
        InputError: not DICOM, or DICOM but not an image (says what it is).
    """
    head = files.read_head(path, what)
    found = _read_file(path)
    if isinstance(found, DicomFile):
        return found
    if found == NOT_DICOM:
        raise InputError(
            f"The {what} `{path}` is not a readable DICOM file: it looks like {files.describe_content(head)}. "
            f"{files.ALLOWED}",
            "Give the file its true suffix, or copy it again.",
        )
    raise InputError(
        f"The {what} `{path}` is {found}, not an image.", "Give the image series it belongs to (CT, MR, …)."
    )


NOT_DICOM = "a file that is not DICOM"


def _all_files(folder: Path, what: str) -> list[Path]:
    def fail(error: OSError) -> None:
        raise error

    paths: list[Path] = []
    for root, folders, names in os.walk(folder, onerror=fail):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths += [Path(root) / name for name in sorted(names) if not name.startswith(".") and name != "DICOMDIR"]
        if len(paths) > MAX_FILES:
            raise InputError(
                f"The {what} folder `{folder}` holds more than {MAX_FILES:,} files.", "Name the folder of one study."
            )
    return paths


def _read_file(path: Path) -> DicomFile | str:
    """The header fields of an image file, or in words what else the file is."""
    import pydicom

    try:
        with path.open("rb") as file:
            magic = files.has_dicom_magic(file.read(files.HEAD_BYTES))
        if not magic and files.suffix_of(path) not in ("", ".dcm", ".dicom", ".ima"):
            return NOT_DICOM
        with quiet():
            ds = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=[*_TAGS], force=not magic)
            return _fields(path, ds) if magic or "SeriesInstanceUID" in ds else NOT_DICOM
    except PermissionError:
        raise
    except Exception:  # pydicom raises nearly anything on damaged headers
        return "a damaged DICOM file" if path.suffix.lower() == ".dcm" else NOT_DICOM


def _fields(path: Path, ds: Any) -> DicomFile | str:
    modality = str(ds.get("Modality", "") or "")
    if modality in NOT_IMAGES:
        return NOT_IMAGES[modality]
    if not ds.get("Rows") or not ds.get("Columns"):
        return f"a DICOM object without pixels ({modality or 'no modality'})"
    position = numbers(ds.get("ImagePositionPatient"), 3)
    spacing = numbers(ds.get("PixelSpacing") or ds.get("ImagerPixelSpacing"), 2)
    thickness = numbers([ds.get("SliceThickness")], 1)
    number = ds.get("SeriesNumber")
    uid = str(ds.get("SOPInstanceUID") or ds.file_meta.get("MediaStorageSOPInstanceUID", "") or "")
    return DicomFile(
        path=path,
        series_uid=str(ds.get("SeriesInstanceUID", "")),
        sop_uid=uid,
        modality=modality,
        number=None if number is None else int(number),
        rows=int(ds.Rows),
        columns=int(ds.Columns),
        n_frames=int(ds.get("NumberOfFrames", 1) or 1),
        localizer="LOCALIZER" in (ds.get("ImageType") or ()),
        position=None if position is None else (position[0], position[1], position[2]),
        orientation=numbers(ds.get("ImageOrientationPatient"), 6),
        pixel_spacing=None if spacing is None else (spacing[0], spacing[1]),
        thickness=None if thickness is None else thickness[0],
    )


def numbers(values: Sequence[Any] | None, n: int) -> tuple[float, ...] | None:
    """`n` floats of a header field; None when it is absent or has another length."""
    if values is None or len(values) != n or any(v is None or v == "" for v in values):
        return None
    return tuple(float(v) for v in values)


def _info(index: int, group: Sequence[DicomFile]) -> SeriesInfo:
    first = group[0]
    n = sum(f.n_frames for f in group)
    in_plane = first.pixel_spacing or (None, None)
    return SeriesInfo(
        index=index,
        key=first.key,
        number=first.number,
        modality=MODALITIES.get(first.modality, "unknown"),
        n_slices=n,
        shape=(n, first.rows, first.columns),
        spacing_mm=(_step_mm(group), *in_plane),
        localizer=all(f.localizer for f in group),
    )


def _step_mm(group: Sequence[DicomFile]) -> float | None:
    """Mean distance of neighbouring slices; a rough figure for the list (the reader checks each)."""
    positions = [f.position for f in group if f.position is not None]
    if len(positions) < 2 or len(positions) != len(group):
        return None
    low = [min(p[axis] for p in positions) for axis in range(3)]
    high = [max(p[axis] for p in positions) for axis in range(3)]
    extent = sum((b - a) ** 2 for a, b in zip(low, high, strict=True)) ** 0.5
    return extent / (len(positions) - 1) or None


def _nothing_found(folder: Path, what: str, paths: Sequence[Path], skipped: Mapping[str, int]) -> str:
    if not paths:
        return f"The {what} folder `{folder}` is empty."
    others = [path.name for path in paths if files.FORMAT_OF_SUFFIX.get(files.suffix_of(path)) not in (None, "dicom")]
    text = f"The {what} folder `{folder}` holds no DICOM image among its {len(paths)} files"
    kinds = ", ".join(f"{n} × {kind}" for kind, n in sorted(skipped.items()))
    text += f" ({kinds})." if kinds else "."
    if others:
        shown = ", ".join(f"`{name}`" for name in others[:3])
        text += f" It holds {len(others)} image file{'s' if len(others) > 1 else ''} of another format ({shown})."
    return text
