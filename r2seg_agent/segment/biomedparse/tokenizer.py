"""CLIP's byte-pair tokenizer (Radford et al. 2021), from its table of 48 894 merges (see clip_merges_licence.md)."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from importlib.resources import files
from itertools import pairwise

BEGIN = "<|startoftext|>"
END = "<|endoftext|>"
N_MERGES = 48894
_SPECIAL_OR_CONTRACTION = re.compile(r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d")


def tokenize(text: str, context: int = 77) -> list[int]:
    """Ids of `text` between begin and end token, cut to `context` ids (the end token stays).

    The text is put into Unicode NFC, its white space collapsed, and lower-cased, as CLIP's tokenizer does.
    """
    clean = " ".join(unicodedata.normalize("NFC", text).split()).lower()
    ids = [number for word in _words(clean) for number in _word_ids(word)]
    vocabulary = _tables()[0]
    return [vocabulary[BEGIN], *ids[: context - 2], vocabulary[END]]


def _words(text: str) -> list[str]:
    """Runs of letters, single digits, runs of other signs; contractions and special tokens as they are."""
    words: list[str] = []
    at = 0
    while at < len(text):
        if found := _SPECIAL_OR_CONTRACTION.match(text, at):
            words.append(found.group())
            at = found.end()
            continue
        kind = _kind(text[at])
        end = at + 1
        if kind in ("letter", "other"):
            while end < len(text) and _kind(text[end]) == kind:
                end += 1
        if kind != "space":
            words.append(text[at:end])
        at = end
    return words


def _kind(sign: str) -> str:
    if sign.isspace():
        return "space"
    return {"L": "letter", "N": "digit"}.get(unicodedata.category(sign)[0], "other")


@lru_cache(maxsize=4096)
def _word_ids(word: str) -> tuple[int, ...]:
    """Join the neighbouring pair of lowest rank until none is left."""
    vocabulary, ranks, signs = _tables()
    if word in (BEGIN, END):
        return (vocabulary[word],)
    parts = [signs[byte] for byte in word.encode("utf-8")]
    parts[-1] += "</w>"
    never = len(ranks)
    while len(parts) > 1:
        rank, first, second = min((ranks.get((a, b), never), a, b) for a, b in pairwise(parts))
        if rank == never:
            break
        joined: list[str] = []
        for part in parts:
            # `joined` ends in a bare `first` only when it was not just made by a join.
            if joined and part == second and joined[-1] == first:
                joined[-1] = first + second
            else:
                joined.append(part)
        parts = joined
    return tuple(vocabulary[part] for part in parts)


@lru_cache(maxsize=1)
def _tables() -> tuple[dict[str, int], dict[tuple[str, str], int], dict[int, str]]:
    """Ids by token, ranks by pair, and the printable sign of every byte."""
    lines = files(__package__).joinpath("clip_merges.tsv").read_text(encoding="utf-8").split("\n")
    pairs = [_pair(line) for line in lines if line]
    signs = _byte_signs()
    single = list(signs.values())
    tokens = [*single, *(sign + "</w>" for sign in single), *(a + b for a, b in pairs), BEGIN, END]
    return {token: n for n, token in enumerate(tokens)}, {pair: n for n, pair in enumerate(pairs)}, signs


def _pair(line: str) -> tuple[str, str]:
    first, second = line.split("\t")
    return (first, second)


def _byte_signs() -> dict[int, str]:
    """Printable bytes stand for themselves, the others for the signs from U+0100 on; in the order of CLIP's ids."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    signs = {byte: chr(byte) for byte in printable}
    others = (byte for byte in range(256) if byte not in signs)
    return signs | {byte: chr(256 + n) for n, byte in enumerate(others)}
