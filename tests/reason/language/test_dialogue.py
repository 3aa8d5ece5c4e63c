"""What messages ask for: one row of `dialogue.tsv` per phrase, and the rules that hold for all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2seg_agent.reason.language.dialogue import (
    Find,
    FindingRow,
    Include,
    Intent,
    RejectedRow,
    Remark,
    SetAlpha,
    Show,
    Table,
    TargetRow,
    Which,
    Widen,
    read_message,
)
from r2seg_agent.reason.language.dialogue.spelling import joined, read_tokens
from r2seg_agent.reason.language.plan_request import plan_request

ROWS = [
    tuple(line.split("\t"))
    for line in Path(__file__).with_name("dialogue.tsv").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]
REQUESTS = [
    line.split("\t")[0]
    for line in Path(__file__).with_name("requests.tsv").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]

_LUNGS = TargetRow(
    number=1,
    concept="lung_nodule",
    name="lung nodule",
    anchors=("lung_left", "lung_right"),
    outcome="lesions_found",
    rounds=1,
)
_PLACES = (
    ("right lung, upper third, posterior, 6 mm from its surface", 1.36),
    ("left lung, lower third, posterior, lateral, at its surface", 0.4),
    ("left lower lobe of lung, middle third, anterior, 3 mm from its surface", 2.1),
)
_FINDINGS = tuple(
    FindingRow(
        number=n, target=1, concept="lung_nodule", name="lung nodule", place=place, size=f"{ml} ml", volume_ml=ml
    )
    for n, (place, ml) in enumerate(_PLACES, 1)
)
_REJECTED = tuple(
    RejectedRow(number=n, id=f"t1r1c{n + 3}", target=1, volume_ml=5.0 / n, why="looks like normal tissue")
    for n in range(1, 5)
)
_PANCREAS = TargetRow(
    number=1,
    concept="pancreatic_lesion",
    name="lesion of pancreas",
    anchors=("pancreas",),
    outcome="no_lesion_survived",
    rounds=2,
)
TABLES = {
    "fresh": Table(modality="CT"),
    "lung": Table(modality="CT", targets=(_LUNGS,), findings=_FINDINGS, rejected=_REJECTED),
    "one": Table(modality="CT", targets=(_LUNGS,), findings=_FINDINGS[:1], rejected=_REJECTED),
    "none": Table(modality="CT", targets=(_PANCREAS,), rejected=_REJECTED),
}
"""Nothing searched yet; three nodules (right, left, left); one; none survived."""

COUNTING = {"first", "second", "third", "fourth", "fifth", "one", "two", "three", "four", "five", "ten"}


def compact(intent: Intent) -> str:
    """An intent in one short line."""
    name = type(intent).__name__.lower()
    match intent:
        case Find(phrase):
            return f"find <{phrase}>"
        case Remark(topic, _):
            return f"remark {topic}"
        case SetAlpha(alpha):
            return f"alpha {alpha:g}"
        case Widen(target):
            return f"widen {target or 'current'}"
        case Include(organs, _):
            return f"include {' '.join(organs)}"
        case Show(which, plane, region):
            return " ".join(filter(None, ("show", _about(which), plane, "region" if region else "")))
    which = getattr(intent, "which", None)
    return name if which is None else f"{name} {_about(which)}"


def _about(which: Which) -> str:
    what = which.candidate or " ".join(map(str, which.numbers)) or "*"
    mark = " !" if which.missing else " ?" if which.unsure else ""
    return f"{'rejected ' if which.kind == 'rejected' else ''}{what}{mark}"


@pytest.mark.parametrize(("table", "message", "asks"), ROWS, ids=[f"{row[0]}: {row[1]}" for row in ROWS])
def test_a_message_is_understood(table: str, message: str, asks: str) -> None:
    assert " | ".join(compact(intent) for intent in read_message(message, TABLES[table])) == asks


@pytest.mark.parametrize("request_text", [text for text in REQUESTS if text.strip()])
def test_a_first_request_is_handed_to_the_planning_rules_as_it_is(request_text: str) -> None:
    """The conversation rules must not come between a request and the rules that plan it."""
    found = [intent for intent in read_message(request_text, Table(modality="CT")) if isinstance(intent, Find)]
    assert len(found) == 1
    assert _planned(found[0].phrase) == _planned(request_text)


def _planned(text: str) -> tuple[object, ...]:
    plans = plan_request(text, "CT").plans
    return tuple((plan.target, plan.laterality, plan.anchors) for plan in plans) or ("asked back",)


@pytest.mark.parametrize("table", sorted(TABLES))
@given(
    message=st.text(max_size=60)
    | st.lists(st.sampled_from(sorted({w for row in ROWS for w in row[1].split()}))).map(" ".join)
)
def test_no_text_breaks_the_rules_or_names_a_finding_that_does_not_exist_unasked(table: str, message: str) -> None:
    numbers = {row.number for row in TABLES[table].findings}
    words = joined(read_tokens(message)).split()
    counted = any(c.isdigit() for c in "".join(words)) or bool(COUNTING & set(words))
    for intent in read_message(message, TABLES[table]):
        which = getattr(intent, "which", None)
        if which is not None and which.kind == "finding" and not counted:
            assert set(which.numbers) <= numbers


def test_it_is_the_finding_that_was_spoken_of_last() -> None:
    table = replace(TABLES["lung"], focus=3)
    assert [compact(i) for i in read_message("how big is it, and where are the others?", table)] == [
        "describe 3",
        "locate 1 2",
    ]


def test_equally_large_findings_are_asked_back() -> None:
    rows = tuple(replace(row, volume_ml=1.0) for row in TABLES["lung"].findings)
    table = replace(TABLES["lung"], findings=rows)
    assert compact(read_message("show the biggest one", table)[0]) == "show 1 2 3 ?"


def test_an_organ_that_was_searched_is_spoken_of_and_a_new_one_is_searched() -> None:
    assert compact(read_message("what about the lungs?", TABLES["lung"])[0]) == "same 1 2 3 ?"
    assert isinstance(read_message("what about the spleen?", TABLES["lung"])[0], Find)


def test_a_long_message_is_read_up_to_a_bound() -> None:
    intents = read_message("how big is it? where is it? " * 2000, TABLES["one"])
    assert len(intents) == 2  # the same ask twice is one
