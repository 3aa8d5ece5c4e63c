"""Questions at the terminal, answered by number, in words, or not at all."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from helpers.phantoms import liver_phantom

from r2seg_agent.cli._ask import ask
from r2seg_agent.imaging.itk import write_itk
from r2seg_agent.imaging.write import write_label_map
from r2seg_agent.reason.language.choices import chosen
from r2seg_agent.runs.api import RunOptions, run_find

CHOICES = ("liver", "left kidney", "right kidney")


@pytest.mark.parametrize(
    ("answer", "meaning"),
    [
        ("1", "liver"),
        (" 3. ", "right kidney"),
        ("2)", "left kidney"),
        ("LIVER", "liver"),
        ("the  left one", "the left one"),
        ("4", "4"),
        ("0", "0"),
    ],
)
def test_an_answer_is_a_number_a_choice_or_words(answer: str, meaning: str) -> None:
    assert chosen(answer, CHOICES) == meaning


def test_yes_means_the_only_choice() -> None:
    assert chosen("yes", ("liver",)) == "liver"
    assert chosen("yes", CHOICES) == "yes"


@pytest.mark.parametrize(
    ("typed", "wanted"), [("2\n", "left kidney"), ("7\n1\n", "liver"), ("\n", None), ("", None), ("both\n", "both")]
)
def test_ask_reads_until_it_has_an_answer(
    typed: str, wanted: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    assert ask("Which organ?\x1b[2J", CHOICES) == wanted
    out, err = capsys.readouterr()
    assert out == "", "stdout is for results"
    assert "Which organ?" in err
    assert "\x1b[2J" not in err
    assert "2  left kidney" in err
    assert ("There is no choice 7" in err) == typed.startswith("7")


def test_find_goes_on_with_the_answer(tmp_path: Path) -> None:
    phantom = liver_phantom()
    write_itk(tmp_path / "ct.nrrd", np.asarray(phantom.volume.array), phantom.volume.geometry)
    write_label_map(tmp_path / "o.nii.gz", phantom.labels, phantom.volume.geometry, names=phantom.class_names)
    options = RunOptions(
        anchors=str(tmp_path / "o.nii.gz"), modality="CT", segmenter="contrast", workspace=tmp_path / "ws"
    )
    asked: list[str] = []

    def answer(question: str, choices: tuple[str, ...]) -> str:
        asked.append(question)
        return choices[0]

    report = run_find("find it", str(tmp_path / "ct.nrrd"), options, ask=answer).report
    assert len(asked) == 1
    assert report.outcome == "lesions_found"
    assert report.targets[0].plan.target_name == "lesion of liver"
