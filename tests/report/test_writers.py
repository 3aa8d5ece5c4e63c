"""report.json is exact and stable, report.md says first what matters."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from r2seg_agent.reason.plan import Choice
from r2seg_agent.report.markdown import report_markdown
from r2seg_agent.report.models import Report
from r2seg_agent.report.truth import evaluate
from r2seg_agent.report.writers import report_schema, report_schema_text, write_report_json, write_report_md

DOCS = Path(__file__).parents[2] / "docs" / "develop"


def test_json_reads_back_exactly_and_is_the_same_bytes_twice(tmp_path, make_report, labels):
    report = make_report(labels)
    write_report_json(report, tmp_path / "a.json")
    write_report_json(Report.model_validate_json((tmp_path / "a.json").read_bytes()), tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert Report.model_validate_json((tmp_path / "a.json").read_bytes()) == report
    value = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert list(value) == sorted(value)


def test_a_report_is_valid_under_its_schema_and_a_broken_one_is_not(tmp_path, make_report, labels, volume):
    report = make_report(labels).model_copy(update={"truth": evaluate(labels, labels, volume.geometry)})
    write_report_json(report, tmp_path / "report.json")
    value = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    schema = report_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(value, schema)
    value["outcome"] = "cured"
    with pytest.raises(jsonschema.ValidationError, match="cured"):
        jsonschema.validate(value, schema)


def test_the_schema_in_the_docs_is_current():
    assert (DOCS / "report.schema.json").read_text(encoding="utf-8") == report_schema_text(), (
        "run: python -m r2seg_agent.report.schema docs/develop/report.schema.json"
    )


def test_markdown_answers_first_and_disclaims_at_once(make_report, labels):
    lines = [line for line in report_markdown(make_report(labels)).splitlines() if line]
    assert lines[0] == "# 2 findings for lung nodule."
    assert "not a medical device" in lines[1]


def test_markdown_names_stand_ins_mode_and_guarantee(make_report, labels):
    text = report_markdown(make_report(labels))
    assert "**Stand-ins, not trained models:** segmenter `contrast`, anchors `hounsfield`, planner `offline`." in text
    assert "Reject mode `paper`. **Not a controlled error rate.** voxels are not exchangeable" in text
    assert "not a p-value" in text
    assert "**Not a controlled" not in report_markdown(make_report(labels, valid=True))


def test_markdown_rows_hold_the_findings(make_report, labels):
    text = report_markdown(make_report(labels))
    (row,) = [line for line in text.splitlines() if line.startswith("| 1 | lung nodule |")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1:3] == ["lung nodule", "right lung, upper third, posterior, lateral, 8 mm from its surface"]
    assert cells[3:] == ["2.30 ml", "20.0 × 15.0 mm", "−850 HU", "0.93", "12.3", "&lt; 0.001", "0.0321", "paper"]


def test_markdown_without_findings_groups_what_was_rejected(make_report, labels):
    text = report_markdown(make_report(labels, found=False))
    assert "## Findings" not in text
    assert "The first round, as planned. Padding 10 mm around right lung, left lung: 2 candidates, 0 kept." in text
    assert "### Rejected: 2 candidates" in text
    assert "| 2 | flat, like a rim |" in text
    assert "too flat \\| &lt;b>rim&lt;/b>" in text  # a reason cannot break the table or become markup


def test_markdown_says_synthetic(make_report, labels):
    assert "SYNTHETIC" in report_markdown(make_report(labels, synthetic=True))
    assert "SYNTHETIC" not in report_markdown(make_report(labels))


def test_markdown_escapes_the_request(make_report, labels):
    report = make_report(labels).model_copy(update={"request": "find <script>x</script>\n# boo ![a](b)"})
    text = report_markdown(report)
    assert "<script>" not in text
    assert "\n# boo" not in text
    assert "![a]" not in text


def test_markdown_of_a_question_lists_the_choices(make_report, labels):
    choices = (
        Choice(kind="concept", text="liver lesion"),
        Choice(kind="concept", text="kidney lesion"),
        Choice(kind="finding", value="2", text="lesion of liver"),
    )
    report = make_report(labels).model_copy(update={"targets": (), "question": "Which organ?", "choices": choices})
    text = report_markdown(report)
    assert "## Question\n\nWhich organ?\n\n- liver lesion\n- kidney lesion\n- 2: lesion of liver" in text
    assert "overlay.png" not in text


def test_markdown_truth_table(tmp_path, make_report, labels, volume):
    truth = (labels == 1).astype("uint8")
    report = make_report(labels).model_copy(update={"truth": evaluate(labels, truth, volume.geometry)})
    write_report_md(report, tmp_path / "report.md")
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "| 1 | 2.30 ml | 1 | 1.00 | 1.00 | 1.00 |" in text
    assert "False findings (no voxel in common with the reference): 2." in text
