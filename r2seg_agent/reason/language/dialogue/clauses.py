"""A message as clauses: one ask each. "and" parts two asks only where what follows can stand for itself."""

from __future__ import annotations

from dataclasses import dataclass

from r2seg_agent.reason.language.dialogue.cues import ALPHA_TAIL, STARTER
from r2seg_agent.reason.language.dialogue.spelling import Token, joined, read_tokens

_HARD = (".", ";", "?", "!")
_SOFT = (",", "and", "then", "&", "+", "also", "plus", "but", "or", "/")
_AHEAD = 12
"""Tokens that are looked at to see whether a clause begins."""
_ABBREVIATIONS = ("no", "nr", "num")


@dataclass(frozen=True)
class Clause:
    """A part of a message. `words` are normalised, `typed` is the part as it came, from `start` to `stop`."""

    words: str
    typed: str
    start: int
    stop: int


def clauses_of(message: str) -> tuple[Clause, ...]:
    """The clauses of a message in order; none for a message without words."""
    runs: list[list[Token]] = [[]]
    tokens = read_tokens(message)
    for n, token in enumerate(tokens):
        if token.word == "." and n and tokens[n - 1].word in _ABBREVIATIONS and _is_number(tokens, n + 1):
            continue  # "no. 2"
        if token.word in _HARD:
            runs.append([])
            continue
        if runs[-1] and _starts_anew(tokens, n):
            runs.append([])
        runs[-1].append(token)
    return tuple(clause for run in runs if (clause := _clause(run, message)) is not None)


def _starts_anew(tokens: tuple[Token, ...], n: int) -> bool:
    if tokens[n].word not in _SOFT:
        return ALPHA_TAIL.match(joined(tokens[n : n + _AHEAD])) is not None
    rest = [token for token in tokens[n : n + _AHEAD] if token.word not in (",", "&", "+", "/")]
    return STARTER.match(joined(rest)) is not None


def _clause(run: list[Token], message: str) -> Clause | None:
    while run and run[0].word in _SOFT and run[0].word not in ("also",):
        run = run[1:]
    while run and run[-1].word in _SOFT:
        run = run[:-1]
    if not any(token.word[0].isalnum() for token in run):
        return None
    start, stop = run[0].start, run[-1].stop
    return Clause(joined(run), message[start:stop], start, stop)


def _is_number(tokens: tuple[Token, ...], n: int) -> bool:
    return n < len(tokens) and tokens[n].word[0].isdigit()
