"""What an answer to a question with choices means: one reading for the terminal, the chat and the graph."""

from __future__ import annotations

from collections.abc import Sequence

from r2seg_agent.reason.plan import Choice

YES = frozenset({"y", "yes", "ok", "okay", "sure", "yes please"})
KEEP_IMAGE = "search this"
"""Words at the start of an answer that confirm the image, where this is one of the choices."""


def chosen(answer: str, choices: Sequence[Choice]) -> Choice | None:
    """The choice that the user's words name; None where they say something else.

    "2", "2." or "2)" is the choice with that label, "yes" the only choice, a choice's text or line that choice.
    """
    text = " ".join(answer.split())
    folded = text.casefold()
    number = text.rstrip(".)")
    by_label = dict(zip(labels(choices), choices, strict=True))
    if number in by_label:
        return by_label[number]
    if len(choices) == 1 and folded.rstrip(".!") in YES:
        return choices[0]
    same = (choice for choice in choices if folded in (choice.text.casefold(), choice.line.casefold()))
    keep = (choice for choice in choices if choice.kind == "keep_image" and folded.startswith(KEEP_IMAGE))
    return next(same, None) or next(keep, None)


def labels(choices: Sequence[Choice]) -> tuple[str, ...]:
    """What stands in front of each choice: the number of its finding or candidate, else its place in the list."""
    return tuple(choice.number or str(place) for place, choice in enumerate(choices, start=1))
