"""What an answer to a question with choices means: one reading for the terminal, the chat and the graph."""

from __future__ import annotations

YES = frozenset({"y", "yes", "ok", "okay", "sure", "yes please"})


def chosen(answer: str, choices: tuple[str, ...]) -> str:
    """ "2", "2." or "2)" is the second choice, "yes" the only one, a choice's words that choice; else the words."""
    text = " ".join(answer.split())
    number = text.rstrip(".)")
    if number.isdecimal() and 1 <= int(number) <= len(choices):
        return choices[int(number) - 1]
    if len(choices) == 1 and text.casefold().rstrip(".!") in YES:
        return choices[0]
    return next((choice for choice in choices if choice.casefold() == text.casefold()), text)
