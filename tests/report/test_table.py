"""The terminal's tables hold the report's numbers and cannot be broken by text from outside."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from r2seg_agent.report.table import findings_table, rejected_table, truth_table
from r2seg_agent.report.truth import evaluate


def printed(table, width: int = 120) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(table)
    text = console.file.getvalue()
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    return text


@pytest.mark.parametrize("width", [80, 120, 200])
def test_findings_fit_the_terminal(make_report, labels, width):
    text = printed(findings_table(make_report(labels)), width)
    for part in ("2.30 ml", "−850 HU", "0.93", "< 0.001", "0.0321", "paper"):
        assert part in text


def test_the_table_says_when_p_controls_nothing(make_report, labels):
    text = printed(findings_table(make_report(labels)))
    assert "p*" in text
    assert "* not FDR-valid in paper mode" in text
    assert "*" not in printed(findings_table(make_report(labels, valid=True)))


def test_rejected_candidates_are_grouped_by_reason(make_report, labels):
    text = printed(rejected_table(make_report(labels, found=False)))
    assert "flat, like a rim" in text
    assert "t1r1c1" in text
    assert "t1r1c2" not in text  # one row per reason, the nearest to being kept


def test_markup_in_a_place_is_only_text(make_report, labels):
    report = make_report(labels)
    finding = report.findings[0]
    m = finding.measurements.model_copy(update={"place": "[bold]x[/bold][/red]"})
    target = report.targets[0].model_copy(update={"findings": (finding.model_copy(update={"measurements": m}),)})
    assert "[bold]x" in printed(findings_table(report.model_copy(update={"targets": (target,)})), 200)


def test_truth(make_report, labels, volume):
    report = make_report(labels)
    with pytest.raises(ValueError, match="not compared"):
        truth_table(report)
    truth = evaluate(labels, (labels == 1).astype("uint8"), volume.geometry)
    text = printed(truth_table(report.model_copy(update={"truth": truth})))
    assert "Dice 0.83, sensitivity 1.00, precision 0.71, 1 false finding" in " ".join(text.split())


def test_a_long_table_is_cut_and_says_so(make_report, labels):
    report = make_report(labels)
    again = [f.model_copy(update={"number": 2 * i + f.number}) for i in range(5) for f in report.targets[0].findings]
    target = report.targets[0].model_copy(update={"findings": tuple(again)})
    report = report.model_copy(update={"targets": (target,)})
    n = len(report.findings)
    assert f"{n - 2} more findings in report.md" in printed(findings_table(report, limit=2))
    assert "more findings" not in printed(findings_table(report, limit=n))


def test_no_target_is_cut_from_a_long_table_and_new_findings_can_be_shown_alone(make_report, labels):
    report = make_report(labels)
    first = report.targets[0]
    many = [f.model_copy(update={"number": 2 * i + f.number}) for i in range(9) for f in first.findings]
    other = {"target": "rib_lesion", "target_name": "lesion of rib"}
    later = [f.model_copy(update={"number": 18 + f.number, **other}) for f in first.findings]
    plan = first.plan.model_copy(update=other)
    second = first.model_copy(update={"findings": (*later, many[0].model_copy(update=other)), "plan": plan})
    report = report.model_copy(update={"targets": (first.model_copy(update={"findings": tuple(many)}), second)})
    assert len(report.findings) == 20  # the one that both targets have counts once
    text = printed(findings_table(report, limit=4), 200)
    assert [n for n in range(1, 21) if f" {n}  " in text] == [1, 2, 19, 20]
    assert "16 more findings in report.md" in text
    assert "lung nodule, lesion of rib" in text
    new = printed(findings_table(report, 12, {19, 20}, rest="with /findings"), 200)
    assert [n for n in range(1, 21) if f" {n}  " in new] == [19, 20]
    assert "18 more findings with /findings" in new
