"""Did the user say that? A language model's phrase for a target, held against the user's own words.

A weak model copies examples and guesses sides. What it hands on must be what the user named: where the rules
understand the user, the phrase must speak of a place that they found too; where they do not, it must share a word with
the message; and a side must have been said.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from rapidfuzz import fuzz

from r2seg_agent.errors import InputError
from r2seg_agent.imaging.volume import Modality
from r2seg_agent.reason.language.plan_request import plan_request
from r2seg_agent.reason.plan import AnatomyPlan

SAME_WORD = 80.0
"""Similarity (0 to 100) from which two words are taken for one, so that typing errors are no obstacle."""
SHORTEST_WORD = 4
"""Shorter words are shared by chance."""

_SIDES = re.compile(r"\b(left|right)\b", re.IGNORECASE)
_BOTH = re.compile(r"\b(other|opposite|contralateral|same|both|each|either|bilateral|sides?)\b", re.IGNORECASE)
_EMPTY = re.compile(r"(find|look|search|show|please|lesions?|tumou?rs?|mass|there|what|about)")


def not_said(phrase: str, said: str, modality: Modality, spoken_of: Iterable[str] = ()) -> str:
    """Why `phrase` is not what the user `said`, in words for a model; "" when it is.

    `spoken_of` are names that the conversation holds already (targets, organs): "it" and "the other one" may mean them.
    """
    sides = {side.lower() for side in _SIDES.findall(phrase)}
    if sides - {side.lower() for side in _SIDES.findall(said)} and not _BOTH.search(said):
        return f"the user named no {' or '.join(sorted(sides))} side"
    theirs, ours = _places(said, modality), _places(phrase, modality)
    if theirs and ours:
        return "" if theirs & ours else f"`{phrase}` is not what the user named"
    words = _words(phrase)
    known = [*_words(said), *(word for name in spoken_of for word in _words(name))]
    if not words or any(fuzz.ratio(word, other) >= SAME_WORD for word in words for other in known):
        return ""
    return f"the user said nothing like `{phrase}`"


def _places(text: str, modality: Modality) -> set[str]:
    """Sites, anchors and targets that the rules read in `text`."""
    try:
        plans: tuple[AnatomyPlan, ...] = plan_request(text, modality, any_modality=True).plans
    except InputError:
        return set()
    return {name for plan in plans for name in (plan.site, plan.target, *plan.anchors)}


def _words(text: str) -> list[str]:
    found = re.findall(r"[a-z]+", text.lower())
    return [
        word for word in found if len(word) >= SHORTEST_WORD and not _EMPTY.fullmatch(word) and not _SIDES.match(word)
    ]
