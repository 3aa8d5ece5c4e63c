"""A model's own words beside the answer: shown only when they cannot mislead.

The answer is written by code. A model may comment on it, and its comment is kept only when every number in it stands in
what the tools of this turn returned or what the user said, when it neither diagnoses, advises nor denies in words that
do not stand there, and when the search has a finding at all: where nothing survived the test, no model can talk a
lesion into being. Whatever is shown is labelled as the model's words.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from langchain_core.messages import AnyMessage, ToolMessage

from r2seg_agent.graphs.messages import kind_of
from r2seg_agent.tools.state import SearchState
from r2seg_agent.trace.redact import redact

MAX_WORDS = 600
"""Characters of a comment; longer ones are not shown."""

_NUMBER = re.compile(r"(?<![\w.])\d+(?:[.,]\d+)?")
_CLAIM = re.compile(
    r"\b(?:cancer|\w*carcinom|malign|benign|\w*metasta|sarcom|lymphom|diagnos|prognos|treat|therap|surg|operat|chemo"
    r"|radiother|biops|medic|drug|dos(?:e|age)|terminal|harmless|healthy"
    r"|no (?:lesion|tumou?r|finding)|nothing|not (?:a|any) )\w*",
    re.IGNORECASE,
)
_MORE = re.compile(
    r"\b(?:sixteen|seventeen|eighteen|nineteen|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|hundreds?|thousands?|"
    r"millions?|dozens?|half|twice|double)\b",
    re.IGNORECASE,
)
"""Numbers in words that are not read further: a comment that holds one is not shown."""
_WORDS = "zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen"
_SPELLED = {word: value for value, word in enumerate(_WORDS.split("|"))}


def allowed_words(text: str, search: SearchState, messages: Sequence[AnyMessage]) -> str:
    """`text` when it may be shown, else ""."""
    words = " ".join(redact(text).split())
    if not words or len(words) > MAX_WORDS or not any(target.findings is not None for target in search.targets):
        return ""
    given = " ".join((*search.answer_sentences, search.message, *_tool_texts(messages)))
    if _MORE.search(words) or any(claim.lower() not in given.lower() for claim in _CLAIM.findall(words)):
        return ""
    known = _numbers(given)
    return words if all(_is_known(number, known) for number in _numbers(words)) else ""


def _tool_texts(messages: Sequence[AnyMessage]) -> list[str]:
    """What the tools of this turn returned: everything after the user's last message."""
    texts: list[str] = []
    for message in reversed(messages):
        if kind_of(message) in ("request", "answer"):
            break
        if isinstance(message, ToolMessage) and message.status != "error":
            texts.append(str(message.content))
    return texts


def _numbers(text: str) -> list[str]:
    found = [number.replace(",", ".") for number in _NUMBER.findall(text)]
    return found + [str(_SPELLED[word]) for word in re.findall(r"[a-z]+", text.lower()) if word in _SPELLED]


def _is_known(number: str, known: Sequence[str]) -> bool:
    """Equal to a known number, or to one rounded to the decimals that were written."""
    decimals = len(number.partition(".")[2])
    return any(abs(float(number) - float(other)) < 0.5000001 * 10.0**-decimals for other in known)
