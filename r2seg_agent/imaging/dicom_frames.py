"""Which DICOM frames form a volume, in which order, on which grid; gaps, mixtures and tilted stacks are refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.errors import InputError
from r2seg_agent.imaging import checks, dicom_header, files
from r2seg_agent.imaging.dicom_header import DicomFile
from r2seg_agent.imaging.geometry import Geometry

SPACING_TOLERANCE = 0.05
"""Slice distances may differ from their median by this share, or by …"""
SPACING_TOLERANCE_MM = 0.1
"""… this length, whichever is more: some scanners round positions to 0.1 mm."""
SAME_POSITION_MM = 1e-3
"""Slices closer than this lie at the same place."""
ORIENTATION_TOLERANCE = 1e-3
"""Row and column cosines may deviate this much from orthonormal (rounded text in headers); they are then made exact."""
PIXEL_SPACING_TOLERANCE_MM = 1e-4
"""Pixel spacings of one series may differ by this: each file rounds for itself."""
_PIXEL_FIELDS = (
    *("PixelData", "FloatPixelData", "DoubleFloatPixelData", "Rows", "Columns", "BitsStored", "PixelRepresentation"),
    *("PhotometricInterpretation", "RescaleSlope", "RescaleIntercept"),
)
_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")


@dataclass(frozen=True)
class Frame:
    """One slice, the frame `index` of a file, and where it lies: positions in LPS mm (x, y, z), spacing (y, x)."""

    file: DicomFile
    index: int
    position: tuple[float, float, float] | None
    orientation: tuple[float, ...] | None
    pixel_spacing: tuple[float, float] | None
    thickness: float | None


def files_in_order(source: Path, members: Sequence[DicomFile], what: str = "image") -> tuple[Path, ...]:
    """The files of a series in the order of their slices (a multi-frame file once); raises as `read_series`."""
    ordered, _ = stacked(source, members, what, lambda text: None)
    return tuple(dict.fromkeys(frame.file.path for frame in ordered))


def stacked(
    source: Path, members: Sequence[DicomFile], what: str, note: Callable[[str], None]
) -> tuple[list[Frame], Geometry]:
    """The frames of a series in the order of their slices, and their grid in LPS mm; z runs along row × column.

    Raises:
        InputError: mixed sizes or orientations, missing, repeated or unequally spaced slices, or a tilted gantry.
    """
    for member in members:
        if member.mosaic:
            raise InputError(
                f"The {what} `{member.path}` is a mosaic: all slices of a volume side by side in one picture.",
                "Convert the series to NIfTI first (dcm2niix unfolds mosaics).",
            )
    members = _without_copies(members, note)
    frames = [frame for member in members for frame in _frames(source, what, member)]
    _check_alike(source, what, frames)
    if len(frames) == 1:
        return frames, _single_geometry(source, what, frames[0], note)
    return _stack(source, what, frames)


def _without_copies(members: Sequence[DicomFile], note: Callable[[str], None]) -> list[DicomFile]:
    """The files without those that repeat another's slice: the same object, at the same place, with the same pixels."""
    kept: dict[tuple[str, object], DicomFile] = {}
    copies = 0
    for member in members:
        first = kept.setdefault((member.sop_uid, member.position if member.sop_uid else member.path), member)
        if first is not member and not _same_pixels(first, member):
            kept[member.sop_uid, member.path] = member
        elif first is not member:
            copies += 1
    if copies:
        note(f"{copies} file{'s' if copies > 1 else ''} of the series repeat another's slice and were left out.")
    return list(kept.values())


def _same_pixels(a: DicomFile, b: DicomFile) -> bool:
    try:
        with dicom_header.quiet():
            first, second = (dicom_header.read_dataset(file.path) for file in (a, b))
            return all(dicom_header.field(first, name) == dicom_header.field(second, name) for name in _PIXEL_FIELDS)
    except Exception:  # pydicom raises nearly anything on damaged files; reading the pixels says which
        return False


