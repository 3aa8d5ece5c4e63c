"""The findings table: one row per finding, with one key and one set of columns for run, batch, evaluation, pandas."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from r2seg_agent.errors import MissingDependencyError
from r2seg_agent.frozen import Frozen
from r2seg_agent.method.models import Finding
from r2seg_agent.segment.candidates import Decision

if TYPE_CHECKING:
    from pandas import DataFrame

FINDINGS_FILE = "findings.csv"


class FindingRow(Frozen):
    """One finding. `run`, `case` and `finding` are its key in every table.

    `case` is the scan's pseudonym, never a path. `patient` is as the table's data set names it: empty for a single
    run, a hash in an evaluation. `volume_ml` is empty where the image states no spacing; the diameters are then in px.
    `slice` is the axial one in which they were measured, counted from 1 as viewers and the report do. `probability` is
    the segmenter's mean. `score` ranks and is no p-value; `p` and `q` are filled only where the Reject mode makes them
    valid. `reference_share` of `reference_n` findings of such a score were lesions in the reference set (reference mode
    only).
    """

    run: str
    case: str
    patient: str
    target: str
    finding: int
    place: str
    volume_ml: float | None
    longest_diameter: float
    perpendicular_diameter: float
    diameter_unit: Literal["mm", "px"]
    slice: int
    probability: float
    score: float | None
    p: float | None
    q: float | None
    reference_share: float | None
    reference_n: int | None
    decision: Decision


COLUMNS: tuple[str, ...] = tuple(FindingRow.model_fields)


def finding_rows(findings: Iterable[Finding], *, run: str, case: str, patient: str = "") -> tuple[FindingRow, ...]:
    """The rows of one report's `findings`, by number."""
    return tuple(
        FindingRow(
            run=run,
            case=case,
            patient=patient,
            target=finding.target,
            finding=finding.number,
            place=finding.place,
            volume_ml=finding.volume_ml,
            longest_diameter=finding.longest_diameter,
            perpendicular_diameter=finding.perpendicular_diameter,
            diameter_unit=finding.measurements.length_unit,
            slice=finding.measurements.diameter_slice + 1,
            probability=finding.probability,
            score=finding.score,
            p=finding.p,
            q=finding.q,
            reference_share=None if finding.reference is None else finding.reference.share,
            reference_n=None if finding.reference is None else finding.reference.n,
            decision=finding.candidate.decision,
        )
        for finding in sorted(findings, key=lambda finding: finding.number)
    )


def findings_csv(rows: Iterable[FindingRow]) -> str:
    """The table as CSV; what is unknown is an empty cell."""
    return csv_text(COLUMNS, (row.model_dump() for row in rows))


def read_findings_csv(text: str, *, patient: str) -> tuple[FindingRow, ...]:
    """The rows of a run's table, with the name that a data set has for its patient.

    Raises `ValueError` for a table of another form.
    """
    rows = csv.DictReader(io.StringIO(text))
    if tuple(rows.fieldnames or ()) != COLUMNS:
        raise ValueError(f"not a findings table: columns {rows.fieldnames}")
    optional = {"volume_ml", "score", "p", "q", "reference_share", "reference_n"}
    return tuple(
        FindingRow.model_validate(
            {name: None if name in optional and value == "" else value for name, value in row.items()}
            | {"patient": patient}
        )
        for row in rows
    )


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> str:
    """Rows as CSV with a heading, lines ended by a line feed; a text that a spreadsheet would run is quoted."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")  # a cell with either of the two is then put into quotation marks
    writer.writerow([not_a_formula(name) for name in columns])
    writer.writerows([not_a_formula(row.get(name)) for name in columns] for row in rows)
    return text.getvalue().replace("\r\n", "\n")


def to_dataframe(rows: Iterable[FindingRow]) -> DataFrame:
    """The table as a `pandas.DataFrame`; raises `MissingDependencyError` without pandas."""
    return dataframe(COLUMNS, (row.model_dump() for row in rows))


def dataframe(columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> DataFrame:
    """Any rows as a `pandas.DataFrame` with these columns; raises `MissingDependencyError` without pandas."""
    try:
        import pandas
    except ImportError as error:
        raise MissingDependencyError(
            "a table as a data frame needs the package `pandas`", "pip install 'r2seg-agent[pandas]'"
        ) from error
    return pandas.DataFrame(list(rows), columns=list(columns))


def not_a_formula(value: object) -> object:
    """A text that a spreadsheet would take for a formula is quoted, also behind blanks that it drops, and in the wide
    characters that some take for the same.
    """
    if not isinstance(value, str):
        return value
    bare = value.lstrip(_DROPPED)
    return f"'{value}" if bare[:1] in _FORMULA or value[:1] in ("\t", "\r", "\n") else value


_FORMULA = frozenset("=+-@＝＋－＠")
_DROPPED = "".join(
    chr(n) for n in (*range(33), 0x85, 0xA0, 0x1680, *range(0x2000, 0x2010), 0x2028, 0x2029, 0x202F, 0x3000, 0xFEFF)
)
