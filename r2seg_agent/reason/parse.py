"""From the items of a request to wishes: which lesion, in which organ, on which side, wanted or excluded.

Deterministic rules, in the order in which `read_request` applies them:

1. Polarity. A negation reaches to the next full stop, restart word ("but", "only", "find") or comma before a
   preposition; a context word ("from colon cancer", "history of …") makes what follows a remark, not a target.
2. Neighbouring lesion words become one ("malignant mass" is a cancer); an organ beside one that it contains gives way
   ("right upper lobe of the lung").
3. A side belongs to the next organ, concept or lesion word before a comma or conjunction, else to the one before it.
4. An organ takes the lesion word right behind it, else the last one before it, else the next one after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from r2seg_agent.reason.bind import MENTIONS, Stream, Wish
from r2seg_agent.reason.lexicon import Item, lexicon


@dataclass(frozen=True)
class Request:
    """What a request says. `doubts` are questions that must be asked before planning: (question, concept ids)."""

    wanted: tuple[Wish, ...] = ()
    excluded: tuple[Wish, ...] = ()
    remarks: tuple[Wish, ...] = ()
    regions: tuple[tuple[str, str], ...] = ()
    """(region, kind) to search as a whole."""
    excluded_regions: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    """Lesion words without an organ."""
    excluded_kinds: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ()
    sequence: str = ""
    unknown: tuple[str, ...] = ()
    plain: tuple[str, ...] = ()
    """Ordinary words that mean nothing here."""
    lost_places: tuple[str, ...] = ()
    """Unknown words where an organ should stand: "in the gizzard"."""
    lost_exclusion: bool = False
    """True when something was excluded that could not be understood."""
    outline: bool = False
    doubts: tuple[tuple[str, tuple[str, ...]], ...] = field(default=())


def read_request(items: Sequence[Item]) -> Request:
    """The wishes of a request."""
    wanted, negative, remarks = _streams(items)
    if not any(i.role in MENTIONS for i in wanted) and any(i.role == "everything" for i in wanted):
        for run in negative:  # "everything but the liver in the abdomen": the region is wanted
            wanted += [i for i in run if i.role == "region"]
            run[:] = [i for i in run if i.role != "region"]
    positive = Stream(wanted)
    excluded = [Stream(run) for run in negative]
    remarked = [Stream(run) for run in remarks]
    said = [i for i in wanted if i.role == "modality"]
    sequences = [lexicon().sequences[i.text] for i in said if i.text in lexicon().sequences]
    return Request(
        wanted=positive.wishes,
        excluded=tuple(w for s in excluded for w in s.wishes),
        remarks=tuple(w for s in remarked for w in s.wishes),
        regions=positive.regions,
        excluded_regions=tuple(r for s in excluded for r, _ in s.regions),
        kinds=positive.kinds,
        excluded_kinds=tuple(k for s in excluded for k in s.kinds),
        modalities=tuple(dict.fromkeys(i.value for i in said)),
        sequence=sequences[0] if len(set(sequences)) == 1 else "",
        unknown=tuple(i.text for i in items if i.role == "unknown"),
        plain=tuple(i.text for i in items if i.role == "plain"),
        lost_places=positive.lost_places(),
        lost_exclusion=any(not s.mentions for s in excluded),
        outline=any(i.role == "outline" for i in wanted),
        doubts=positive.doubts,
    )


def _streams(items: Sequence[Item]) -> tuple[list[Item], list[list[Item]], list[list[Item]]]:
    """Wanted items as one stream; each negated run and each remark as its own."""
    wanted: list[Item] = []
    negative: list[list[Item]] = []
    remarks: list[list[Item]] = []
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
                remarks.append([])
            continue
        ends = item.role == "stop" or (item.role in ("again", "outline") and not (mode == "not" and fresh))
        ends = ends or (item.role == "comma" and (mode == "context" or following in ("in", "again")))
        ends = ends or (
            mode == "context" and item.role in ("in", "join") and any(i.role in MENTIONS for i in remarks[-1])
        )
        if ends:
            mode = "wanted"
        if item.role in MENTIONS:
            fresh = False
        {"wanted": wanted, "not": negative[-1] if negative else wanted, "context": remarks[-1] if remarks else wanted}[
            mode
        ].append(item)
    return wanted, negative, remarks
