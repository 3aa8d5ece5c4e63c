"""What one clause of a message asks for: rules in a fixed order, the first that fits decides."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from r2seg_agent.reason import anatomy, concepts
from r2seg_agent.reason.language.bind import MENTIONS
from r2seg_agent.reason.language.dialogue import cues
from r2seg_agent.reason.language.dialogue.clauses import Clause
from r2seg_agent.reason.language.dialogue.intents import (
    Describe,
    Explain,
    Find,
    Include,
    Intent,
    Locate,
    Plane,
    Remark,
    Same,
    SetAlpha,
    Show,
    Summarize,
    Topic,
    Undo,
    Which,
    Widen,
)
from r2seg_agent.reason.language.dialogue.references import is_numbered, names_one, which_finding, which_rejected
from r2seg_agent.reason.language.dialogue.table import Table, TargetRow
from r2seg_agent.reason.language.lexicon import Item, understand

_PER_CENTS = {"one": "1", "two": "2", "three": "3", "five": "5", "ten": "10"}


@dataclass(frozen=True)
class ClauseRules:
    """The rules over one clause."""

    clause: Clause
    table: Table

    @cached_property
    def words(self) -> str:
        """The clause's normalised words."""
        return self.clause.words

    @cached_property
    def core(self) -> str:
        """The clause without "could you please" and the like."""
        return cues.LEAD_IN.sub("", f"{self.words} ").strip()

    @cached_property
    def items(self) -> Sequence[Item]:
        """What the lexicon knows of the clause: organs, concepts, lesion words, sides."""
        return understand(self.clause.typed)[0]

    @cached_property
    def places(self) -> tuple[str, ...]:
        """Organs that the clause names, by itself or through a concept or region."""
        found = [item.value for item in self.items if item.role == "organ"]
        found += [concepts.concept(item.value).organ for item in self.items if item.role == "concept"]
        return tuple(found)

    @property
    def names_lesion(self) -> bool:
        """True when a lesion of any kind is named."""
        return any(item.role in ("lesion", "concept", "ambiguous") for item in self.items)

    @property
    def names_place(self) -> bool:
        """True when an organ, a region or a lesion with a place of its own is named."""
        return any(item.role in MENTIONS and item.role != "lesion" for item in self.items)

    @property
    def fresh(self) -> bool:
        """Nothing was searched yet."""
        return not self.table.targets

    def intents(self) -> tuple[Intent, ...]:
        """Mostly one."""
        for rule in (
            self._polite,
            self._level,
            self._undo,
            self._help,
            self._new_search,
            self._diagnosis,
            self._summary,
            self._why,
            self._include,
            self._widen,
            self._show,
            self._where,
            self._size,
            self._same,
            self._find,
        ):
            found = rule()
            if found:
                return found
        return (Remark("unknown", self.clause.typed),)

    def _polite(self) -> tuple[Intent, ...]:
        topics: tuple[tuple[Topic, re.Pattern[str]], ...] = (
            ("greeting", cues.GREETING),
            ("thanks", cues.THANKS),
            ("bye", cues.BYE),
        )
        for topic, pattern in topics:
            if pattern.fullmatch(self.words.replace(" ,", "")):
                return (Remark(topic, self.clause.typed),)
        return () if self.core or "again" in self.words else (Remark("thanks", self.clause.typed),)

    def _level(self) -> tuple[Intent, ...]:
        """The significance level: a new value, a wish without a value, or a question about it."""
        for pattern in (cues.ALPHA, cues.ALPHA_AFTER, cues.ALPHA_BARE):
            if (found := pattern.search(self.words)) and not (pattern is cues.ALPHA_BARE and self.names_place):
                number = found["number"].replace(",", ".")
                value = float(_PER_CENTS.get(number, number))
                value = value / 100 if found["percent"] else value
                word = found.groupdict().get("word", "")
                if word and word.startswith("confidence") and value > 0.5:  # "95 % confidence"
                    value = 1 - value
                return (SetAlpha(round(value, 12)),)
        if cues.ASK_ALPHA.fullmatch(self.core):
            return (Remark("alpha", self.clause.typed),)
        if cues.STRICTNESS.fullmatch(self.core):
            return (Remark("level", self.clause.typed),)
        return ()

    def _undo(self) -> tuple[Intent, ...]:
        if cues.UNDO.match(self.core) and not self.places:
            return (Undo(),)
        return ()

    def _help(self) -> tuple[Intent, ...]:
        if cues.HELP.fullmatch(self.core):
            return (Remark("help", self.clause.typed),)
        if cues.EXPORT.fullmatch(self.core) and not self.names_place:
            return (Remark("export", self.clause.typed),)
        return ()

    def _new_search(self) -> tuple[Intent, ...]:
        """A search before anything was searched: then "where is the liver tumour?" is one too."""
        if not self.fresh or not self.names_place:
            return ()
        more: tuple[Intent, ...] = ()
        if cues.SIZE.search(self.words):
            more = (Describe(Which()),)
        elif cues.PICTURE.search(self.words) and cues.DRAW.match(self.core):
            more = (Show(Which(), self._plane()),)
        return (Find(self.clause.typed), *more)

    def _diagnosis(self) -> tuple[Intent, ...]:
        if cues.DIAGNOSIS.search(self.words) and not (cues.FIND.match(self.core) and self.names_place):
            return (Remark("diagnosis", self.clause.typed),)
        return ()

    def _summary(self) -> tuple[Intent, ...]:
        named = self.names_place or self.names_lesion
        if cues.WHAT_WAS_DONE.match(self.core) or (cues.SUMMARIZE.search(self.words) and not named):
            return (Summarize(),)
        return ()

    def _why(self) -> tuple[Intent, ...]:
        words, table = self.words, self.table
        asks = cues.WHY.search(words) is not None
        kept = cues.NOT_REJECTED.search(words) is not None
        rejected = cues.REJECTED.search(words) is not None and not kept
        if cues.EXCLUDE.match(self.core) and not asks and not self.fresh:
            known = self.names_place or self.names_lesion or names_one(words, table)
            return (Remark("exclude" if known else "unknown", self.clause.typed),)
        if not asks and (not rejected or self.fresh):
            return ()
        if rejected and not asks and cues.DRAW.match(self.core):
            return ()  # a picture of it
        if rejected or (cues.NOTHING.search(words) and not kept):
            return (Explain(which_rejected(words, self.clause.typed, table)),)
        if not table.findings and table.rejected and not kept:
            return (Explain(which_rejected(words, self.clause.typed, table)),)
        return (Explain(self._which()),)

    def _include(self) -> tuple[Intent, ...]:
        found = cues.INCLUDE.match(self.core) or cues.ALSO_INCLUDE.match(self.core)
        if found is None or self.fresh:
            return ()
        if self.names_lesion:
            return (Find(self.clause.typed),)
        if organs := _organs(self.items):
            return (Include(organs),)
        unknown = " ".join(item.text for item in self.items if item.role == "unknown")
        if unknown and not cues.WIDEN.search(self.words) and not self.words.startswith("use"):
            return (Include((unknown,)),)
        return ()

    def _widen(self) -> tuple[Intent, ...]:
        if self.fresh or not cues.WIDEN.search(self.words):
            return ()
        if cues.PICTURE.search(self.words) and cues.DRAW.match(self.core):
            return ()
        if not self.places:
            return (Widen(),)
        covered = [t.number for t in self.table.targets if any(_covers(t, place) for place in self.places)]
        return (Widen(covered[-1]),) if covered else ()

    def _show(self) -> tuple[Intent, ...]:
        picture = cues.PICTURE.search(self.words) is not None
        draws = cues.DRAW.match(self.core) is not None
        listed = cues.LISTING.search(self.words) and not is_numbered(self.words, self.table)
        lists = listed or cues.SIZE.search(self.words)
        refers = names_one(self.words, self.table) and not (self.names_place or self.names_lesion)
        if not (picture or (draws and not lists)) or (self.fresh and not (picture or refers)):
            return ()
        if cues.PLACE.match(self.core) or (
            not draws and cues.FIND.match(self.core) and (self.names_place or self.names_lesion)
        ):
            return ()  # "which slice is it on", "find … in this image"
        plane = self._plane()
        if cues.REJECTED.search(self.words):
            which = which_rejected(self.words, self.clause.typed, self.table)
            return (Show(which, plane),) if which.numbers or which.candidate else (Explain(which),)
        which = self._which()
        covered = [t.number for t in self.table.targets if any(_covers(t, place) for place in self.places)]
        if which.missing or (not which.numbers and self.places and not self.fresh):
            if not covered:
                return (Find(self.clause.typed),) if self.names_place else (_missing(which),)
            region = Show(Which(), plane, region=True, target=covered[-1])
            return (region, _missing(which)) if which.missing and self.names_lesion else (region,)
        return (Show(which, plane, region=cues.REGION.search(self.words) is not None),)

    def _where(self) -> tuple[Intent, ...]:
        if self.table.findings and (asked := cues.IS_IT_IN.match(self.core)):
            return (Locate(which_finding(asked["it"], asked["it"], self.table)),)
        return self._asked(Locate) if cues.PLACE.search(self.words) else ()

    def _size(self) -> tuple[Intent, ...]:
        sizes = cues.SIZE.search(self.words)
        if not sizes and not cues.LISTING.search(self.words):
            return ()
        if sizes and self.places and not self.names_lesion and not names_one(self.words, self.table):
            return (Remark("organ", self.clause.typed),)
        sided = any(item.role == "side" for item in self.items)
        about_all = cues.OPEN.search(self.words) or not (sided or names_one(self.words, self.table))
        if about_all and not sizes and not self.names_place and not is_numbered(self.words, self.table):
            return (Describe(Which()),)
        return self._asked(Describe)

    def _asked(self, kind: type[Describe] | type[Locate]) -> tuple[Intent, ...]:
        which = self._which()
        refers = self.table.findings and names_one(self.words, self.table)
        if which.missing and not self._is_searched() and not refers:
            more = (kind(Which()),) if cues.SIZE.search(self.words) or cues.PLACE.search(self.words) else ()
            return (Find(self.clause.typed), *more) if self.names_place else (_missing(which),)
        return (_missing(which),) if which.missing else (kind(which),)

    def _same(self) -> tuple[Intent, ...]:
        """ "And the second one?", "what about the liver?"."""
        if self.fresh or not self.table.findings:
            return ()
        if self.names_place and not self._is_searched():
            return ()
        about = cues.WHAT_ABOUT.match(self.words) is not None
        named = names_one(self.words, self.table)
        sided = any(item.role == "side" for item in self.items)
        if not (named or (about and (self.names_place or self.names_lesion)) or sided) or cues.FIND.match(self.core):
            return ()
        which = self._which()
        return (_missing(which),) if which.missing else (Same(which),)

    def _find(self) -> tuple[Intent, ...]:
        searched_for = cues.SEARCHES.match(self.core) and not names_one(self.words, self.table)
        return (Find(self.clause.typed),) if self.names_place or searched_for or self.fresh else ()

    def _which(self) -> Which:
        if not self.table.findings:
            return Which()
        return which_finding(self.words, self.clause.typed, self.table)

    def _is_searched(self) -> bool:
        """True when every place that the clause names was searched."""
        return bool(self.places) and all(any(_covers(t, place) for t in self.table.targets) for place in self.places)

    def _plane(self) -> Plane | None:
        for plane, pattern in cues.PLANES.items():
            if pattern.search(self.words):
                return plane
        return None


def _missing(which: Which) -> Remark:
    return Remark("missing", which.missing)


def _covers(target: TargetRow, organ: str) -> bool:
    own = (*target.anchors, concepts.concept(target.concept).organ)
    return any(organ in anatomy.containing(o) or o in anatomy.containing(organ) for o in own)


def _organs(items: Sequence[Item]) -> tuple[str, ...]:
    """The organs of a list such as "the stomach and both kidneys", a side with the organ behind it."""
    found: list[str] = []
    side = ""
    for item in items:
        if item.role == "side":
            side = item.value
        elif item.role == "organ":
            one = (
                anatomy.on_side(item.value, "left" if side == "left" else "right")
                if side in ("left", "right")
                else None
            )
            found += [one] if one else anatomy.expand(item.value)
            side = ""
    return tuple(dict.fromkeys(found))
