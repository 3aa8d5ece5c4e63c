"""Which name each value of a label map has, from everything that tools write: header extensions and side files."""

from __future__ import annotations

import csv
import importlib
import json
import re
from collections.abc import Iterable, Mapping
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

from r2seg_agent.errors import InputError
from r2seg_agent.imaging import dicom_header, files, nifti
from r2seg_agent.imaging.itk import simpleitk

SIDE_SUFFIXES = (".json", ".csv", ".tsv", ".ctbl", ".label", ".txt")
"""Names files that are looked for beside a label map, as `NAME.json` and `labels.json`."""
NEEDED = (
    'Give the names beside it (`labels.json` with {"1": "liver"}, or a CSV, a 3D Slicer colour table, an ITK-SNAP '
    "label file), or in the option: `MASK=ORGAN` for a mask of one organ, `MASK=names:FILE`, `MASK=task:total` for "
    "TotalSegmentator's numbers."
)
_MAX_NAMES_BYTES = 1 << 22
"""Names stand in the first bytes of a file; a header that claims more is not followed."""
_VALUE_COLUMNS = ("labelvalue", "label", "value", "id", "index", "key", "number")
_NAME_COLUMNS = ("name", "labelname", "labeltext", "organ", "structure", "region", "description", "text")


class Segment(NamedTuple):
    """One named label: `layer` is its 3D part in a layered .seg.nrrd, 0 elsewhere."""

    name: str
    value: int
    layer: int = 0


def names_in_file(path: Path) -> tuple[Segment, ...]:
    """The names that the label map `path` itself carries; empty when it carries none.

    TotalSegmentator's NIfTI header extension (Caret's label table), 3D Slicer's `SegmentN_Name` fields, DICOM SEG.
    """
    suffix = files.suffix_of(path)
    if suffix in (".nii", ".nii.gz"):
        return _nifti_names(path)
    if suffix in (".nrrd", ".nhdr"):
        return _slicer_names(path)
    if dicom_header.kind_of_file(path) == "SEG":
        return _dicom_seg_names(path)
    return ()


def names_file_of(path: Path) -> Path | None:
    """The names file beside the label map `path`, its own before the folder's; None when there is none."""
    stem = path.name[: len(path.name) - len(files.suffix_of(path))]
    tried = [path.with_name(f"{base}{suffix}") for base in (stem, "labels", "dataset") for suffix in SIDE_SUFFIXES]
    return next((side for side in tried if side.is_file()), None)


def read_names_file(path: Path) -> tuple[Segment, ...]:
    """Names from JSON ({"1": "liver"}, {"liver": 1}, [{"value": 1, "name": "liver"}], nnU-Net's dataset.json), CSV or
    TSV (with or without a header), a 3D Slicer colour table or an ITK-SNAP label file. Value 0 is background.

    Raises:
        InputError: unreadable, or no names in it.
    """
    files.read_head(path, "names file")  # no pipe, no device, not empty
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The names file `{path}` cannot be read as text: {error}.", NEEDED) from error
    suffix = path.suffix.lower()
    if suffix == ".json":
        pairs = _json_names(path, text)
    elif suffix in (".csv", ".tsv"):
        pairs = _csv_names(text, "\t" if suffix == ".tsv" else None)
    else:
        pairs = _table_names(text)
    found = tuple(Segment(name.strip(), value) for value, name in sorted(pairs.items()) if value > 0 and name.strip())
    if not found:
        raise InputError(f"The names file `{path}` names no label above 0.", NEEDED)
    return found


def task_names(task: str) -> tuple[Segment, ...]:
    """The class numbers of a TotalSegmentator task, for a label map that lost its names.

    Raises:
        InputError: no such task.
    """
    tables: Any = importlib.import_module("totalsegmentator.map_to_binary").class_map
    if task not in tables:
        raise InputError(f"TotalSegmentator has no task `{task}`.", f"Its tasks are: {', '.join(sorted(tables))}.")
    return tuple(Segment(str(name), int(value)) for value, name in tables[task].items())


