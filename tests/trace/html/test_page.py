"""The page of a run: everything in one file, nothing from outside, nothing that names a file of the user."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from helpers.traced_runs import Case

from r2seg_agent.errors import InputError
from r2seg_agent.report.decisions import full_reason
from r2seg_agent.trace.html.page import page, write_page
from r2seg_agent.trace.html.text import esc
from r2seg_agent.trace.html.timeline import ticks, timeline
from r2seg_agent.trace.run import TracedRun
from r2seg_agent.trace.story import turns_of

VOID = {"meta", "img", "br", "line", "rect"}


class Checker(HTMLParser):
    """Collects tags and attributes and checks that every tag is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def parsed(run: TracedRun) -> tuple[str, Checker]:
    text = page(run)
    checker = Checker()
    checker.feed(text)
    checker.close()
    assert not checker.open
    return text, checker


@pytest.mark.parametrize("name", ["found", "nothing", "modelled", "chat"])
def test_the_page_is_well_formed_and_takes_nothing_from_outside(runs: dict[str, TracedRun], name: str) -> None:
    text, checker = parsed(runs[name])
    assert not re.search(r"https?:|//[a-z]", re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", text))
    assert "<script" not in text
    assert "@import" not in text
    assert "url(" not in text
    for tag, attribute, value in checker.attributes:
        assert tag not in ("link", "script", "iframe", "object", "form")
        assert not attribute.startswith("on")
        if attribute == "src":
            assert value.startswith("data:image/png;base64,")
        if attribute == "href":
            assert value.startswith("#")


def test_links_lead_to_sections_that_exist(chat: TracedRun) -> None:
    _, checker = parsed(chat)
    ids = {value for _, name, value in checker.attributes if name == "id"}
    targets = {value[1:] for _, name, value in checker.attributes if name == "href"}
    assert targets <= ids
    assert {"findings", "turn1", "turn5", "means", "events"} <= targets


@pytest.mark.parametrize("name", ["found", "chat"])
def test_no_path_and_no_name_of_the_user_stands_in_it(runs: dict[str, TracedRun], name: str, case: Case) -> None:
    text = re.sub(r"base64,[A-Za-z0-9+/=]+", "", page(runs[name]))
    for secret in (str(case.image.parent), str(runs[name].folder.workspace), str(Path.home()), "john", r"\bDoe\b"):
        assert not re.search(secret, text, re.IGNORECASE), secret


def test_it_shows_plan_rounds_reasons_findings_pictures_and_times(found: TracedRun, chat: TracedRun) -> None:
    text, checker = parsed(found)
    words = " ".join(checker.text)
    report = found.report()
    assert report is not None
    for needed in ("not a medical device", "SYNTHETIC", "in liver, margin 10 mm", "not FDR-valid", "By which means"):
        assert needed in words, needed
    for finding in report.findings:
        assert finding.measurements.place in words
    first = report.targets[0].rounds[0]
    for candidate in first.candidates:
        assert candidate.id in words
        assert full_reason(candidate, first) in words
    assert found.finished is not None
    for sha256 in found.finished.files.values():
        assert sha256 in words
    assert text.count("<svg") == 1
    assert text.count("data:image/png") == 1
    assert page(chat).count("data:image/png") == 2  # the overlay, and the slice that was asked for


def test_nothing_found_is_said_with_all_rounds(nothing: TracedRun) -> None:
    words = " ".join(parsed(nothing)[1].text)
    assert "This is not proof of absence." in words
    report = nothing.report()
    assert report is not None
    for one in report.targets[0].rounds:
        assert f"Round {one.index}: " in words


def test_the_same_run_gives_the_same_page(found: TracedRun, tmp_path: Path) -> None:
    write_page(found, tmp_path / "a.html")
    write_page(found, tmp_path / "b.html")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["a.html", "b.html"]


def test_words_cannot_become_markup_or_links() -> None:
    assert esc('<script src="https://evil.example/x">\x1b[2J') == "&lt;script src=&quot;[link] [2J"
    assert esc("a < b & c\nd") == "a &lt; b &amp; c\nd"


def test_a_page_needs_a_current_trace(found: TracedRun, tmp_path: Path) -> None:
    old = TracedRun(found.folder, None, tuple(e.model_copy(update={"schema_version": "1"}) for e in found.events))
    with pytest.raises(InputError, match="version 1"):
        write_page(old, tmp_path / "a.html")


def test_a_timeline_has_one_bar_a_step_inside_the_drawing(runs: dict[str, TracedRun]) -> None:
    for run in runs.values():
        for turn in turns_of(run.events):
            drawing = timeline(turn.steps)
            timed = [step for step in turn.steps if step.is_tool or step.head.kind == "model_call"]
            bars = re.findall(r'<rect class="\w+" x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', drawing)
            assert len(bars) == len(timed)
            assert all(float(x) >= 190 and float(x) + float(width) <= 1000 for x, width in bars)
    assert timeline([]) == ""


@pytest.mark.parametrize("span", [0.001, 0.07, 1.0, 6.3, 59.0, 7200.0])
def test_ticks_are_round_and_few(span: float) -> None:
    marks = ticks(span)
    assert 3 <= len(marks) <= 9
    assert marks[0] == 0
    assert marks[-1] <= span * (1 + 1e-9)
