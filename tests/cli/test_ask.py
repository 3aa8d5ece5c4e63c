"""Questions at the terminal, answered by number, in words, or not at all."""

from __future__ import annotations

import io

import pytest

from r2seg_agent.cli._ask import ask, choose

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
    assert choose(answer, CHOICES) == meaning


def test_yes_means_the_only_choice() -> None:
    assert choose("yes", ("liver",)) == "liver"
    assert choose("yes", CHOICES) == "yes"


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
