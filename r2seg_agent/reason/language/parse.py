"""From the items of a request to wishes: which lesion, in which organ, on which side, wanted or excluded.

Deterministic rules, in the order in which `read_request` applies them:

0. A clause that only says that an organ is well ("kidneys normal", "liver: no lesion") asks for nothing.
1. Polarity. A negation reaches to the next full stop, restart word ("but", "only", "find") or comma before a
   preposition; a context word ("from colon cancer", "history of …") makes what follows a remark, not a target.
2. Neighbouring lesion words become one ("malignant mass" is a cancer); an organ beside one that it contains gives way
   ("right upper lobe of the lung").
3. A side belongs to the next organ, concept or lesion word before a comma or conjunction, else to the one before it.
4. An organ takes the lesion word right behind it, else the last one before it, else the next one after it.
5. The place decides what a word of many places means ("carcinoid of the lung"); of "colorectal mets in the liver" only
   the liver is searched; a finding and the one diagnosis that its sentence gives it are one target (`diagnoses`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from r2seg_agent.reason import anatomy
from r2seg_agent.reason.language.bind import MENTIONS, Stream
from r2seg_agent.reason.language.lexicon import Item, lexicon
from r2seg_agent.reason.language.wishes import Wish, concept_of
from r2seg_agent.reason.plan import Side

_NO = ("no", "negative for", "free of", "free from", "no evidence of", "no sign of", "without evidence of")


@dataclass(frozen=True)
class Request:
    """What a request says. `doubts` are questions that must be asked before planning: (question, concept ids)."""

    wanted: tuple[Wish, ...] = ()
    excluded: tuple[Wish, ...] = ()
    remarks: tuple[Wish, ...] = ()
    beside: tuple[Wish, ...] = ()
    """Remarks that say what lies next to the target."""
    regions: tuple[tuple[str, str], ...] = ()
    """(region, kind) to search as a whole."""
    excluded_regions: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    """Lesion words without an organ."""
    excluded_kinds: tuple[str, ...] = ()
    excluded_sides: tuple[Side, ...] = ()
    """Sides left out without naming an organ: "but not the left one"."""
    modalities: tuple[str, ...] = ()
    sequence: str = ""
    unknown: tuple[str, ...] = ()
    plain: tuple[str, ...] = ()
    """Ordinary words that mean nothing here."""
    lost_places: tuple[str, ...] = ()
    """Unknown words where an organ should stand: "in the gizzard"."""
    lost_exclusion: bool = False
    """True when something was excluded that could not be understood."""
    lesions_meant: bool = False
    """True when a word asks for lesions, or for anything there is; False for places alone."""
    outline: bool = False
    doubts: tuple[tuple[str, tuple[str, ...]], ...] = field(default=())


def read_request(items: Sequence[Item]) -> Request:
    """The wishes of a request."""
    items = _headed(items)
    healthy = _healthy(items)
    wanted, negative, remarks = _streams([i for n, i in enumerate(items) if n not in healthy])
    if not any(i.role in MENTIONS for i in wanted) and any(i.role == "everything" for i in wanted):
        for run in negative:  # "everything but the liver in the abdomen": the region is wanted
            wanted += [i for i in run if i.role == "region"]
            run[:] = [i for i in run if i.role != "region"]
    positive = Stream(wanted)
    excluded = [Stream(run) for run in negative]
    remarked = [Stream(run) for _, run in remarks]
    said = [i for i in wanted if i.role == "modality"]
    sequences = [lexicon().sequences[i.text] for i in said if i.text in lexicon().sequences]
    return Request(
        wanted=positive.wishes,
        excluded=(*(w for s in excluded for w in s.wishes), *_left_out(positive, healthy, items)),
        remarks=tuple(w for s in remarked for w in s.wishes),
        beside=tuple(w for (near, _), s in zip(remarks, remarked, strict=True) if near for w in s.wishes),
        regions=positive.regions,
        excluded_regions=tuple(r for s in excluded for r, _ in s.regions),
        kinds=positive.kinds,
        excluded_kinds=tuple(k for s in excluded for k in s.kinds),
        excluded_sides=tuple(dict.fromkeys(side for run in negative for side in _only_sides(run))),
        modalities=tuple(dict.fromkeys(i.value for i in said)),
        sequence=sequences[0] if len(set(sequences)) == 1 else "",
        unknown=tuple(i.text for i in items if i.role == "unknown"),
        plain=tuple(i.text for i in items if i.role == "plain"),
        lost_places=positive.lost_places(),
        lost_exclusion=any(not s.mentions and not _only_sides(run) for s, run in zip(excluded, negative, strict=True)),
        lesions_meant=any(i.role in ("lesion", "concept", "everything") for i in wanted),
        outline=any(i.role == "outline" for i in wanted),
        doubts=positive.doubts,
    )


def _only_sides(run: Sequence[Item]) -> list[Side]:
    named = any(i.role in (*MENTIONS, "unknown", "plain") for i in run)
    said = [i.value for i in run if i.role == "side"]
    return [] if named else ["left" if value == "left" else "right" for value in said if value in ("left", "right")]


def _clauses(items: Sequence[Item]) -> list[tuple[int, int]]:
    """(start, end) of the parts between full stops and commas."""
    cuts = [n for n, i in enumerate(items) if i.role in ("stop", "comma")]
    return list(zip([0, *(c + 1 for c in cuts)], [*cuts, len(items)], strict=True))


def _healthy(items: Sequence[Item]) -> frozenset[int]:
    """Items of clauses that only say that an organ is well: "kidneys normal", "liver: no lesion"; no questions."""
    found: set[int] = set()
    for start, end in _clauses(items):
        clause = items[start:end]
        said = [i for i in clause if i.role in MENTIONS or i.role in ("normal", "not")]
        asked = (end < len(items) and items[end].text == "?") or (clause[:1] and clause[0].text in ("is", "are"))
        if asked or any(i.role in ("again", "context", "everything") for i in clause) or not said:
            continue
        organs = [i for i in said if i.role in ("organ", "region")]
        no = next((n for n, i in enumerate(said) if i.role == "not" and i.text in _NO), None)
        named = [i for i in said if i.role in ("lesion", "concept", "ambiguous")]
        well = any(i.role == "normal" for i in said) and not named and no is None
        free = no is not None and said[:no] == organs != [] and named and all(i.role == "lesion" for i in named)
        if organs and (well or free):
            found.update(range(start, end))
    return frozenset(found)


def _headed(items: Sequence[Item]) -> list[Item]:
    """The items, where a colon behind an organ's name parts nothing: "adrenals: metastases?"."""
    heard: list[Item] = []
    for item in items:
        since = next((i for i in reversed(heard) if i.role in (*MENTIONS, "stop")), None)
        heading = item.text == ":" and since is not None and since.role == "organ"
        heard.append(Item("filler", "", ":") if heading else item)
    return heard


