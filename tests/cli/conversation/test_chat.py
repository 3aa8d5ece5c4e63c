"""`r2seg chat` as scripts and people use it: whole conversations over a small synthetic scan."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from helpers.phantoms import liver_phantom

from r2seg_agent.cli.main import main
from r2seg_agent.imaging.itk import write_itk
from r2seg_agent.imaging.write import write_label_map
from r2seg_agent.runs.api import reopen

Scan = dict[str, str]


class Ran(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def session(self) -> str:
        found = re.search(r"session (chat-\w+)", self.out)
        assert found is not None, self.out
        return found[1]

    def after(self, line: str) -> str:
        """What came between a typed line and the next."""
        return self.out.partition(f"› {line}\n")[2].partition("\n› ")[0]


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Scan:
    folder = tmp_path_factory.mktemp("scan")
    phantom = liver_phantom()
    write_itk(folder / "ct.nrrd", np.asarray(phantom.volume.array), phantom.volume.geometry)
    write_label_map(folder / "organs.nii.gz", phantom.labels, phantom.volume.geometry, names=phantom.class_names)
    return {name.split(".")[0]: str(folder / name) for name in ("ct.nrrd", "organs.nii.gz")}


Talk = Callable[..., Ran]


@pytest.fixture
def talk(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, scan: Scan) -> Talk:
    """`r2seg chat` with these lines on stdin; without `arguments` on the liver scan."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*lines: str, arguments: tuple[str, ...] | None = None) -> Ran:
        given = (scan["ct"], "--anchors", scan["organs"], "--modality", "CT") if arguments is None else arguments
        monkeypatch.setattr(sys, "argv", ["r2seg", "chat", *given])
        monkeypatch.setattr("sys.stdin", io.StringIO("".join(line + "\n" for line in lines)))
        try:
            main()
            status = 0
        except SystemExit as stop:
            status = int(stop.code or 0)
        return Ran(status, *capsys.readouterr())

    return run


def test_a_conversation_in_a_script(talk: Talk, tmp_path: Path) -> None:
    ran = talk(
        "find a liver lesion",
        "how big is it?",
        "where exactly?",
        "/findings",
        "/plan",
        "/show 1 coronal",
        "what did you do so far?",
        "/show r1",
        "/export results",
        "/export page.html",
    )
    assert ran.status == 0, ran.err
    banner = ran.out.partition("›")[0]
    for words in ("offline planner", "stand-in", "contrast", "reference", "no guarantee", "not a medical device"):
        assert words in banner
    assert "finding" in ran.after("find a liver lesion")
    assert "ml" in ran.after("how big is it?")
    assert "liver" in ran.after("where exactly?")
    assert "long × perp." in ran.after("/findings")
    assert "lesion of liver" in ran.after("/plan")
    assert "coronal slice" in ran.after("/show 1 coronal")
    assert "rejected candidate 1, axial slice" in ran.after("/show r1")
    assert "<html" in (tmp_path / "page.html").read_text()
    picture = re.search(r"picture: (\S+\.png)", ran.after("/show 1 coronal"))
    assert picture is not None
    assert (tmp_path / picture[1]).read_bytes().startswith(b"\x89PNG")
    assert "· segment lesions, target 1" in ran.err, "progress is not part of the answer"
    assert "\x1b" not in ran.out + ran.err
    report = json.loads((tmp_path / "results" / "report.json").read_text())
    assert len(report["targets"][0]["findings"]) >= 1
    assert {"report.md", "lesions.nii.gz", "trace.jsonl"} <= {path.name for path in (tmp_path / "results").iterdir()}


def test_rejected_candidates_are_counted_as_the_table_shows_them(talk: Talk) -> None:
    ran = talk("find a liver lesion", "/rejected", "why did you reject the second one?")
    assert ran.status == 0, ran.err
    rows = re.findall(r"^ *(\d+) +t\d+r\d+c\d+ +([\d.]+ ml)", ran.after("/rejected"), re.MULTILINE)
    assert [number for number, _ in rows] == [str(n + 1) for n in range(len(rows))]
    assert len({volume for _, volume in rows}) > 1
    assert "Rejected candidate 2 (" in ran.after("why did you reject the second one?")
    assert rows[1][1] in ran.after("why did you reject the second one?")


def test_a_level_is_changed_and_taken_back(talk: Talk, scan: Scan) -> None:
    given = (scan["ct"], "--anchors", scan["organs"], "--modality", "CT", "--reject", "paper")
    ran = talk("find a liver lesion", "/alpha 0.01", "/alpha", "/undo", "/alpha", arguments=given)
    assert ran.status == 0, ran.err
    levels = re.findall(r"level of the rejection test is ([\d.]+)\.", ran.out)
    assert levels == ["0.01", "0.05"]


def test_where_candidates_are_ranked_there_is_no_level_to_change(talk: Talk) -> None:
    ran = talk("find a liver lesion", "use alpha 0.2")
    assert ran.status == 0, ran.err
    assert "This run has no level alpha" in ran.after("use alpha 0.2")
    assert "--false-findings" in ran.after("use alpha 0.2")