def _frames(source: Path, what: str, member: DicomFile) -> list[Frame]:
    whole = Frame(member, 0, member.position, member.orientation, member.pixel_spacing, member.thickness)
    if member.n_frames == 1 and member.position is not None:
        return [whole]
    try:
        with dicom_header.quiet():
            ds = dicom_header.read_dataset(member.path, stop_before_pixels=True, specific_tags=[*_GROUPS])
            shared = (ds.get(_GROUPS[0]) or [None])[0]
            per_frame = [_functional(whole, i, (item, shared)) for i, item in enumerate(ds.get(_GROUPS[1]) or ())]
    except Exception as error:  # pydicom raises nearly anything on damaged headers
        raise files.truncated(member.path, what, files.last_sentence(str(error))) from None
    if not per_frame and member.n_frames == 1:
        return [whole]
    if len(per_frame) != member.n_frames:
        raise InputError(
            f"The {what} `{source}` is a film of {member.n_frames} frames without positions (DICOM multi-frame); "
            "one slice or one 3D volume is needed.",
            "Export the frame you need as its own image.",
        )
    return per_frame


def _functional(whole: Frame, index: int, groups: tuple[Any, Any]) -> Frame:
    """A frame of an enhanced multi-frame object, from its own and the shared functional groups."""

    def value(sequence: str, name: str) -> Any:
        for group in groups:
            macro = group.get(sequence) if group is not None else None
            if macro and (found := dicom_header.field(macro[0], name)) is not None:
                return found
        return None

    position = dicom_header.numbers(value("PlanePositionSequence", "ImagePositionPatient"), 3)
    spacing = dicom_header.numbers(value("PixelMeasuresSequence", "PixelSpacing"), 2)
    thickness = dicom_header.numbers(value("PixelMeasuresSequence", "SliceThickness"), 1)
    return replace(
        whole,
        index=index,
        position=None if position is None else (position[0], position[1], position[2]),
        orientation=dicom_header.numbers(value("PlaneOrientationSequence", "ImageOrientationPatient"), 6),
        pixel_spacing=None if spacing is None else (spacing[0], spacing[1]),
        thickness=None if thickness is None else thickness[0],
    )


def _check_alike(source: Path, what: str, frames: Sequence[Frame]) -> None:
    lost = [f for f in frames if None in (f.position, f.orientation, f.pixel_spacing)]
    if len(frames) > 1 and lost:
        first = lost[0].file.path
        raise InputError(
            f"The {what} series in `{source}` has {len(lost)} slices of {len(frames)} without a readable patient "
            f"position, direction or pixel spacing (`{first}`{' and others' if len(lost) > 1 else ''}); they "
            "cannot be stacked into a volume.",
            "Give one of the files as a 2D image, or convert the series with its spacing to NIfTI.",
        )
    compared: tuple[tuple[str, float, list[tuple[float, ...]]], ...] = (
        ("sizes", 0, [(f.file.columns, f.file.rows) for f in frames]),
        ("pixel spacings", PIXEL_SPACING_TOLERANCE_MM, [tuple(f.pixel_spacing or ()) for f in frames]),
        ("orientations", ORIENTATION_TOLERANCE, [tuple(f.orientation or ()) for f in frames]),
    )
    for name, tolerance, values in compared:
        if any(not _alike(v, values[0], tolerance) for v in values):
            distinct = sorted(set(values), key=values.index)
            counts = "; ".join(f"{values.count(v)} × {v}" for v in distinct[:4])
            raise InputError(
                f"The {what} series in `{source}` mixes slices of different {name}: {counts}.",
                "Put the slices of one acquisition into their own folder (a localizer may lie among them).",
            )


def _alike(a: Sequence[float], b: Sequence[float], tolerance: float) -> bool:
    return len(a) == len(b) and all(abs(x - y) <= tolerance for x, y in zip(a, b, strict=True))


