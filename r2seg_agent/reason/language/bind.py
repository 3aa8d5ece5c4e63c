"""Binding the items of one stream: which lesion word, organ and side belong together (rules 2 to 4 of `parse`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from r2seg_agent.reason import anatomy, concepts
from r2seg_agent.reason.concepts import GENERIC_KIND, Concept
from r2seg_agent.reason.language.diagnoses import diagnosed
from r2seg_agent.reason.language.lexicon import Item, lexicon
from r2seg_agent.reason.language.wishes import Wish, related
from r2seg_agent.reason.normal_words import words
from r2seg_agent.reason.plan import Side

SideWord = Literal["left", "right", "both"]
MENTIONS = ("concept", "ambiguous", "organ", "lesion", "region")
"""Roles of the items that wishes are made of."""
_SPACE = ("filler", "plain", "unknown", "side", "again", "outline", "everything", "modality", "whole", "means")
"""Items that do not part a lesion word from its organ."""


@dataclass
class Mention:
    """A concept, organ, lesion word or region of the request, at position `at` of its stream of items."""

    role: str
    value: str
    text: str
    at: int
    side: SideWord | None = None
    used: bool = False


class Stream:
    """Items of one polarity, bound to wishes."""

    def __init__(self, items: Sequence[Item]) -> None:
        self._items = items
        self.mentions = [Mention(i.role, i.value, i.text, n) for n, i in enumerate(items) if i.role in MENTIONS]
        self.doubts: tuple[tuple[str, tuple[str, ...]], ...] = ()
        self.regions: tuple[tuple[str, str], ...] = ()
        self._resolve_abbreviations()
        self._join_lesion_words()
        self._give_sides()
        self._join_organs()
        self._drop_origins()
        self.wishes = diagnosed(self._items, self.mentions, self._bind())
        self.kinds = tuple(m.value for m in self.mentions if m.role == "lesion" and not m.used)

    def _between(self, a: Mention, b: Mention, *roles: str) -> bool:
        return any(i.role in roles for i in self._items[a.at + 1 : b.at])

    def _touching(self, a: Mention, b: Mention) -> bool:
        """Nothing but filler, sides and the like stands between the two."""
        low, high = sorted((a.at, b.at))
        return all(i.role in _SPACE for i in self._items[low + 1 : high])

    def _resolve_abbreviations(self) -> None:
        named = [m.value for m in self.mentions if m.role == "organ"]
        for m in [m for m in self.mentions if m.role == "ambiguous"]:
            meaning = lexicon().ambiguous[m.value]
            fit = [c for c in meaning.concepts if any(related(concepts.concept(c), organ) for organ in named)]
            if len(fit) == 1:
                m.role, m.value = "concept", fit[0]
                continue
            other = f" or {' or '.join(meaning.other)}" if meaning.other else ""
            names = " or ".join(f"“{concepts.concept(c).name}”" for c in meaning.concepts)
            question = f"“{m.text.upper()}” has more than one meaning. Do you mean {names}{other}?"
            self.doubts = (*self.doubts, (question, meaning.concepts))
        self.mentions = [m for m in self.mentions if m.role != "ambiguous"]

    def _join_lesion_words(self) -> None:
        kept: list[Mention] = []
        for m in self.mentions:
            last = kept[-1] if kept else None
            if last is None or not self._touching(last, m) or self._between(last, m, "means"):
                kept.append(m)
            elif last.role == m.role == "lesion":
                weaker = m.value == GENERIC_KIND or last.value == "metastasis"  # "metastatic melanoma"
                kept[-1] = replace(last, at=m.at) if weaker else replace(m, side=last.side)
            elif last.role == m.role == "concept" and _is_metastasis(m) and not _is_metastasis(last):
                kept[-1] = m  # "breast cancer lung metastases": the cancer says where they come from
            elif last.role == "lesion" and m.role == "concept":
                refined = _refined(m.value, last.value)
                kept[-1] = replace(m, value=refined)
            elif last.role == "concept" and m.role == "lesion":
                if m.value == "metastasis" and concepts.concept(last.value).kinds[:1] != ("lesion",):
                    kept[-1] = m  # "colon cancer metastases": the cancer says where they come from
                else:
                    kept[-1] = replace(last, value=_refined(last.value, m.value), at=m.at)
            else:
                kept.append(m)
        self.mentions = kept

    def _give_sides(self) -> None:
        for n, item in enumerate(self._items):
            if item.role != "side":
                continue
            after = next((m for m in self.mentions if m.at > n), None)
            before = next((m for m in reversed(self.mentions) if m.at < n), None)
            parted = ("join", "comma", "stop", "in")
            if after and not any(i.role in parted for i in self._items[n + 1 : after.at]):
                owner: Mention | None = after
            elif before and (
                after is None or not any(i.role in ("comma", "stop") for i in self._items[before.at + 1 : n])
            ):
                owner = before
            else:
                owner = after
            if owner is None:
                continue
            side: SideWord = "left" if item.value == "left" else "right" if item.value == "right" else "both"
            owner.side = side if owner.side in (None, side) else "both"

    def _join_organs(self) -> None:
        kept: list[Mention] = []
        for m in self.mentions:
            last = kept[-1] if kept else None
            if last and last.role == m.role == "organ" and not self._between(last, m, "join", "comma", "stop"):
                if m.value in anatomy.containing(last.value):
                    kept[-1] = replace(last, side=last.side or m.side, at=m.at)
                    continue
                if anatomy.group_of(last.value) in anatomy.containing(m.value):  # "right lung, upper lobe"
                    kept[-1] = replace(m, side=m.side or last.side or anatomy.organ(last.value).side)
                    continue
            kept.append(m)
        self.mentions = kept

    def _drop_origins(self) -> None:
        """Of "colorectal mets in the liver" only the second organ is meant: the first says where they come from."""
        for origin, spread in zip(self.mentions, self.mentions[1:], strict=False):
            named = origin.role == "organ" and spread.role == "concept" and _is_metastasis(spread)
            if named and self._touching(origin, spread) and not related(concepts.concept(spread.value), origin.value):
                origin.role = "origin"
        for n, place in enumerate(self.mentions):
            if place.role != "organ" or n == 0:
                continue
            spread = self.mentions[n - 1]
            between = self._items[spread.at + 1 : place.at]
            leads = [i for i in between if i.role == "in" or i.text == "to"]
            if not _is_metastasis(spread) or not leads or any(i.role not in ("in", *_SPACE) for i in between):
                continue
            if spread.role == "concept":
                c = concepts.concept(spread.value)
                if not related(c, place.value) and c.organ != "lymph_nodes":
                    spread.role, spread.value = "lesion", "metastasis"
            elif n > 1 and (origin := self.mentions[n - 2]).role == "organ":
                inside = origin.value in anatomy.containing(place.value) or place.value in anatomy.containing(
                    origin.value
                )
                if self._touching(origin, spread) and not inside:
                    origin.role = "origin"
        self.mentions = [m for m in self.mentions if m.role != "origin"]

    def _bind(self) -> tuple[Wish, ...]:
        wishes: list[Wish] = []
        placed: dict[int, Mention] = {}  # concept position → organ that says where
        for organ in [m for m in self.mentions if m.role == "organ"]:
            owner = self._owner(organ)
            if owner is not None and owner.role == "concept":
                c = concepts.concept(owner.value)
                if not related(c, organ.value) and (there := _of_that_place(c, owner.text, organ.value)):
                    c, owner.value = there, there.id  # "carcinoid of the lung": the place decides
                if related(c, organ.value):
                    placed.setdefault(owner.at, organ)
                    organ.used = True
                elif c.organ == "lymph_nodes":
                    organ.used = True  # they are everywhere, and nothing finds those of one place
                elif self._touching(organ, owner):
                    self._doubt_place(c, organ)
        for n, m in enumerate(self.mentions):
            if m.role == "concept" and n > 0 and self._is_origin(self.mentions[n - 1], m):
                continue
            if m.role == "concept":
                organ = placed.get(m.at, m)
                place = organ.value if organ.role == "organ" else ""
                wishes.append(Wish(m.value, place, None, _one_side(organ.side or m.side), m.text, m.at))
            elif m.role == "organ" and not m.used:
                owner = self._owner(m)
                if owner is None:
                    wishes.append(Wish(None, m.value, None, _one_side(m.side), m.text, m.at))
                    continue
                owner.used = True
                kind = (
                    owner.value if owner.role == "lesion" else (*concepts.concept(owner.value).kinds, GENERIC_KIND)[0]
                )
                if kind == GENERIC_KIND and (first := self._special_before(m)):
                    kind, first.used = first.value, True  # "malignant liver mass"
                wishes.append(Wish(None, m.value, kind, _one_side(m.side or owner.side), m.text, min(m.at, owner.at)))
        self._bind_regions(bool(wishes))
        return self._taken_up((*wishes, *self._dangling(wishes)))

    def _taken_up(self, wishes: Sequence[Wish]) -> tuple[Wish, ...]:
        """ "Now the bladder. Any tumour there?": a lesion word alone speaks of the one organ named before it."""
        alone = [m for m in self.mentions if m.role == "lesion" and not m.used]
        if len(wishes) != 1 or len(alone) != 1 or self.regions:
            return tuple(wishes)
        (wish,), (word,) = wishes, alone
        if wish.concept is not None or wish.kind is not None or word.at < wish.at:
            return tuple(wishes)
        word.used = True
        return (replace(wish, kind=word.value, side=wish.side or _one_side(word.side)),)

    def _is_origin(self, before: Mention, cancer: Mention) -> bool:
        """True for "metastases of colon cancer"."""
        between = self._items[before.at + 1 : cancer.at]
        of = [i.text for i in between if i.role == "in"] == ["of"]
        return (
            of
            and _is_metastasis(before)
            and not _is_metastasis(cancer)
            and all(i.role in ("in", *_SPACE) for i in between)
        )

    def _special_before(self, organ: Mention) -> Mention | None:
        before = next((m for m in reversed(self.mentions) if m.at < organ.at), None)
        special = before and before.role == "lesion" and before.value != GENERIC_KIND and not before.used
        return before if before and special and self._touching(before, organ) else None

    def _owner(self, organ: Mention) -> Mention | None:
        """The lesion word or concept that speaks of this organ."""
        named = [m for m in self.mentions if m.role in ("lesion", "concept")]
        after = next((m for m in named if m.at > organ.at), None)
        if after and self._touching(organ, after):
            return after
        before = next((m for m in reversed(named) if m.at < organ.at), None)
        if before and not self._between(before, organ, "stop"):
            previous = next((m for m in reversed(self.mentions) if m.at < before.at), None)
            taken = before.role == "concept" or (
                previous is not None and previous.role == "organ" and self._touching(previous, before)
            )
            if self._between(before, organ, "in") or not taken or self._touching(before, organ):
                return before
            listed = " in " in before.text or " of " in before.text  # "metastases in bone and liver"
            if listed and not self._between(before, organ, "concept", "lesion", "ambiguous", "region", "again"):
                return before
            if before.role == "concept" and self._is_aside(concepts.concept(before.value).organ, before, organ):
                return before
        shared = ("join", "comma", "organ", *_SPACE)  # "liver, kidney and lung metastases"
        if after and all(i.role in shared and i.role != "again" for i in self._items[organ.at + 1 : after.at]):
            return after
        return None

    def _is_aside(self, place: str, before: Mention, organ: Mention) -> bool:
        """True for a part named behind a comma: "lung nodule, left lower lobe"."""
        inside = organ.value != place and place in anatomy.containing(organ.value)
        return inside and all(i.role in ("comma", *_SPACE) for i in self._items[before.at + 1 : organ.at])

    def lost_places(self) -> tuple[str, ...]:
        """Unknown words behind "in" that no organ follows."""
        lost: list[str] = []
        for n, item in enumerate(self._items):
            before = next((i for i in reversed(self._items[:n]) if i.role not in ("filler", "side")), None)
            after = next((i for i in self._items[n + 1 :] if i.role not in _SPACE), None)
            if item.role != "unknown" or before is None or before.role != "in":
                continue
            if before.text.split()[0] in ("in", "within", "inside") and (after is None or after.role not in MENTIONS):
                lost.append(item.text)
        return tuple(lost)

    def _doubt_place(self, c: Concept, organ: Mention) -> None:
        generic = concepts.find_concept(organ.value, GENERIC_KIND)
        choices = (c.id, *((generic.id,) if generic else ()))
        place = anatomy.organ(organ.value).display
        self.doubts = (
            *self.doubts,
            (f"“{c.name}” is not a lesion of the {place} in the concept table. Which do you mean?", choices),
        )

    def _bind_regions(self, others: bool) -> None:
        found: list[tuple[str, str]] = []
        dropped: Mention | None = None
        for n, m in enumerate(self.mentions):
            if m.role != "region":
                continue
            beside = dropped is not None and n > 0 and self.mentions[n - 1] is dropped
            dropped = m
            around = [i.role for i in (*self._items[max(0, m.at - 3) : m.at], *self._items[m.at + 1 : m.at + 3])]
            named = [w for w in self.mentions if w.role == "lesion"]
            after = next((w for w in named if w.at > m.at and self._touching(m, w)), None)
            before = next((w for w in reversed(named) if w.at < m.at), None)
            joined = not beside and any(i.role == "join" for i in self._items[max(0, m.at - 2) : m.at])
            everything = any(i.role == "everything" for i in self._items[max(0, m.at - 4) : m.at])
            follower = self.mentions[n + 1] if n + 1 < len(self.mentions) else None
            if (
                others
                and follower is not None
                and follower.role in ("concept", "organ")
                and self._touching(m, follower)
            ):
                continue
            if others and not after and (("modality" in around) or not (joined or everything)):
                continue
            owner = after or before
            if owner:
                owner.used = True
            dropped = None
            found.append((m.value, owner.value if owner else GENERIC_KIND))
        self.regions = tuple(dict.fromkeys(found))

    def _dangling(self, wishes: Sequence[Wish]) -> list[Wish]:
        """Lesion words joined to a mention that has an organ: "liver tumours and cysts"."""
        more: list[Wish] = []
        for m in self.mentions:
            if m.role != "lesion" or m.used:
                continue
            before = next((o for o in reversed(self.mentions) if o.at < m.at and o.role in ("organ", "concept")), None)
            named = any(i.role == "unknown" for i in self._items[max(0, m.at - 1) : m.at])
            if (
                before is None
                or named
                or not self._between(before, m, "join", "comma")
                or self._between(before, m, "stop")
            ):
                continue
            place = before.value if before.role == "organ" else concepts.concept(before.value).organ
            side = next((w.side for w in wishes if w.text == before.text), None)
            m.used = True
            more.append(Wish(None, place, m.value, side, m.text, m.at))
        return more


def _is_metastasis(m: Mention) -> bool:
    return m.value == "metastasis" or (m.role == "concept" and concepts.concept(m.value).kinds[:1] == ("metastasis",))


def _of_that_place(c: Concept, text: str, organ: str) -> Concept | None:
    """The concept of the same kind in this organ, when the words for `c` name no organ themselves."""
    said = words(text)
    spans = (said[i:j] for i in range(len(said)) for j in range(i + 1, len(said) + 1))
    if c.organ != "lymph_nodes" and any(span in anatomy.phrases() for span in spans):
        return None
    kind = next((k for k in (text, c.id.replace("_", " "), *c.kinds[:1]) if k in c.kinds), None)
    found = concepts.find_concept(organ, kind) if kind else None
    return found if found and kind in found.kinds else None


def _one_side(side: SideWord | None) -> Side | None:
    return None if side == "both" else side


def _refined(concept_id: str, kind: str) -> str:
    """A generic concept made special by a lesion word beside it: "malignant" + lesion of liver."""
    c = concepts.concept(concept_id)
    if kind == GENERIC_KIND or GENERIC_KIND not in c.kinds:
        return concept_id
    found = concepts.find_concept(c.organ, kind)
    return found.id if found and kind in found.kinds else concept_id
