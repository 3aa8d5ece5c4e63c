"""What the user means by the answer to "which finding do you mean?"."""

from __future__ import annotations

import re

from r2seg_agent.reason.language.dialogue import Find, Remark, Same, Show, Table, Which, read_message
from r2seg_agent.reason.language.dialogue.references import which_finding
from r2seg_agent.reason.language.dialogue.spelling import joined, read_tokens
from r2seg_agent.reason.plan import Choice

_DECLINES = re.compile(
    r"(?:no,? )?(?:none(?: of (?:them|these|those))?|neither|no|never ?mind|cancel|stop|forget it|nothing)[.! ]*",
    re.IGNORECASE,
)
_CHOICE = re.compile(r"(?:^|\s)(\d+):")
"""A choice begins with its number and a colon."""


def declines(reply: str) -> bool:
    """True when the user wants none of the choices."""
    return _DECLINES.fullmatch(reply.strip()) is not None


def which_of_choice(choice: Choice | None) -> Which | None:
    """The finding or rejected candidate that was chosen; None for a choice of another kind, and for other words."""
    if choice is None or choice.kind not in ("finding", "rejected"):
        return None
    return Which("finding" if choice.kind == "finding" else "rejected", (int(choice.value),))


def which_of_reply(reply: str, asked: Which, table: Table) -> Which | None:
    """The findings or rejected candidates that `reply` names; None when it is something else to say.

    A bare number is the number of a finding, not the place of a choice. `unsure` again where it still fits several.
    """
    found = _CHOICE.search(reply)
    if found or reply.strip().isdigit():
        number = int(found[1] if found else reply)
        return Which(asked.kind, (number,))
    if re.fullmatch(r"(?:all|both|all of them|every one|each)[.! ]*", reply.strip(), re.IGNORECASE):
        return Which(asked.kind, asked.numbers)
    words = f"rejected {reply}" if asked.kind == "rejected" else reply
    intents = read_message(words, table)
    if len(intents) != 1:
        return None
    which = getattr(intents[0], "which", None)
    if isinstance(which, Which) and which.kind == asked.kind and (which.numbers or which.candidate):
        return which if isinstance(intents[0], Same | Show) or asked.kind == "rejected" else None
    if asked.kind == "finding" and isinstance(intents[0], Find | Remark):
        narrowed = which_finding(joined(read_tokens(reply)), reply, table)  # "in the upper third" is no ask by itself
        return narrowed if narrowed.numbers and set(narrowed.numbers) < set(asked.numbers) else None
    return None
