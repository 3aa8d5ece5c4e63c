"""Which finding is meant: by number, ordinal, size, place, kind, "the other one" or "it"."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from r2seg_agent.reason import anatomy, concepts
from r2seg_agent.reason.concepts import GENERIC_KIND
from r2seg_agent.reason.language.dialogue.intents import Which
from r2seg_agent.reason.language.dialogue.spelling import cue, know
from r2seg_agent.reason.language.dialogue.table import FindingRow, Table
from r2seg_agent.reason.language.lexicon import Item, lexicon, understand

_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
_CARDINALS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")

know(*_ORDINALS, *_CARDINALS, "number", "finding", "lesion", "candidate", "nodule", "other")

_CANDIDATE = cue(r"(?P<id>t\d+r\d+c\d+)")
_NOUN = r"(?:finding|lesion|candidate|nodule|mass|tumor|cyst|metastasis|number|no|nr|num|item|one|result|spot|#)"
_COUNTED = re.compile(
    rf"(?<!\S){_NOUN} (?:number |no |nr |# )?(?P<n>\d+|{'|'.join(_CARDINALS[1:])}|one(?! (?:in|on|at|with|of)))(?!\S)"
)
_RANGE = re.compile(r"(?<!\S)(?P<a>\d+) (?:to|through|until|till|-|–) (?P<b>\d+)(?!\S)")
_BARE = re.compile(r"(?<!\S)(?P<n>\d+)(?! (?:mm|cm|ml|cc|hu|%|percent|slice))(?!\S)")
_NO_ORDINAL = "".join(f"(?<!{word} )" for word in ("upper", "middle", "mid", "lower", "superior", "inferior"))
"""The upper third is a place."""
_ORDINAL = re.compile(rf"(?<!\S){_NO_ORDINAL}(?P<n>{'|'.join(_ORDINALS)}|\d+(?:st|nd|rd|th))(?!\S)")
_LAST = cue(r"(?:the )?(?:last|final)(?: (?:one|finding|lesion|nodule|candidate|of them))?|(?:the )?last")
_LARGEST = cue(r"biggest|largest|bigger|larger|longest|hugest|greatest|widest|huge")
_SMALLEST = cue(r"smallest|smaller|tiniest|littlest|shortest|tiny")
_STRONGEST = cue(
    r"strongest|clearest|most (?:prominent|obvious|likely|significant|important|suspicious)|main|top|best|primary"
    r"|dominant"
)
_OTHER = cue(
    r"(?:the |any )?other(?: (?:one|finding|lesion|nodule|tumor|mass|two|three))?|another one|the rest|remaining|else"
)
_ALL = cue(
    r"all|both|each|every|everything|them|they|their|these|those|any|everyone|each one|every one|total|sum"
    r"|(?:the|all|other) (?:two|three|four|five|six|seven|eight|nine|ten)"
)
_PLURAL = re.compile(
    r"\b(?:ones|findings|lesions|nodules|tumou?rs|masses|cysts|metastases|mets|candidates|results|spots|others|rejections)\b",
    re.IGNORECASE,
)
_PLURAL_SIZES = re.compile(r"\b(?:volumes|sizes|diameters|locations|positions|places|pictures|slices)\b", re.IGNORECASE)
"""More than one of these belongs to more than one finding, unless to "it"."""
_IT = cue(r"it|its|that|this|that one|this one|the one|same|one")
_DIRECTIONS = {
    "upper": cue(r"upper|top|superior|apical|highest|higher|above|apex"),
    "lower": cue(r"lower|bottom|inferior|basal|lowest|below|base"),
    "middle": cue(r"middle|mid|central"),
    "anterior": cue(r"anterior|front|ventral|in front"),
    "posterior": cue(r"posterior|back|dorsal|behind|rear"),
    "medial": cue(r"medial|inner"),
    "lateral": cue(r"lateral|outer"),
}


@dataclass(frozen=True)
class _Place:
    """What a place in patient terms says: canonical organs, sides, directions."""

    organs: tuple[str, ...]
    sides: frozenset[str]
    directions: frozenset[str]


def which_finding(words: str, typed: str, table: Table) -> Which:
    """The findings that a clause speaks of. `words` are normalised, `typed` is the clause as it came."""
    if found := _CANDIDATE.search(words):
        return Which(candidate=found["id"])
    rows = table.findings
    if numbers := _numbers(words, len(rows)):
        return Which(numbers=numbers)
    plural = bool(
        _PLURAL.search(typed) or _ALL.search(words) or (_PLURAL_SIZES.search(typed) and not _IT.search(words))
    )
    fit, said = _described(words, rows)
    if said and not fit:
        return Which(missing=said)
    if _OTHER.search(words) and table.focus is not None:
        fit = tuple(row for row in fit if row.number != table.focus)
        return _choose(fit, plural=plural or len(fit) == 1)
    if len(fit) > 1 and (extreme := _extreme(words, fit)):
        return _choose(extreme, plural=False)
    if said or plural:
        return _choose(fit, plural=plural)
    if table.focus is not None and any(row.number == table.focus for row in rows):
        return Which(numbers=(table.focus,))
    return _choose(fit, plural=False)


def which_rejected(words: str, typed: str, table: Table) -> Which:
    """The rejected candidates that a clause speaks of; with no numbers and not `unsure`, all as a whole."""
    if found := _CANDIDATE.search(words):
        return Which("rejected", candidate=found["id"])
    if numbers := _numbers(words, len(table.rejected)):
        return Which("rejected", numbers)
    if _LARGEST.search(words) and table.rejected:
        return Which("rejected", (max(table.rejected, key=lambda r: (r.volume_ml, -r.number)).number,))
    if _SMALLEST.search(words) and table.rejected:
        return Which("rejected", (min(table.rejected, key=lambda r: (r.volume_ml, r.number)).number,))
    if len(table.rejected) == 1:
        return Which("rejected", (1,))
    if not table.rejected or _PLURAL.search(typed) or _ALL.search(words) or not _IT.search(words):
        return Which("rejected")
    return Which("rejected", tuple(row.number for row in table.rejected), unsure=True)


def is_numbered(words: str, table: Table) -> bool:
    """True when a clause names findings by number or order."""
    return bool(_CANDIDATE.search(words) or _numbers(words, len(table.findings)))


def names_one(words: str, table: Table) -> bool:
    """True when a clause names a finding by number, order, size or as "it", whatever else it says."""
    return is_numbered(words, table) or any(
        p.search(words) for p in (_LARGEST, _SMALLEST, _STRONGEST, _OTHER, _ALL, _IT)
    )


def _numbers(words: str, n: int) -> tuple[int, ...]:
    """Numbers said in any way, in order; the last of `n` for "the last one"."""
    found: list[tuple[int, int]] = []
    covered: list[range] = []

    def add(match: re.Match[str], *numbers: int) -> None:
        if not any(match.start() in span for span in covered):
            covered.append(range(match.start(), match.end()))
            found.extend((match.start(), k) for k in numbers)

    for m in _RANGE.finditer(words):
        low, high = int(m["a"]), int(m["b"])
        if low < high <= low + 20:
            add(m, *range(low, high + 1))
    for m in _COUNTED.finditer(words):
        add(m, _value(m["n"]))
    for m in _ORDINAL.finditer(words):
        add(m, _value(m["n"]))
    for m in _BARE.finditer(words):
        add(m, int(m["n"]))
    if not found and n and (last := _LAST.search(words)):
        add(last, n)
    return tuple(dict.fromkeys(k for _, k in sorted(found)))


def _value(text: str) -> int:
    for names in (_ORDINALS, _CARDINALS):
        if text in names:
            return names.index(text) + 1
    return int(re.sub(r"\D", "", text))


def _extreme(words: str, rows: Sequence[FindingRow]) -> tuple[FindingRow, ...]:
    """The largest, smallest or strongest of `rows`; several where they are equally large, none where none is asked."""
    if _STRONGEST.search(words):
        return (min(rows, key=lambda row: row.number),)
    pick: Callable[[Sequence[float]], float] | None = None
    if _LARGEST.search(words):
        pick = max
    elif _SMALLEST.search(words):
        pick = min
    if pick is None:
        return ()
    wanted = pick([row.volume_ml for row in rows])
    return tuple(row for row in rows if row.volume_ml == wanted)


def _choose(rows: Sequence[FindingRow], *, plural: bool) -> Which:
    numbers = tuple(row.number for row in rows)
    return Which(numbers=numbers, unsure=len(numbers) > 1 and not plural)


def _described(words: str, rows: tuple[FindingRow, ...]) -> tuple[tuple[FindingRow, ...], str]:
    """The rows that fit the organ, side, direction and kind that the words name, and those words ("" for none)."""
    items, _ = understand(words)
    said: list[str] = []
    fit = rows

    def keep(text: str, test: Callable[[FindingRow], bool]) -> None:
        nonlocal fit
        said.append(text)
        fit = tuple(row for row in fit if test(row))

    for item in items:
        if item.role == "organ":
            keep(item.text, _in_organ(item.value, fit))
        elif item.role == "side" and item.value != "both":
            keep(item.text, _on_side(item.value))
        elif item.role == "concept":
            keep(item.text, _of_concept(item.value))
        elif item.role == "region":
            keep(item.text, _in_region(item.value))
    loose = " ".join(item.text for item in items if item.role != "organ")  # "lower lobe" is an organ, "lower" is not
    for name, pattern in _DIRECTIONS.items():
        if (found := pattern.search(loose)) and any(name in _place(row.place).directions for row in rows):
            keep(found[0], _towards(name))
    if narrower := _of_kind(items, fit):
        fit = narrower
    return fit, " ".join(said)


def _in_organ(organ: str, rows: tuple[FindingRow, ...]) -> Callable[[FindingRow], bool]:
    """In the organ by place; where no finding is, one that was searched for there."""
    inside = {row.number for row in rows if any(organ in anatomy.containing(own) for own in _place(row.place).organs)}
    if not inside:
        inside = {row.number for row in rows if organ in anatomy.containing(_home(row.concept))}
    return lambda row: row.number in inside


def _on_side(side: str) -> Callable[[FindingRow], bool]:
    return lambda row: side in _place(row.place).sides


def _of_concept(concept: str) -> Callable[[FindingRow], bool]:
    wanted = concepts.concept(concept)

    def fits(row: FindingRow) -> bool:
        own = concepts.concept(row.concept)
        alike = wanted.organ == own.organ and (GENERIC_KIND in wanted.kinds or GENERIC_KIND in own.kinds)
        return row.concept == concept or alike

    return fits


def _in_region(region: str) -> Callable[[FindingRow], bool]:
    organs = lexicon().regions[region].organs
    return lambda row: any(organ in anatomy.containing(_home(row.concept)) for organ in organs)


def _towards(direction: str) -> Callable[[FindingRow], bool]:
    return lambda row: direction in _place(row.place).directions


def _of_kind(items: Sequence[Item], rows: tuple[FindingRow, ...]) -> tuple[FindingRow, ...]:
    """The rows whose target is of a kind that is named ("the cyst"); none where that tells nothing apart."""
    kinds = {item.value for item in items if item.role == "lesion"} - {GENERIC_KIND}
    return tuple(row for row in rows if kinds & set(concepts.concept(row.concept).kinds)) if kinds else ()


def _home(concept: str) -> str:
    return concepts.concept(concept).organ


@lru_cache(maxsize=512)
def _place(text: str) -> _Place:
    items, _ = understand(text)
    organs = tuple(dict.fromkeys(item.value for item in items if item.role == "organ"))
    sides = {item.value for item in items if item.role == "side"}
    sides |= {side for organ in organs if (side := anatomy.organ(organ).side)}
    _, *rest = text.split(",")
    said = " ".join(rest)
    return _Place(organs, frozenset(sides), frozenset(name for name in _DIRECTIONS if re.search(rf"\b{name}\b", said)))
