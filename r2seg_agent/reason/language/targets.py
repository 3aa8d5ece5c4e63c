"""From wishes to targets: which concept each names, what narrows its place down, and what the request leaves out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from r2seg_agent.reason import anatomy
from r2seg_agent.reason.concepts import GENERIC_KIND, Concept
from r2seg_agent.reason.language.lexicon import lexicon
from r2seg_agent.reason.language.parse import Request
from r2seg_agent.reason.language.wishes import Wish, concept_of
from r2seg_agent.reason.plan import Side


def targets_of(wishes: Sequence[Wish], asked: Request, available: frozenset[str] | None) -> list[tuple[Concept, Wish]]:
    """Concepts with the wish that named them, each place once, in the order of the request.

    Of a region, only organs that the anchor source can find, unless it can find none of them.
    """
    found: dict[tuple[str, str, Side | None], tuple[Concept, Wish]] = {}
    regional = [w for region, kind in asked.regions for w in _region(region, kind)]
    if available:
        within = [w for w in regional if (c := concept_of(w)) and reachable(c, available)]
        regional = within or regional
    for wish in (*wishes, *regional):
        c = concept_of(wish)
        if c is not None:
            wish = _on_neighbours_side(c, wish, asked)
            found.setdefault((c.id, narrowing_organ(c, wish), wish.side), (c, wish))
    return list(found.values())


def _on_neighbours_side(c: Concept, wish: Wish, asked: Request) -> Wish:
    """ "Mass behind the left eye in the orbit" is on the left: the eye beside it is one of its anchors."""
    anchors = {anatomy.group_of(a) for a in c.anchors}
    near = {w.side or anatomy.organ(w.organ).side for w in asked.beside if anatomy.group_of(w.organ) in anchors}
    sides = near - {None}
    return replace(wish, side=sides.pop()) if wish.side is None and len(sides) == 1 else wish


def _region(region: str, kind: str) -> list[Wish]:
    return [Wish(None, organ, kind, None, region) for organ in lexicon().regions[region].organs]


def narrowing_organ(c: Concept, wish: Wish) -> str:
    """The organ that narrows the concept's own down ("right upper lobe" of the lungs), else ""."""
    if wish.organ in c.anchors and len(c.anchors) > 1:
        return wish.organ
    if anatomy.group_of(wish.organ or c.organ) == c.organ not in c.anchors and c.anchors:
        return ""  # one side of an organ that nothing finds: its stand-ins are searched, on that side
    if wish.organ and wish.organ != c.organ and wish.organ not in anatomy.containing(c.organ)[1:]:
        inside = c.organ in anatomy.containing(wish.organ) or c.anchors == ("body",)
        inside = inside or any(a in anatomy.containing(wish.organ) for a in c.anchors)
        return wish.organ if inside and wish.organ not in c.anchors else ""
    return ""


def is_excluded(c: Concept, wish: Wish, asked: Request) -> bool:
    """True when the request leaves this target out: its region, its kind, its organ, or the concept itself."""
    if any(c.organ in lexicon().regions[r].organs for r in asked.excluded_regions):
        return True
    if any(k in c.kinds[:1] for k in asked.excluded_kinds if k != GENERIC_KIND):
        return True
    for no in asked.excluded:
        if no.concept is None and no.kind is None:
            place = wish.organ or c.organ
            if no.side is None and no.organ in anatomy.containing(place):
                return True
            if no.side is not None and anatomy.on_side(no.organ, no.side) == place:
                return True
        else:
            dropped = concept_of(no)
            if dropped is not None and dropped.id == c.id and no.side in (None, wish.side):
                return True
    return False


def excluded_names(asked: Request) -> tuple[str, ...]:
    """What the request leaves out, in words."""
    names: list[str] = []
    for no in asked.excluded:
        c = concept_of(no) if no.concept or no.kind else None
        display = c.name if c else anatomy.organ(no.organ).display
        names.append(f"{no.side} {display}" if no.side else display)
    return tuple(dict.fromkeys((*names, *asked.excluded_regions, *asked.excluded_kinds)))


def excluded_organs(asked: Request) -> frozenset[str]:
    """Organs that the request leaves out as a whole."""
    out: set[str] = set()
    for no in asked.excluded:
        if no.concept is None and no.kind is None:
            sided = anatomy.on_side(no.organ, no.side) if no.side else None
            out.update((sided,) if sided else (no.organ, *anatomy.expand(no.organ)))
    return frozenset(out)


def anchors_of(c: Concept, wish: Wish, asked: Request, available: frozenset[str] | None) -> tuple[str, ...]:
    """Where to search: the named part, else the concept's anchors, by sides, without what was excluded; () when
    everything was.
    """
    narrowed = narrowing_organ(c, wish)
    banned = excluded_organs(asked)
    wanted = (narrowed,) if narrowed else c.anchors or (c.organ,)
    side = wish.side or (None if narrowed or not wish.organ else anatomy.organ(wish.organ).side)
    side = side or _other_side(asked, c)
    sided = (m for name in wanted for m in _members(name, side, available))
    return tuple(dict.fromkeys(m for m in sided if m not in banned))


def _other_side(asked: Request, c: Concept) -> Side | None:
    """ "Kidney tumor, but not the left one": the right kidney."""
    if not c.paired or len(set(asked.excluded_sides)) != 1:
        return None
    return "right" if asked.excluded_sides[0] == "left" else "left"


def _members(name: str, side: Side | None, available: frozenset[str] | None) -> tuple[str, ...]:
    """The sides of a group that are wanted; the group itself where nothing can tell its sides apart."""
    members = anatomy.expand(name)
    if available and name not in available and any(m in available for m in anatomy.organ(name).members):
        members = anatomy.organ(name).members
    if side is None:
        return members
    one = anatomy.on_side(name, side)
    if one and (one in members or (available and one in available)):
        return (one,)
    return members


def reachable(c: Concept, available: frozenset[str]) -> bool:
    """True when the anchor source can find one of the concept's anchors."""
    return any(a in available or any(s in available for s in anatomy.expand(a)) for a in c.anchors or (c.organ,))
