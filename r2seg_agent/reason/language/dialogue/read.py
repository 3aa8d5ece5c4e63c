"""From a message to what it asks for: clauses, then the rules of `rules.py` over each. Deterministic, no guess."""

from __future__ import annotations

from typing import NamedTuple

from r2seg_agent.reason.language.dialogue.clauses import Clause, clauses_of
from r2seg_agent.reason.language.dialogue.intents import Explain, Find, Intent, Remark
from r2seg_agent.reason.language.dialogue.rules import ClauseRules
from r2seg_agent.reason.language.dialogue.table import Table

MAX_INTENTS = 8
"""Asks that are read from one message."""
MAX_CHARS = 2000
"""Longer messages are not one; the rest is not read."""
SHORT_WORDS = 2
"""Unknown clauses of so few words ("hmm", "well done") go without a remark beside others that are understood."""


class Ask(NamedTuple):
    """One thing that a message asks for, and the words of the message that ask for it."""

    intent: Intent
    typed: str


def read_message(message: str, table: Table) -> tuple[Intent, ...]:
    """What `message` asks for, in order."""
    return tuple(ask.intent for ask in read_asks(message, table))


def read_asks(message: str, table: Table) -> tuple[Ask, ...]:
    """What `message` asks for, in order, each with its own words.

    Neighbouring searches are one ask with the user's own words, since negations and sides reach across clauses. Where
    nothing was searched yet, everything that is not clearly something else is a search.
    """
    message = message[:MAX_CHARS]
    read: list[tuple[Clause, Intent]] = []
    for clause in clauses_of(message):
        for intent in ClauseRules(clause, table).intents():
            last = read[-1] if read else None
            if last is not None and clause.words in ("why", "why not") and isinstance(last[1], Explain):
                continue  # "what about the third one, why not?"
            if last is not None and isinstance(last[1], Find) and isinstance(intent, Find):
                whole = message[last[0].start : clause.stop]
                joined = Clause(f"{last[0].words} {clause.words}", whole, last[0].start, clause.stop)
                read[-1] = (joined, Find(whole))
            else:
                read.append((clause, intent))
    asks = {intent: clause.typed for clause, intent in read if len(read) == 1 or not _is_noise(clause, intent)}
    return tuple(Ask(intent, typed) for intent, typed in asks.items())[:MAX_INTENTS]


def _is_noise(clause: Clause, intent: Intent) -> bool:
    polite = isinstance(intent, Remark) and intent.topic in ("thanks", "greeting")
    unknown = isinstance(intent, Remark) and intent.topic == "unknown"
    return polite or (unknown and len(clause.words.split()) <= SHORT_WORDS)