def _axes(source: Path, what: str, orientation: Sequence[float]) -> NDArray[np.float64]:
    """(3, 3) float64, columns row, column and normal direction; small rounding made orthonormal."""
    row, column = np.asarray(orientation[:3], dtype=np.float64), np.asarray(orientation[3:], dtype=np.float64)
    gram = np.array([[row @ row, row @ column], [column @ row, column @ column]])
    if not np.isfinite(gram).all() or np.abs(gram - np.eye(2)).max() > ORIENTATION_TOLERANCE:
        raise InputError(
            f"The {what} `{source}` has row and column directions that are not perpendicular unit vectors: "
            f"{tuple(orientation)}.",
            "Its header is damaged; export it again.",
        )
    row = row / np.linalg.norm(row)
    column = column - (column @ row) * row
    column = column / np.linalg.norm(column)
    return np.stack([row, column, np.cross(row, column)], axis=1)


def _single_geometry(source: Path, what: str, frame: Frame, note: Callable[[str], None]) -> Geometry:
    axes = np.eye(3) if frame.orientation is None else _axes(source, what, frame.orientation)
    known: Literal["zyx", "yx", "none"] = "none" if frame.pixel_spacing is None else "yx"
    thickness = 1.0
    if known == "yx" and frame.thickness is not None and frame.thickness > 0 and frame.position is not None:
        known, thickness = "zyx", frame.thickness
    if frame.position is not None and frame.file.n_frames == 1:
        note("One slice of a series was given; the folder would give the whole volume.")
    return checks.checked_geometry(
        source,
        what,
        shape=(1, frame.file.rows, frame.file.columns),
        spacing_zyx_mm=(thickness, *(frame.pixel_spacing or (1.0, 1.0))),
        origin_lps_mm=frame.position or (0.0, 0.0, 0.0),
        direction=axes,
        known_spacing=known,
    )


def _stack(source: Path, what: str, frames: Sequence[Frame]) -> tuple[list[Frame], Geometry]:
    axes = _axes(source, what, frames[0].orientation or ())
    positions = np.asarray([frame.position for frame in frames], dtype=np.float64)
    along = positions @ axes[:, 2]
    order = np.argsort(along, kind="stable")
    along, positions = along[order], positions[order]
    steps = np.diff(along)
    same = int(np.count_nonzero(steps < SAME_POSITION_MM))
    if same:
        raise InputError(
            f"The {what} series in `{source}` has {len(frames)} slices, {same} of them at a position that another "
            "already holds (several phases or time points, or copied files).",
            "Put one phase into its own folder, and remove copies.",
        )
    step = float(np.median(steps))
    allowed = max(SPACING_TOLERANCE * step, SPACING_TOLERANCE_MM)
    off = np.flatnonzero(np.abs(steps - step) > allowed)
    if off.size:
        gap = float(steps[off[0]])
        missing = sum(max(0, round(float(steps[i]) / step) - 1) for i in off)
        listed = f"about {missing} missing slice{'s' if missing > 1 else ''}" if missing else "unequal slice distances"
        raise InputError(
            f"The {what} series in `{source}` has {listed}: neighbours are {step:.4g} mm apart, but after slice "
            f"{int(off[0]) + 1} of {len(frames)} it is {gap:.4g} mm.",
            "Copy the whole series again, or resample it to equal distances first.",
        )
    mean_step = float(along[-1] - along[0]) / (len(frames) - 1)
    drift = positions - positions[0] - np.outer(along - along[0], axes[:, 2])
    worst = float(np.linalg.norm(drift, axis=1).max())
    spacing_y, spacing_x = frames[0].pixel_spacing or (1.0, 1.0)
    if worst > 0.5 * min(spacing_y, spacing_x):
        raise InputError(
            f"The {what} series in `{source}` is not stacked straight: slices shift sideways by up to {worst:.3g} mm "
            "(a tilted gantry). Only perpendicular axes are allowed.",
            "Correct the tilt first (dcm2niix does).",
        )
    geometry = checks.checked_geometry(
        source,
        what,
        shape=(len(frames), frames[0].file.rows, frames[0].file.columns),
        spacing_zyx_mm=(mean_step, spacing_y, spacing_x),
        origin_lps_mm=tuple(positions[0]),
        direction=axes,
    )
    return [frames[i] for i in order], geometry
