"""What the words of a request may mean: one phrase table over organs, concepts and `lexicon.json`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Literal

from r2seg_agent.frozen import Frozen
from r2seg_agent.imaging.volume import Modality
from r2seg_agent.reason import anatomy, concepts
from r2seg_agent.reason.normal_words import Speller, tokens, words

Role = Literal[
    "concept", "ambiguous", "organ", "lesion", "region", "side", "modality", "not", "again", "context", "means",
    "normal", "in", "join", "everything", "whole", "outline", "stop", "comma", "filler", "plain", "unknown",
]  # fmt: skip

MAX_PHRASE_WORDS = 8


class Ambiguous(Frozen):
    """An abbreviation with several meanings: concepts, and what is no concept of ours."""

    concepts: tuple[str, ...]
    other: tuple[str, ...] = ()


class Region(Frozen):
    """A part of the body: how it is written, and which organs a search of it covers."""

    words: tuple[str, ...]
    organs: tuple[str, ...]


class Lexicon(Frozen):
    """`lexicon.json` as it stands."""

    comment: str
    kinds: Mapping[str, tuple[str, ...]]
    organ_bound_kinds: tuple[str, ...]
    """Kinds that are never planned as a generic lesion of another organ."""
    sides: Mapping[Literal["left", "right", "both"], tuple[str, ...]]
    modalities: Mapping[Modality, tuple[str, ...]]
    compound_modalities: Mapping[str, tuple[Modality, ...]]
    sequences: Mapping[str, str]
    negations: tuple[str, ...]
    restarts: tuple[str, ...]
    cancelled_negations: tuple[str, ...]
    neutral: tuple[str, ...]
    contexts: tuple[str, ...]
    beside: tuple[str, ...]
    """Contexts that name what lies next to the target."""
    diagnoses: tuple[str, ...]
    """Words between a finding and what it is thought to be."""
    unremarkable: tuple[str, ...]
    """Words that say an organ is healthy."""
    prepositions: tuple[str, ...]
    joins: tuple[str, ...]
    everything: tuple[str, ...]
    outlines: tuple[str, ...]
    regions: Mapping[str, Region]
    whole_body: tuple[str, ...]
    ambiguous: Mapping[str, Ambiguous]
    never_corrected_to: tuple[str, ...]
    """Short or foreign words that ordinary words come too near to."""
    qualifiers: tuple[str, ...]
    """Words that narrow a request down and that no plan uses."""
    filler: str
    ordinary: str


@dataclass(frozen=True)
class Item:
    """One understood piece of a request. `value` is an organ, concept id, kind, side, region or modality."""

    role: Role
    value: str
    text: str


@lru_cache(maxsize=1)
def lexicon() -> Lexicon:
    """The words of `lexicon.json`."""
    text = files("r2seg_agent.reason.language").joinpath("lexicon.json").read_text(encoding="utf-8")
    return Lexicon.model_validate(json.loads(text))


@lru_cache(maxsize=1)
def _phrases() -> Mapping[tuple[str, ...], tuple[tuple[Role, str], ...]]:
    """Normalised words → what they mean, in order; earlier entries win."""
    table: dict[tuple[str, ...], tuple[tuple[Role, str], ...]] = {}

    def add(role: Role, value: str, *texts: str) -> None:
        for text in texts:
            if key := _key(words(text)):
                table.setdefault(key, ((role, value),))

    lex = lexicon()
    for text in ("everything but", "anything but", "all but", "everything but not"):
        table[words(text)] = (("everything", ""), ("not", ""))
    add("filler", "", *lex.cancelled_negations, *lex.neutral, *(text for text in lex.qualifiers if " " in text))
    for name, meaning in lex.ambiguous.items():
        add("ambiguous", name, name)
        for cid in meaning.concepts:
            concepts.concept(cid)
    for kind, texts in lex.kinds.items():
        add("lesion", kind, *texts)
    for side, texts in lex.sides.items():
        add("side", side, *texts)
    for text, found in lex.compound_modalities.items():
        table[words(text)] = tuple(("modality", m) for m in found)
    for modality, texts in lex.modalities.items():
        add("modality", modality, *texts)
    for name, region in lex.regions.items():
        add("region", name, *region.words)
    for key, ids in concepts.phrases().items():
        if len(ids) == 1:
            table.setdefault(_key(key), (("concept", ids[0]),))
    for key, organ in anatomy.phrases().items():
        if organ not in ("body", "abdominal_cavity", "thoracic_cavity"):
            table.setdefault(_key(key), (("organ", organ),))
    add("not", "", *lex.negations)
    add("context", "near", *lex.beside)
    add("context", "", *lex.contexts)
    add("means", "", *lex.diagnoses)
    add("normal", "", *lex.unremarkable)
    add("outline", "", *lex.outlines)
    add("again", "", *lex.restarts)
    add("in", "", *lex.prepositions)
    add("join", "", *lex.joins)
    add("everything", "", *lex.everything)
    add("whole", "", *lex.whole_body)
    add("filler", "", *lex.filler.split())
    return table


def _key(spelled: Sequence[str]) -> tuple[str, ...]:
    """Words of a phrase without articles: "cyst of the liver" is "cyst of liver"."""
    return tuple(w for w in spelled if w not in _ARTICLES)


@lru_cache(maxsize=1)
def _known() -> frozenset[str]:
    return frozenset(w for key in _phrases() for w in key)


@lru_cache(maxsize=1)
def _speller() -> Speller:
    meant = ("concept", "organ", "lesion", "region", "side")
    told = {key: found[0][0] for key, found in _phrases().items()}
    alone = {key[0] for key, role in told.items() if len(key) == 1 and role in meant}
    parts = {w for key, role in told.items() if role in meant for w in key}
    shy = {w for text in lexicon().never_corrected_to for w in words(text)}
    return Speller((alone | (parts - set(words(lexicon().filler)) - _ordinary())) - shy)


@lru_cache(maxsize=1)
def _ordinary() -> frozenset[str]:
    return frozenset(words(lexicon().ordinary))


_SEPARATORS: Mapping[str, Role] = {
    **dict.fromkeys(".;:!?", "stop"),
    ",": "comma",
    **dict.fromkeys("&+/", "join"),
}


def understand(text: str) -> tuple[tuple[Item, ...], tuple[tuple[str, str], ...]]:
    """A request as items in order, and the words that were corrected as (typed, meant).

    The longest known phrase wins. An ordinary English word that means nothing here is "plain"; a word that is neither
    known nor ordinary nor near a known one is "unknown".
    """
    plain = _HEADER.sub(_said_by_header, _QUERY.sub(" query ", MEASURE.sub(" ", text)))
    typed = _key(tokens(_SLASHED.sub(lambda m: _SLASHED_WORDS[m[0].casefold()], plain)))
    spelled = [_meant(t) for t in typed]
    items: list[Item] = []
    corrected: list[tuple[str, str]] = []
    at = 0
    while at < len(spelled):
        for length in range(min(MAX_PHRASE_WORDS, len(spelled) - at), 0, -1):
            found = _phrases().get(tuple(spelled[at : at + length]))
            if found:
                phrase = " ".join(spelled[at : at + length])
                items.extend(Item(role, value, phrase) for role, value in found)
                pairs = zip(typed[at : at + length], spelled[at : at + length], strict=True)
                corrected += [(wrong, meant) for wrong, meant in pairs if wrong != meant]
                at += length
                break
        else:
            items.append(_single(typed[at]))  # a correction that completes no phrase is none
            at += 1
    return tuple(items), tuple(corrected)


_ARTICLES = frozenset(("a", "an", "the"))
_QUERY = re.compile(r"\?(?=\w)")
"""A question mark before a word: "?liposarcoma" is a suspicion, not the end of a sentence."""
_HEADER = re.compile(
    r"(?:^|(?<=[.;!?\n]))\s*(?:(?P<past>(?:past |clinical |medical )*history|hx|pmh)|(?:clinical |reason for )?"
    r"(?:findings?|impression|conclusions?|indication|technique|comparison|question|information|report(?: text)?|"
    r"assessment|opinion|summary|exam(?:ination)?|diagnosis|request))\s*:",
    re.IGNORECASE,
)
"""The headings of a radiology report: none is a finding."""


def _said_by_header(heading: re.Match[str]) -> str:
    return " history of " if heading["past"] else " . "


MEASURE = re.compile(r"\d+(?:[.,]\d+)?\s*(?:mm|cm|ml|cc|hu|mg)\b", re.IGNORECASE)
"""Sizes: "8 mm" is no multiple myeloma."""
_SLASHED_WORDS = {"r/o": "rule out", "s/p": "status post", "h/o": "history of", "w/o": "without", "w/": "with"}
_SLASHED = re.compile(r"\b(?:r/o|s/p|h/o|w/o?)(?!\w)", re.IGNORECASE)


def _meant(token: str) -> str:
    """The token, or the known word that it is a typing error of."""
    if token in _known() or token in _ordinary() or not token[0].isalnum():
        return token
    return _speller().correct(token) or _speller().correct(token + "s") or token  # "panceras" lost its s as a plural


def _single(token: str) -> Item:
    if token in _SEPARATORS:
        return Item(_SEPARATORS[token], "", token)
    if token in "()" or token.isdigit() or len(token) == 1:
        return Item("filler", "", token)
    return Item("plain" if token in _ordinary() else "unknown", "", token)
