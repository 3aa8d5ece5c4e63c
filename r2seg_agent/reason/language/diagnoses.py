"""A finding and what it is thought to be are one target: "2 cm renal mass, suspicious for RCC" asks for the RCC.

Where several diagnoses are named ("adenoma versus metastasis"), the finding itself stays the target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from r2seg_agent.reason import concepts
from r2seg_agent.reason.concepts import GENERIC_KIND, Concept
from r2seg_agent.reason.language.lexicon import Item
from r2seg_agent.reason.language.wishes import Wish, concept_of, related

_FINDINGS = (GENERIC_KIND, "nodule")
"""Lesion words that name what is seen, not what it is."""
_APART = ("filler", "plain", "unknown", "comma")


class Word(Protocol):
    """A lesion word of the request (`bind.Mention`)."""

    role: str
    value: str
    at: int
    used: bool


def diagnosed(items: Sequence[Item], words: Sequence[Word], wishes: Sequence[Wish]) -> tuple[Wish, ...]:
    """The wishes, each finding replaced by the one diagnosis that its sentence gives it. Marks the words it uses."""
    kept = list(wishes)
    for n, item in enumerate(items):
        if item.role != "means":
            continue
        start, end = _sentence(items, n)
        before = [w for w in reversed(kept) if start <= w.at < n]
        finding = next((w for w in before if _is_finding(w)), None) or next(iter(before), None)
        alone = [m for m in words if m.role == "lesion" and not m.used]
        if finding is None:
            if any(start <= w.at < end for w in kept):  # "a mass in the kidney, likely malignant": bound already
                _use([m for m in alone if start <= m.at < n and m.value in _FINDINGS])
            continue
        named = [w for w in kept if n < w.at < end and _fits(w, finding)]
        bare = [m for m in alone if n < m.at < end and _is_finding(finding)]
        meant = [_placed(w, finding) for w in named]
        meant += [Wish(None, _place(finding), m.value, finding.side, m.value, finding.at) for m in bare]
        _use(bare)
        _merge(kept, finding, named, meant)
    return tuple(_apposed(items, kept))


def _apposed(items: Sequence[Item], wishes: list[Wish]) -> list[Wish]:
    """ "Right renal lesion, Bosniak IIF": a finding with a place, and behind a comma a concept of its kind without."""
    for finding, other in zip(list(wishes), wishes[1:], strict=False):
        between = items[finding.at + 1 : other.at]
        after = between[
            max((i for i, item in enumerate(between) if item.role == "comma" or item.text == "("), default=0) :
        ]
        if not any(i.role == "comma" or i.text == "(" for i in between) or any(i.role not in _APART for i in after):
            continue
        if any(i.role in ("join", "stop") for i in between) or other.concept is None or other.organ or other.side:
            continue
        placed = finding.side is not None and _is_finding(finding)
        if placed and _descends(concepts.concept(other.concept), concept_of(finding)):
            _merge(wishes, finding, [other], [_placed(other, finding)])
    return wishes


def _merge(kept: list[Wish], finding: Wish, named: Sequence[Wish], meant: Sequence[Wish]) -> None:
    ids = {c.id for w in meant if (c := concept_of(w))}
    if not ids:
        return
    kept[:] = [w for w in kept if not any(w is other for other in named)]
    if len(ids) == 1:
        kept[next(i for i, w in enumerate(kept) if w is finding)] = meant[0]


def _sentence(items: Sequence[Item], n: int) -> tuple[int, int]:
    start = max((i + 1 for i in range(n) if items[i].role == "stop"), default=0)
    return start, next((i for i in range(n, len(items)) if items[i].role == "stop"), len(items))


def _is_finding(wish: Wish) -> bool:
    c = concept_of(wish)
    return (
        c is not None
        and (wish.concept is not None or wish.kind is not None)
        and c.kinds[:1] != ()
        and (c.kinds[0] in _FINDINGS and (wish.kind in (None, *_FINDINGS)))
    )


def _fits(wish: Wish, finding: Wish) -> bool:
    c, seen = concept_of(wish), concept_of(finding)
    if c is None or seen is None:
        return False
    if not _is_finding(finding):  # "pancreatic cyst, in keeping with IPMN"
        return _descends(c, seen)
    return _descends(c, seen) or related(c, _place(finding)) or related(seen, c.organ)


def _placed(wish: Wish, finding: Wish) -> Wish:
    """The diagnosis where the finding is."""
    return replace(wish, organ=_place(finding) or wish.organ, side=finding.side or wish.side, at=finding.at)


def _place(finding: Wish) -> str:
    c = concept_of(finding)
    return finding.organ or (c.organ if c else "")


def _descends(c: Concept, ancestor: Concept | None) -> bool:
    while ancestor is not None and c.parent is not None:
        c = concepts.concept(c.parent)
        if c.id == ancestor.id:
            return True
    return False


def _use(found: Sequence[Word]) -> None:
    for m in found:
        m.used = True
