"""A table of cases: what stands in it arrives as it stands, or is an error with its line."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from r2seg_agent.batch.row import CaseRow, make_jobs
from r2seg_agent.batch.table import write_table
from r2seg_agent.datasets.table import read_table
from r2seg_agent.errors import InputError
from r2seg_agent.report.table_rows import csv_text
from r2seg_agent.runs.options import RunOptions


def _table(folder: Path, text: str, name: str = "cases.csv") -> Path:
    (folder / "a.nii.gz").write_bytes(b"")
    (folder / "b.nii.gz").write_bytes(b"")
    path = folder / name
    path.write_bytes(text.encode())
    return path


def test_further_columns_are_kept_for_the_results(tmp_path: Path) -> None:
    text = "image,site,status,=note\na.nii.gz,Berlin,good,\t=2+2\nb.nii.gz,,bad,x\n"
    cases, notes = read_table(_table(tmp_path, text))
    assert cases[0].further == {"site": "Berlin", "status": "good", "=note": "\t=2+2"}
    assert "site, status, =note" in notes[0]
    rows = [
        CaseRow(number=n, key=str(n), image=c.image, patient=c.patient, request="", status="done", further=c.further)
        for n, c in enumerate(cases, start=1)
    ]
    write_table(tmp_path, rows, {})
    with (tmp_path / "results.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [row["site"] for row in found] == ["Berlin", ""]
    assert [row["table_status"] for row in found] == ["good", "bad"]
    assert [row["status"] for row in found] == ["done", "done"]
    assert found[0]["'=note"] == "'\t=2+2"


def test_further_columns_change_no_job(tmp_path: Path) -> None:
    plain, _ = read_table(_table(tmp_path, "image\na.nii.gz\n"))
    noted, _ = read_table(_table(tmp_path, "image,site\na.nii.gz,Berlin\n"))
    options = RunOptions(segmenter="contrast")
    assert make_jobs(plain, "find", options)[0].key == make_jobs(noted, "find", options)[0].key


def test_further_values_of_json_lines_are_kept_too(tmp_path: Path) -> None:
    cases, _ = read_table(_table(tmp_path, '{"image": "a.nii.gz", "age": 61, "note": "x\u2028y"}\n', "cases.jsonl"))
    assert cases[0].further == {"age": "61", "note": "x\u2028y"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('image,patient\n"a.nii\n.gz",p\n', "line 3.*line break"),
        ('image,patient\n"a.nii\r\n.gz",p\n', "line break"),
        ("image,patient\na.nii.gz,p\x00q\n", "control character|not CSV"),
        ("image,patient\na.nii.gz,p,q\n", "line 2 has 3 cells, the heading 2"),
        ('image,patient\n"a.nii.gz,p\nb.nii.gz,q\n', "not CSV|line break"),
        ("image,image\na.nii.gz,b.nii.gz\n", "two columns `image`"),
        ("image,requests\na.nii.gz,find it\n", "did you mean `request`"),
        ("image,Anchor\na.nii.gz,x\n", "did you mean `anchors`"),
    ],
)
def test_what_does_not_stand_as_it_looks_is_an_error(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_table(_table(tmp_path, text))


def test_a_line_separator_of_unicode_ends_no_row(tmp_path: Path) -> None:
    cases, _ = read_table(_table(tmp_path, "image,patient,note\na.nii.gz,p\u2028q,x\x85y\nb.nii.gz,r,\n"))
    assert [case.patient for case in cases] == ["p\u2028q", "r"]
    assert cases[0].further == {"note": "x\x85y"}


@pytest.mark.parametrize("blank", ["", " ", "\t", "\r", "\n", "\u00a0", "\u3000", "\ufeff", "\u200b", " \t "])
@pytest.mark.parametrize("start", ["=2+2", "+1", "-1", "@SUM(A1)", "\uff1d2+2"])
def test_formulas_are_quoted_whatever_stands_before_them(blank: str, start: str) -> None:
    (_, (cell,)) = csv.reader(io.StringIO(csv_text(["a"], [{"a": blank + start}]), newline=""))
    assert cell == f"'{blank}{start}"


def test_numbers_and_words_stay() -> None:
    assert csv_text(["a", "b", "c"], [{"a": -1.5, "b": "liver - left", "c": None}]) == "a,b,c\n-1.5,liver - left,\n"