def _nifti_names(path: Path) -> tuple[Segment, ...]:
    nibabel: Any = importlib.import_module("nibabel")
    try:
        with nifti.unpacked(path) as file:
            head = file.read(_MAX_NAMES_BYTES)
        second = 540 in (int.from_bytes(head[:4], "little"), int.from_bytes(head[:4], "big"))
        kind = nibabel.Nifti2Header if second else nibabel.Nifti1Header
        extensions = kind.from_fileobj(BytesIO(head), check=False).extensions
    except Exception:  # nibabel raises many types; reading the voxels tells the user what is wrong
        return ()
    for extension in extensions:
        content = extension.get_content()
        raw = content if isinstance(content, bytes) else str(content).encode()
        if b"<CaretExtension" not in raw or b"<!ENTITY" in raw:
            continue
        try:
            root = ElementTree.fromstring(raw.strip(b"\x00 \r\n\t"))
        except ElementTree.ParseError:
            continue
        labels = ((label.text or "", label.get("Key", "")) for label in root.iter("Label"))
        return tuple(Segment(name.strip(), int(key)) for name, key in labels if key.isdigit() and int(key) > 0)
    return ()


def _slicer_names(path: Path) -> tuple[Segment, ...]:
    reader = simpleitk().ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError:  # reading the voxels tells the user what is wrong
        return ()
    fields = {key: str(reader.GetMetaData(key)).strip() for key in reader.GetMetaDataKeys()}
    found: list[Segment] = []
    for key, name in fields.items():
        match = re.fullmatch(r"Segment(\d+)_Name", key)
        if match is None or not name:
            continue
        number = match.group(1)
        value = fields.get(f"Segment{number}_LabelValue", str(int(number) + 1))
        layer = fields.get(f"Segment{number}_Layer", "0")
        if value.isdigit() and layer.isdigit():
            found.append(Segment(name, int(value), int(layer)))
    return tuple(sorted(found, key=lambda s: (s.layer, s.value, s.name)))


def _dicom_seg_names(path: Path) -> tuple[Segment, ...]:
    with dicom_header.quiet():
        dataset = dicom_header.read_dataset(path, stop_before_pixels=True)
    return tuple(Segment(str(s.SegmentLabel), int(s.SegmentNumber)) for s in dataset.get("SegmentSequence", ()))


def _json_names(path: Path, text: str) -> dict[int, str]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise InputError(f"The names file `{path}` is not valid JSON: {error}.", NEEDED) from error
    if isinstance(value, dict) and isinstance(value.get("labels"), (dict, list)):
        value = value["labels"]
    if isinstance(value, dict):
        return _pairs(value.items())
    if isinstance(value, list) and all(isinstance(item, dict) for item in value):
        return _pairs((_first(item, _VALUE_COLUMNS), _first(item, _NAME_COLUMNS)) for item in value)
    return {}


def _first(item: Mapping[str, object], keys: Iterable[str]) -> object:
    known = {re.sub(r"[^a-z]", "", key.lower()): value for key, value in item.items()}
    return next((known[key] for key in keys if key in known), None)


def _pairs(pairs: Iterable[tuple[object, object]]) -> dict[int, str]:
    """Value → name, whichever of the two comes first."""
    found: dict[int, str] = {}
    for item, other in pairs:
        for value, name in ((item, other), (other, item)):
            if isinstance(value, (int, str)) and str(value).strip().isdigit() and isinstance(name, str):
                found[int(value)] = name
                break
    return found


def _csv_names(text: str, delimiter: str | None) -> dict[int, str]:
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if not lines:
        return {}
    if delimiter is None:
        delimiter = max(",;\t", key=lines[0].count)
    rows = [[cell.strip() for cell in row] for row in csv.reader(StringIO("\n".join(lines)), delimiter=delimiter)]
    header = [re.sub(r"[^a-z]", "", cell.lower()) for cell in rows[0]]
    name_at = next((header.index(n) for n in _NAME_COLUMNS if n in header), None)
    value_at = next((header.index(n) for n in _VALUE_COLUMNS if n in header), None)
    if name_at is not None and value_at is not None:
        return _pairs((r[value_at], r[name_at]) for r in rows[1:] if len(r) > max(name_at, value_at))
    return _pairs((r[0], r[1]) for r in rows if len(r) > 1)


def _table_names(text: str) -> dict[int, str]:
    """ITK-SNAP: `1 255 0 0 1 1 1 "liver"`; 3D Slicer: `1 liver 221 130 101 255`, with _ for blanks."""
    found: dict[int, str] = {}
    for line in text.splitlines():
        quoted = re.fullmatch(r'\s*(\d+)\s[\d.\s]*"(.*)"\s*', line)
        plain = re.fullmatch(r"\s*(\d+)\s+(\S*[^\s\d.]\S*)((?:\s+[\d.]+){0,4})\s*", line)
        match = quoted or plain
        if match is not None and not line.lstrip().startswith("#"):
            found[int(match.group(1))] = match.group(2)
    return found
