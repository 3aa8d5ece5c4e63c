"""How a session looks in the terminal: its banner, the events of a turn, the earlier turns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from r2seg_agent.cli._picture import Pictures, print_picture
from r2seg_agent.cli._text import printable
from r2seg_agent.cli._tool_line import ToolLine
from r2seg_agent.reason.language.choices import labels

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from r2seg_agent.reason.plan import Choice
    from r2seg_agent.runs.session import Session
    from r2seg_agent.runs.session_events import QuestionAsked, SessionEvent, TurnEnded

TURNS_SHOWN = 5
"""Turns that `--resume` shows again."""


class ChatView:
    """Prints a session to `console`; progress without a terminal goes to `notes`."""

    def __init__(self, console: Console, notes: Console, pictures: Pictures) -> None:
        self.console = console
        self.pictures = pictures
        self.tools = ToolLine(console, notes)
        self.refused = ""
        """Why the last tool of the last turn refused; "" where it did not."""

    def line(self, text: str, style: str = "") -> None:
        """One paragraph of plain text: nothing in it is read as markup or as a command to the terminal."""
        from rich.text import Text

        self.console.print(Text(printable(text), style=style))

    def banner(self, session: Session) -> None:
        """Who plans, who looks, who judges, what stands in for what, and that this is research software."""
        from r2seg_agent.cli.conversation.sentences import banner_lines

        for text, style in banner_lines(session):
            self.line(text, style)

    def picture(self, path: Path, caption: str) -> None:
        """A picture where the terminal can show it, its file's name elsewhere."""
        print_picture(path, caption, self.console, self.pictures)

    def past(self, session: Session) -> None:
        """The last turns of a resumed conversation."""
        turns = session.search.turns
        if len(turns) > TURNS_SHOWN:
            self.line(f"… {len(turns) - TURNS_SHOWN} earlier turns", "dim")
        for turn in turns[-TURNS_SHOWN:]:
            undone = " (undone)" if turn.undone else ""
            self.line(f"{turn.index}> {turn.text}{undone}", "dim")
            if turn.answer:
                self.line(turn.answer, "dim")

    def question(self, asked: QuestionAsked) -> None:
        """A question with its choices, numbered."""
        self.line(asked.question, "bold")
        if asked.choices:
            self.console.print(_numbered(asked.choices))
            self.line("Answer with a number or in words.", "dim")

    def follow(self, events: Iterable[SessionEvent]) -> QuestionAsked | TurnEnded | None:
        """Show what happens as it happens; what the turn ended with."""
        from r2seg_agent.runs.session_events import (
            AnswerSentence,
            ModelComment,
            PictureDrawn,
            QuestionAsked,
            ToolFinished,
            ToolStarted,
            TurnEnded,
        )

        last: QuestionAsked | TurnEnded | None = None
        self.refused = ""
        self.tools.open()
        try:
            for event in events:
                match event:
                    case ToolStarted(tool, args, taken_by):
                        self.tools.start(tool, args, taken_by)
                    case ToolFinished(tool, error, line):
                        self.tools.finish(tool, printable(error), printable(line))
                        self.refused = error
                    case AnswerSentence(text):
                        self.line(text, "bold")
                    case ModelComment(text):
                        self.line(f"the model's own words, not a result: {text}", "dim italic")
                    case PictureDrawn(path, caption):
                        self.tools.close()
                        self.picture(path, caption)
                        self.tools.open()
                    case QuestionAsked():
                        self.tools.close()
                        self.question(event)
                        last = event
                    case TurnEnded():
                        last = event
        finally:
            self.tools.close()
        return last


def _numbered(choices: Sequence[Choice]) -> Table:
    """Choices with the numbers that pick them in front."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(justify="right", no_wrap=True, min_width=3)
    table.add_column()
    for number, choice in zip(labels(choices), choices, strict=True):
        table.add_row(number, Text(printable(choice.text)))
    return table
