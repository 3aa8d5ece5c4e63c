"""A question to the person at the terminal, with choices to pick from by number or to answer in words."""

from __future__ import annotations

import sys

from r2seg_agent.reason.language.choices import chosen, labels
from r2seg_agent.reason.plan import Choice


def can_ask() -> bool:
    """True when a person can both read a question and answer it."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def ask(question: str, choices: tuple[Choice, ...]) -> str | None:
    """Put `question` to the person at the terminal; None when they give no answer (an empty line, Ctrl-D).

    Goes to stderr: stdout is for results. A number that is no choice is asked for again.
    """
    from rich.console import Console

    from r2seg_agent.cli._text import printable

    console = Console(stderr=True, highlight=False, markup=False)
    console.print(printable(question), style="bold")
    numbers = labels(choices)
    for number, offered in zip(numbers, choices, strict=True):
        console.print(f"  {number}  {printable(offered.text)}")
    hint = "number or words, Enter to leave it: " if choices else "in words, Enter to leave it: "
    while True:
        sys.stderr.write(hint)
        sys.stderr.flush()
        line = sys.stdin.readline()
        if not line.strip():
            return None
        choice, answer = chosen(line, choices), " ".join(line.split())
        if choice is None and choices and answer.rstrip(".)").isdecimal():
            console.print(f"There is no choice {answer}; there are {', '.join(numbers)}.", style="yellow")
            continue
        return answer if choice is None else choice.line
