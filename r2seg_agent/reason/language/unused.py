"""Words of a request that narrow it down and that no plan uses: they are said, never dropped silently."""

from __future__ import annotations

import re
from functools import lru_cache

from r2seg_agent.reason.language.lexicon import MEASURE, lexicon, understand
from r2seg_agent.reason.normal_words import words

MAX_NAMED = 8
"""Words that the sentence names; a pasted report may hold hundreds."""
_NUMBER = re.compile(r"[\d.,]*\d[\d.,]*")


def unused_words(request: str) -> tuple[str, ...]:
    """Sizes, numbers, looks, parts of organs, windows and unknown words that the offline rules understand as no target,
    place or side, each once, as they were read.
    """
    found: list[str] = [match.strip() for match in MEASURE.findall(request)]
    for item in understand(request)[0]:
        if item.role == "unknown" or (item.role == "filler" and _NUMBER.fullmatch(item.text)):
            found.append(item.text)
        elif item.role in ("filler", "plain"):
            phrase = tuple(item.text.split())
            known = (phrase,) if phrase in _qualifiers() else tuple((word,) for word in phrase)
            found += [" ".join(part) for part in known if part in _qualifiers()]
    return tuple(dict.fromkeys(found))


def unused_sentence(request: str) -> str:
    """What a reader must know of `unused_words`; "" where every word was used."""
    unused = unused_words(request)
    if not unused:
        return ""
    named = ", ".join(f"“{word}”" for word in unused[:MAX_NAMED])
    more = f" and {len(unused) - MAX_NAMED} more words" if len(unused) > MAX_NAMED else ""
    return f"Not used of the request: {named}{more}. The search was not narrowed by it."


@lru_cache(maxsize=1)
def _qualifiers() -> frozenset[tuple[str, ...]]:
    return frozenset(words(text) for text in lexicon().qualifiers)
