"""A message as words: normalised like the lexicon's, numbers kept whole, typing errors of our own words mended."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

from r2seg_agent.reason.language.lexicon import understand
from r2seg_agent.reason.normal_words import Speller, normal_word

_TOKEN = re.compile(
    r"t\d+r\d+c\d+"  # a candidate's id
    r"|\d+(?:st|nd|rd|th)\b"
    r"|0,\d+|\d*\.\d+|\d+e-\d+|\d+"
    r"|[^\W\d_][^\W_]*(?:['’][^\W\d_]+)?"
    r"|(?<=\d)\s?[-–]\s?(?=\d)"  # a range
    r"|[#%,;:.!?()/&+]",
    re.IGNORECASE,
)

_WORDS = re.compile(r"[a-z]{2,}")

_vocabulary: set[str] = set()


@dataclass(frozen=True)
class Token:
    """A normalised word, number or separator, and where it stands in the message."""

    word: str
    start: int
    stop: int


def cue(pattern: str) -> re.Pattern[str]:
    """A regular expression over normalised words that single spaces part; its words are normalised, and known to
    the spelling correction from then on.
    """
    normal = _WORDS.sub(lambda m: normal_word(m[0]), pattern)
    _vocabulary.update(w for w in _WORDS.findall(normal) if len(w) >= _MIN_LENGTH)
    return re.compile(rf"(?<!\S)(?:{normal})(?!\S)")


def know(*known: str) -> None:
    """Words that the spelling correction may correct to."""
    _vocabulary.update(normal_word(word) for word in known if len(word) >= _MIN_LENGTH)


_MIN_LENGTH = 4
_TYPOS = {
    "hwo": "how",
    "teh": "the",
    "hte": "the",
    "wat": "what",
    "wut": "what",
    "pls": "please",
    "wy": "why",
    "cn": "can",
}
"""Typing errors of words that are too short to be corrected by likeness."""


def read_tokens(message: str) -> tuple[Token, ...]:
    """The tokens of a message, in order."""
    return tuple(Token(_mended(_plain(m[0])), m.start(), m.end()) for m in _TOKEN.finditer(message))


def joined(tokens: tuple[Token, ...] | list[Token]) -> str:
    """The words of some tokens, parted by single spaces, as `cue` patterns read them."""
    return " ".join(t.word for t in tokens)


def _plain(text: str) -> str:
    folded = unicodedata.normalize("NFKD", text.casefold()).replace("’", "'")
    letters = "".join(c for c in folded if not unicodedata.combining(c))
    letters = letters.removesuffix("'s").replace("'", "")
    letters = _TYPOS.get(letters.strip(), letters.strip())
    return normal_word(letters) if letters.isalpha() else letters


@lru_cache(maxsize=4096)
def _mended(word: str) -> str:
    """The cue word that was meant by a word that nobody knows; a word of the lexicon, typed well or ill, stays."""
    if not word.isalpha() or len(word) < _MIN_LENGTH or word in _vocabulary:
        return word
    items, corrected = understand(word)
    if corrected or any(item.role != "unknown" for item in items):
        return word
    return _speller(len(_vocabulary)).correct(word) or word


@lru_cache(maxsize=2)
def _speller(_known: int) -> Speller:
    """`_known`, the size of the vocabulary, makes a new one when modules have added words."""
    return Speller(_vocabulary)