def _left_out(positive: Stream, healthy: frozenset[int], items: Sequence[Item]) -> tuple[Wish, ...]:
    """Organs said to be well, where nothing else is asked of them."""
    places = {p for w in positive.wishes if (c := concept_of(w)) for p in anatomy.containing(w.organ or c.organ)}
    well = Stream([items[n] for n in sorted(healthy) if items[n].role in ("organ", "side", "comma", "stop")])
    return tuple(w for w in well.wishes if w.organ not in places)


def _streams(items: Sequence[Item]) -> tuple[list[Item], list[list[Item]], list[tuple[bool, list[Item]]]]:
    """Wanted items as one stream; each negated run and each remark as its own."""
    wanted: list[Item] = []
    negative: list[list[Item]] = []
    remarks: list[tuple[bool, list[Item]]] = []
    mode: Literal["wanted", "not", "context"] = "wanted"
    fresh = False  # nothing but filler since the negation
    for n, item in enumerate(items):
        following = next((i.role for i in items[n + 1 :] if i.role != "filler"), "stop")
        if item.role == "not":
            mode, fresh = "not", True
            negative.append([])
            continue
        if item.role == "context":
            if mode == "wanted":
                mode = "context"
                remarks.append((item.value == "near", []))
            continue
        ends = item.role == "stop" or (item.role in ("again", "outline") and not (mode == "not" and fresh))
        ends = ends or (item.role == "comma" and (mode == "context" or following in ("in", "again")))
        ends = ends or (
            mode == "context" and item.role in ("in", "join") and any(i.role in MENTIONS for i in remarks[-1][1])
        )
        if ends:
            mode = "wanted"
        if item.role in MENTIONS:
            fresh = False
        {
            "wanted": wanted,
            "not": negative[-1] if negative else wanted,
            "context": remarks[-1][1] if remarks else wanted,
        }[mode].append(item)
    return wanted, negative, remarks
