"""Slash commands and completion at the prompt."""

from __future__ import annotations

import pytest

from r2seg_agent.cli.conversation.commands import COMMANDS, read_command
from r2seg_agent.cli.conversation.words import Vocabulary, complete
from r2seg_agent.errors import InputError

WORDS = Vocabulary(findings=(1, 2, 12), turns=(1, 2, 3))


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("/plan", ("plan", ())),
        ("/SHOW 2 coronal", ("show", ("2", "coronal"))),
        ("/sh 2", ("show", ("2",))),
        ("/q", ("quit", ())),
        ("/?", ("help", ())),
        ("/resume", ("continue", ())),
        ('/export "my results"', ("export", ("my results",))),
        ("  find it", None),
        ("", None),
    ],
)
def test_a_line_is_a_command_or_something_to_say(line: str, wanted: tuple[str, tuple[str, ...]] | None) -> None:
    assert read_command(line) == wanted


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("/", "Commands: /plan"),
        ("/findigns", "did you mean /findings"),
        ("/f", "/findings or /fork"),
        ("/plan now please", "Usage: /plan"),
        ('/export "open', "double quotes"),
        ("/etc/passwd", "Commands:"),
    ],
)
def test_a_wrong_command_is_answered_with_the_right_ones(line: str, words: str) -> None:
    with pytest.raises(InputError) as raised:
        read_command(line)
    assert words in str(raised.value)


def completions(text: str) -> list[str]:
    """Whole lines that completion offers."""
    return [text[: len(text) + start] + word for word, start in complete(text, WORDS)]


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("/f", ["/findings", "/fork"]),
        ("/show ", ["/show 1", "/show 2", "/show 12", "/show axial", "/show coronal", "/show sagittal"]),
        ("/show 1 c", ["/show 1 coronal"]),
        ("/fork ", ["/fork 1", "/fork 2", "/fork 3"]),
        ("/plan x", []),
        ("how big is finding 1", ["how big is finding 1", "how big is finding 12"]),
        ("how big is finding ", ["how big is finding 1", "how big is finding 2", "how big is finding 12"]),
        ("find the qqq", []),
        ("", []),
    ],
)
def test_completion_of_commands_and_numbers(typed: str, offered: list[str]) -> None:
    assert completions(typed) == offered


def test_organs_and_targets_are_completed_also_in_several_words() -> None:
    assert "include the duodenum" in completions("include the duod")
    found = completions("look at the right kid")
    assert "look at the right kidney" in found
    assert all(line.startswith("look at the ") for line in found)
    assert any("pancrea" in line for line in completions("find pancrea"))


def test_all_commands_are_listed_and_complete() -> None:
    assert completions("/") == [f"/{name}" for name in COMMANDS]
