"""Cases of a data set: one row per scan, from a CSV or JSONL table or a folder of scans."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import ValidationError

from r2seg_agent.errors import InputError
from r2seg_agent.frozen import Frozen

IMAGE_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd", ".dcm", ".png", ".jpg", ".jpeg", ".tif", ".tiff")
"""File names in a folder that are taken for scans."""


class Case(Frozen):
    """One scan of a data set. Paths are as the user gave them, those of a table relative to the table's folder.

    `patient` groups scans of one person; without it each scan counts as a person of its own.
    """

    image: str
    patient: str
    request: str | None = None
    anchors: str | None = None
    truth: str | None = None
    modality: str | None = None
    series: str | None = None


def read_cases(path: Path) -> tuple[Case, ...]:
    """The cases that `path` lists (`.csv`, `.jsonl`) or holds (a folder: each scan file, each DICOM folder).

    Columns: `image` (needed), `patient`, `request`, `anchors`, `truth`, `modality`, `series`. Raises `InputError` for
    another file, a row without image, an unknown column, a missing scan, or no case at all; it names the row.
    """
    if path.is_dir():
        cases = _in_folder(path)
    elif path.suffix.lower() == ".csv":
        cases = _parse(path, _csv_rows(path))
    elif path.suffix.lower() in (".jsonl", ".ndjson"):
        cases = _parse(path, _json_rows(path))
    elif path.exists():
        raise InputError(f"`{path}` is no list of cases", "Give a .csv or .jsonl table, or a folder of scans.")
    else:
        raise InputError(f"`{path}` does not exist", "Give a .csv or .jsonl table, or a folder of scans.")
    if not cases:
        raise InputError(f"`{path}` holds no case", f"Scans end in {', '.join(IMAGE_SUFFIXES)}, or are DICOM folders.")
    return cases


def _in_folder(folder: Path) -> tuple[Case, ...]:
    found = []
    for path in sorted(folder.iterdir()):
        is_scan = path.is_file() and path.name.lower().endswith(IMAGE_SUFFIXES)
        is_series = path.is_dir() and any(p.is_file() and not p.name.startswith(".") for p in path.iterdir())
        if not path.name.startswith(".") and (is_scan or is_series):
            found.append(Case(image=str(path), patient=path.name))
    return tuple(found)


def _csv_rows(path: Path) -> Iterable[tuple[int, Mapping[str, object]]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read `{path}`: {error}", "Save it as UTF-8 CSV with a header line.") from error
    rows = csv.DictReader(text.splitlines())
    for row in rows:
        yield rows.line_num, {key: value for key, value in row.items() if key is not None and value not in (None, "")}


def _json_rows(path: Path) -> Iterable[tuple[int, Mapping[str, object]]]:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if line.strip():
            try:
                row: object = json.loads(line)
            except ValueError as error:
                raise InputError(f"`{path}` line {number} is not JSON: {error}", "One object a line.") from error
            if not isinstance(row, dict):
                raise InputError(f"`{path}` line {number} is not a JSON object", "One object a line.")
            yield number, row


def _parse(path: Path, rows: Iterable[tuple[int, Mapping[str, object]]]) -> tuple[Case, ...]:
    cases = []
    for number, row in rows:
        if not row.get("image"):
            raise InputError(f"`{path}` line {number} has no `image`", f"Columns: {', '.join(Case.model_fields)}.")
        given = {"patient": str(row["image"]), **row}
        try:
            case = Case.model_validate(given)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise InputError(
                f"`{path}` line {number}: `{where}`: {first['msg']}", f"Columns: {', '.join(Case.model_fields)}."
            ) from error
        resolved = {
            name: _beside(path, value)
            for name in ("image", "truth", "anchors")
            if (value := getattr(case, name)) is not None
        }
        case = case.model_copy(update=resolved)
        if not Path(case.image).exists():
            raise InputError(f"`{path}` line {number}: the scan `{case.image}` does not exist", "Check the path.")
        cases.append(case)
    return tuple(cases)


def _beside(table: Path, value: str) -> str:
    """`value` beside the table where such a file is there; names such as `hounsfield` stay what they are."""
    beside = table.parent / value
    return str(beside) if not Path(value).is_absolute() and beside.exists() else value
