"""DICOM folders: which image series are there, and what else. No patient identifier leaves this file.

A series is named by a short hash of its UID (`SeriesInfo.key`); names, ids, dates and free text are never read.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from r2seg_agent.errors import InputError
from r2seg_agent.frozen import Frozen
from r2seg_agent.imaging import files
from r2seg_agent.imaging.dicom_header import MODALITIES, DicomFile, OtherFile, read_header
from r2seg_agent.imaging.geometry import Index3
from r2seg_agent.imaging.volume import Modality

MAX_FILES = 50_000


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
class Folder:
    """What a folder holds: image series in the order of their listing, the other files, and their number by kind."""

    series: tuple[tuple[SeriesInfo, tuple[DicomFile, ...]], ...]
    skipped: Mapping[str, int]
    others: tuple[OtherFile, ...]

    def skipped_text(self) -> str:
        """ "1 RT structure set …, 2 files that are not DICOM"; empty when nothing was skipped."""
        return ", ".join(f"{n} × {kind}" for kind, n in sorted(self.skipped.items()))


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
    others: list[OtherFile] = []
    with files.readable(folder, what):
        paths = _all_files(folder, what)
        for path in paths:
            found = read_header(path)
            if isinstance(found, OtherFile):
                skipped[found.kind] += 1
                others.append(found)
            else:
                groups.setdefault(found.series_uid, []).append(found)
    if not groups:
        raise InputError(
            _nothing_found(folder, what, paths, skipped), f"Name one file or a series folder. {files.ALLOWED}"
        )
    ordered = sorted(groups.values(), key=lambda g: (g[0].number is None, g[0].number or 0, g[0].key))
    series = tuple((_info(i, group), tuple(group)) for i, group in enumerate(ordered, start=1))
    return Folder(series=series, skipped=dict(skipped), others=tuple(others))


def choose_series(folder: Path, found: Folder, series: str | None, what: str = "image") -> tuple[DicomFile, ...]:
    """The files of the one series, or of the one that `series` (a key or a 1-based index) names.

    Raises:
        InputError: several series and none chosen, or a choice that is not there (lists what is); or a file of the
            series that cannot be used (names it).
    """
    members = _chosen(folder, found, series, what)
    _check_complete(folder, found, members, what)
    return members


def _chosen(folder: Path, found: Folder, series: str | None, what: str) -> tuple[DicomFile, ...]:
    table = "\n".join(f"  {info.describe()}" for info, _ in found.series)
    if series is None:
        if len(found.series) == 1:
            return found.series[0][1]
        example = max((info for info, _ in found.series), key=lambda info: (not info.localizer, info.n_slices))
        raise InputError(
            f"The {what} folder `{folder}` holds {len(found.series)} image series:\n{table}",
            f"Choose with --series KEY, for example --series {example.key}.",
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


def _check_complete(folder: Path, found: Folder, members: Sequence[DicomFile], what: str) -> None:
    """Raise `InputError` that names a file which is, or may be, a slice of the series and cannot be used.

    A file says itself that it is of the series (and of the kind of its images), or it cannot be read and lies beside
    them under a name of their kind.
    """
    kinds = {member.sop_class for member in members}
    beside = {(member.path.parent, _name_kind(member.path)) for member in members}
    lost = [
        other
        for other in found.others
        if (other.series_uid == members[0].series_uid and other.sop_class in kinds)
        or (other.damaged and (other.path.parent, _name_kind(other.path)) in beside)
    ]
    if lost:
        more = f", and {len(lost) - 1} more like it" if len(lost) > 1 else ""
        raise InputError(
            f"The {what} series in `{folder}` cannot be used as a whole: `{lost[0].path}` is "
            f"{lost[0].kind}{more}, and {len(members)} other files beside it are slices.",
            "Copy the whole series again; move away what is not part of it.",
        )


def _name_kind(path: Path) -> str:
    """The suffix of a file's name, one for all numbers (`image.001`) and for none."""
    suffix = path.suffix.lower()
    return "" if suffix[1:].isdigit() else suffix


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
