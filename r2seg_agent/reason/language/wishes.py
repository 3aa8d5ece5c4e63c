"""What one part of a request asks for, and the concept that it names."""

from __future__ import annotations

from dataclasses import dataclass, field

from r2seg_agent.reason import anatomy, concepts
from r2seg_agent.reason.concepts import GENERIC_KIND, Concept
from r2seg_agent.reason.plan import Side


@dataclass(frozen=True)
class Wish:
    """One thing the request names. `organ` is "" for a concept named without a place; `kind` None: no lesion word."""

    concept: str | None
    organ: str
    kind: str | None
    side: Side | None
    text: str
    at: int = field(default=-1, compare=False)
    """Its place among the items of its stream."""


def concept_of(wish: Wish) -> Concept | None:
    """The concept that a wish names; a closer one where the place has its own ("bone metastasis in the femur")."""
    if wish.concept is not None:
        c = concepts.concept(wish.concept)
        closer = concepts.find_concept(wish.organ, c.kinds[0]) if wish.organ and c.kinds else None
        anywhere = c.anchors == ("body",)  # a soft tissue mass in the mediastinum is one of the mediastinum
        deeper = closer is not None and c.kinds[0] in closer.kinds
        inside = closer is not None and c.organ in anatomy.containing(closer.organ)[1:]
        return closer if deeper and (inside or anywhere) else c
    return concepts.find_concept(wish.organ, wish.kind or GENERIC_KIND)


def related(c: Concept, organ: str) -> bool:
    """True when the organ may say where in its own organ a concept lies."""
    return (
        c.organ in anatomy.containing(organ)
        or organ in anatomy.containing(c.organ)
        or any(anatomy.group_of(organ) == anatomy.group_of(a) for a in c.anchors)
        or "body" in c.anchors
    )
