"""The findings table and what a report shows of itself in Python."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable
from html import escape

import numpy as np
import pytest

from r2seg_agent.errors import InputError, MissingDependencyError
from r2seg_agent.method.models import FindingSource
from r2seg_agent.outcomes import DISCLAIMER
from r2seg_agent.report.models import Report
from r2seg_agent.report.table_rows import COLUMNS, csv_text, findings_csv, read_findings_csv

ORDER = (
    "run", "case", "patient", "target", "finding", "place", "volume_ml", "longest_diameter", "perpendicular_diameter",
    "diameter_unit", "slice", "probability", "score", "p", "q", "reference_share",
    "reference_n", "decision",
)  # fmt: skip


@pytest.fixture
def report(make_report: Callable[..., Report], labels: np.ndarray) -> Report:
    """Two findings, by a mode whose p-values are not valid."""
    return make_report(labels)


def valid(report: Report) -> Report:
    """The same report by a mode whose p-values are valid."""
    assert report.reject is not None
    return report.model_copy(update={"reject": report.reject.model_copy(update={"valid": True})})


def test_the_columns_have_one_order() -> None:
    assert COLUMNS == ORDER


def test_the_rows_are_the_findings(report: Report) -> None:
    rows = report.rows(patient="p1")
    assert report.image is not None
    assert [row.finding for row in rows] == [finding.number for finding in report.findings]
    for row, finding in zip(rows, report.findings, strict=True):
        assert (row.run, row.case, row.patient) == (report.run_id, report.image.name, "p1")
        assert (row.volume_ml, row.slice) == (finding.measurements.volume_ml, finding.measurements.diameter_slice + 1)
        assert row.score == finding.candidate.score


def test_p_is_empty_unless_it_is_valid(report: Report) -> None:
    assert report.reject is not None
    assert not report.reject.valid
    assert any(finding.candidate.p is not None for finding in report.findings)
    assert all(row.p is None and row.q is None for row in report.rows())
    assert all(finding.p is None for finding in report.findings)
    assert [f.p for f in valid(report).findings] == [f.candidate.p for f in report.findings]
    assert [row.q for row in valid(report).rows()] == [f.candidate.q for f in report.findings]


def test_a_table_is_read_back_as_it_was(report: Report) -> None:
    text = findings_csv(valid(report).rows())
    assert tuple(next(csv.reader(io.StringIO(text)))) == COLUMNS
    assert read_findings_csv(text, patient="p1") == valid(report).rows(patient="p1")
    assert read_findings_csv(findings_csv(report.rows()), patient="") == report.rows()
    with pytest.raises(ValueError, match="columns"):
        read_findings_csv("a,b\n1,2\n", patient="")


def test_a_text_that_a_spreadsheet_would_run_is_quoted() -> None:
    assert csv_text(("a",), [{"a": "=1+1"}, {"a": -1.5}, {"a": None}]) == 'a\n\'=1+1\n-1.5\n""\n'


def test_a_data_frame_has_the_same_rows(report: Report) -> None:
    pandas = pytest.importorskip("pandas")
    frame = report.to_dataframe()
    assert tuple(frame.columns) == COLUMNS
    assert list(frame["finding"]) == [finding.number for finding in report.findings]
    assert isinstance(frame, pandas.DataFrame)


def test_without_pandas_the_error_names_the_extra(report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingDependencyError, match=r"r2seg-agent\[pandas\]"):
        report.to_dataframe()


def test_what_a_report_shows_is_short_and_says_what_it_is_not(report: Report) -> None:
    for text in (repr(report), str(report)):
        assert len(text) < 600
        assert DISCLAIMER in text
        assert report.run_id in text
    assert repr(report.findings[0]).startswith("Finding(1: ")
    assert DISCLAIMER in report.findings[0]._repr_html_()
    assert DISCLAIMER in report.summary()
    assert report.findings[0].place in report.summary()
    assert report.warnings
    for caution in report.warnings:
        assert caution.text in report.summary()
        assert escape(caution.text) in report._repr_html_()


def test_html_holds_no_markup_of_the_data(report: Report) -> None:
    bad = "<script>alert('x')</script>"
    first = report.targets[0]
    found = first.findings[0].model_copy(
        update={"target_name": bad, "measurements": first.findings[0].measurements.model_copy(update={"place": bad})}
    )
    evil = report.model_copy(
        update={"request": bad, "answer": bad, "targets": (first.model_copy(update={"findings": (found,)}),)}
    )
    for page in (evil._repr_html_(), evil.findings[0]._repr_html_()):
        assert "<script" not in page
        assert "&lt;script&gt;" in page
        assert DISCLAIMER in page


def test_a_report_without_its_run_says_where_masks_are(report: Report) -> None:
    read = Report.model_validate_json(report.model_dump_json())
    assert read == report
    for ask in (read.lesions, read.findings[0].mask):
        with pytest.raises(InputError, match="without its run"):
            ask()


def test_where_a_finding_is_read_from_is_no_part_of_what_it_says(report: Report) -> None:
    (first, *_) = report.findings
    assert first == report.targets[0].findings[0]
    assert first.of_run(FindingSource(p_valid=True)) == first
    assert first.model_dump_json() == report.targets[0].findings[0].model_dump_json()
    assert first.bounding_box == first.measurements.box
