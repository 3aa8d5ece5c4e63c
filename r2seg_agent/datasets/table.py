"""A table of cases: CSV with a header line, or JSON lines."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import ValidationError

from r2seg_agent.datasets.case import Case
from r2seg_agent.datasets.csv_file import read_csv, read_text
from r2seg_agent.errors import InputError
from r2seg_agent.imaging.channels import parse_channels
from r2seg_agent.imaging.files import file_of

TABLE_SUFFIXES = (".csv", ".jsonl", ".ndjson")
_OWN = tuple(name for name in Case.model_fields if name != "further")
COLUMNS = ", ".join(_OWN)
MAX_FURTHER = 100
"""Further columns of one table."""


def read_table(path: Path) -> tuple[tuple[Case, ...], tuple[str, ...]]:
    """The cases of a table and remarks on them. Columns that r2seg does not know are kept (`Case.further`).

    A scan that is missing stays a case: its row in the results will say so, and the others run. Raises `InputError`,
    with the line, for a row without image, a column that looks like a misspelt one, a row given twice, or when every
    scan is missing.
    """
    rows = _csv_rows(path) if path.suffix.lower() == ".csv" else _json_rows(path)
    cases: list[Case] = []
    seen: dict[str, int] = {}
    missing: list[tuple[int, str]] = []
    for number, row in rows:
        case = _case(path, number, row)
        key = case.model_dump_json(exclude={"further"})
        if key in seen:
            raise InputError(
                f"`{path}` line {number} repeats line {seen[key]} (`{case.image}`)", "Remove one of the two rows."
            )
        seen[key] = number
        if not file_of(case.image).exists():
            missing.append((number, case.image))
        cases.append(case)
    further = tuple(dict.fromkeys(name for case in cases for name in case.further))
    if len(further) > MAX_FURTHER:
        raise InputError(
            f"`{path}` has {len(further)} further columns", f"At most {MAX_FURTHER} are kept; remove some."
        )
    notes = (f"Further columns, kept for the results: {', '.join(further)}.",) if further else ()
    if not missing:
        return tuple(cases), notes
    first = f"line {missing[0][0]}: the scan `{missing[0][1]}` does not exist"
    if len(missing) == len(cases):
        raise InputError(f"`{path}` {first}" + (", nor any other" if len(cases) > 1 else ""), "Check the paths.")
    return tuple(cases), (
        *notes,
        f"{len(missing)} of {len(cases)} scans are missing; {first}.",
    )


def _case(path: Path, number: int, row: Mapping[str, object]) -> Case:
    if not row.get("image"):
        raise InputError(f"`{path}` line {number} has no `image`", f"Columns: {COLUMNS}.")
    own = {name: value for name, value in row.items() if name in _OWN}
    further = {name: _as_text(value) for name, value in row.items() if name not in _OWN}
    for name in further:
        near = difflib.get_close_matches(name.strip().casefold(), _OWN, n=1, cutoff=0.8)
        if near:
            raise InputError(
                f"`{path}` has a column `{name}`; did you mean `{near[0]}`?",
                f"Rename it. r2seg's own columns are {COLUMNS}; others are kept for the results.",
            )
    given = {"patient": str(row["image"]), **own, "further": further}
    if isinstance(channels := given.get("channels"), str):
        given["channels"] = parse_channels([part for part in channels.split(";") if part.strip()])
    try:
        case = Case.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(f"`{path}` line {number}: `{where}`: {first['msg']}", f"Columns: {COLUMNS}.") from error
    resolved: dict[str, object] = {
        name: _beside(path, value)
        for name in ("image", "truth", "anchors")
        if (value := getattr(case, name)) is not None
    }
    resolved["channels"] = {name: _beside(path, value) for name, value in case.channels.items()}
    return case.model_copy(update=resolved)


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _csv_rows(path: Path) -> Iterable[tuple[int, Mapping[str, object]]]:
    for number, row in read_csv(path).rows:
        yield number, {key: value for key, value in row.items() if key and value != ""}


def _json_rows(path: Path) -> Iterable[tuple[int, Mapping[str, object]]]:
    for number, line in enumerate(read_text(path, "JSON, one object a line").split("\n"), start=1):
        if line.strip():
            try:
                row: object = json.loads(line)
            except ValueError as error:
                raise InputError(f"`{path}` line {number} is not JSON: {error}", "One object a line.") from error
            if not isinstance(row, dict):
                raise InputError(f"`{path}` line {number} is not a JSON object", "One object a line.")
            yield number, row


def _beside(table: Path, value: str) -> str:
    """`value` beside the table where such a file is there, also in front of `::2` or `=liver`; a name such as
    `hounsfield` stays what it is."""
    if Path(value).is_absolute():
        return value
    for path, rest in ((value, ""), *_cut(value, "::"), *_cut(value, "=")):
        if path and (table.parent / path).exists():
            return str(table.parent / path) + rest
    return value


def _cut(value: str, separator: str) -> tuple[tuple[str, str], ...]:
    path, found, rest = value.partition(separator)
    return ((path, found + rest),) if found else ()