def test_what_cannot_be_located_is_said_and_the_conversation_goes_on(talk: Talk, scan: Scan) -> None:
    given = (scan["ct"], "--anchors", "hounsfield", "--modality", "CT")
    ran = talk("find a liver lesion", "what did you do so far?", arguments=given)
    assert ran.status == 2, ran.err
    assert "That is not possible: HU anchors cannot find `liver`" in ran.after("find a liver lesion")
    assert "You asked: “find a liver lesion”" in ran.after("what did you do so far?")


def test_a_session_goes_on_where_it_was(talk: Talk) -> None:
    first = talk("find a liver lesion")
    assert f"r2seg chat --resume {first.session} continues it" in first.out
    ran = talk("how big is it?", arguments=("--resume", first.session))
    assert ran.status == 0, ran.err
    assert "1> find a liver lesion" in ran.out
    assert "ml" in ran.after("how big is it?")
    assert ran.session == first.session


def test_a_fork_goes_on_in_a_session_of_its_own(talk: Talk) -> None:
    ran = talk("find a liver lesion", "/fork 1", "/findings", "find a spleen lesion")
    assert ran.status == 0, ran.err
    forked = re.search(r"Now in session (chat-\w+), forked from (chat-\w+), as it was before turn 1", ran.out)
    assert forked is not None
    assert forked[2] == ran.session != forked[1]
    assert "Nothing was searched yet" in ran.after("/findings")
    assert f"--resume {forked[1]}" in ran.out
    again = talk("/findings", arguments=("--resume", ran.session))
    assert "long × perp." in again.after("/findings"), "the session that was forked from stays as it was"


def test_a_session_that_is_open_elsewhere_is_refused(talk: Talk, tmp_path: Path) -> None:
    first = talk("find a liver lesion")
    with reopen(first.session, tmp_path / ".r2seg"):
        ran = talk("how big is it?", arguments=("--resume", first.session))
        assert ran.status == 2
        assert "open in another process" in ran.err
        other = talk("what did you do so far?")
        assert other.status == 0, "another session in the same workspace is fine"


def test_a_question_is_answered_by_number(talk: Talk) -> None:
    ran = talk("find it", "1")
    assert ran.status == 0, ran.err
    choices = re.findall(r"^  (\d)  (.+)$", ran.after("find it"), re.MULTILINE)
    assert len(choices) >= 2
    assert "answer › 1" in ran.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "no scan was given"),
        (("missing.nii.gz",), "missing.nii.gz"),
        (("--resume", "chat-1"), "no runs"),
        (("--resume", "chat-1", "--segmenter", "contrast", "--alpha", "0.01"), "--segmenter, --alpha cannot be given"),
    ],
)
def test_what_cannot_be_opened_says_so(talk: Talk, arguments: tuple[str, ...], words: str) -> None:
    ran = talk("find it", arguments=arguments)
    assert ran.status == 2
    assert words in ran.err
    assert "Traceback" not in ran.err


def test_a_single_run_is_not_a_conversation(talk: Talk, scan: Scan, monkeypatch: pytest.MonkeyPatch) -> None:
    find = ["find", "find a liver lesion", "-i", scan["ct"], "-a", scan["organs"], "--modality", "CT", "--quiet"]
    monkeypatch.setattr(sys, "argv", ["r2seg", *find])
    with pytest.raises(SystemExit):
        main()
    (run,) = (Path(".r2seg") / "runs").iterdir()
    ran = talk("how big is it?", arguments=("--resume", run.name))
    assert ran.status == 2
    assert "is a single run, not a conversation" in ran.err


def test_a_script_ends_at_its_first_error_with_its_status(talk: Talk) -> None:
    ran = talk("/show", "find a liver lesion")
    assert ran.status == 2
    assert "nothing was searched yet" in ran.err
    assert "find a liver lesion" not in ran.out


@pytest.mark.parametrize(
    ("lines", "status", "said"),
    [
        (("find the unicorn",), 2, "Which lesion and organ do you mean?"),  # nobody answers
        (("find the unicorn", "liver lesion"), 0, "finding"),
        (("why did you reject the second one?",), 0, "Nothing was searched yet"),
        (("hello",), 0, ""),
    ],
)
def test_a_script_that_leaves_a_question_open_does_not_end_with_0(
    talk: Talk, lines: tuple[str, ...], status: int, said: str
) -> None:
    ran = talk(*lines)
    assert (ran.status, said in ran.out) == (status, True), ran.out


def test_a_script_whose_request_is_refused_does_not_end_with_0(
    talk: Talk, scan: Scan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TOTALSEG_HOME_DIR", str(tmp_path / "none"))
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(tmp_path / "none"))
    ran = talk("find a liver lesion", "how big is it?", arguments=(scan["ct"], "--anchors", "auto", "--modality", "CT"))
    assert ran.status == 2
    assert "weights cannot be used" in ran.out
    assert "› how big is it?" in ran.out  # the lines after it are read all the same
