"""What the offline planner asks back, and with which choices."""

from __future__ import annotations

from collections.abc import Iterable

from r2seg_agent.reason import anatomy, concepts
from r2seg_agent.reason.concepts import GENERIC_KIND, Concept
from r2seg_agent.reason.language.parse import Request
from r2seg_agent.reason.language.targets import reachable
from r2seg_agent.reason.plan import Choice

MAX_CHOICES = 5
"""Concepts offered in a question."""
NEAR_ENOUGH = 0.75
"""Concepts less like the unknown words than this are not offered; common ones are."""
COMMON_CONCEPTS = (
    "liver_lesion", "lung_lesion", "pancreatic_lesion", "kidney_lesion", "brain_lesion",
    "liver_metastasis", "lung_metastasis", "brain_metastasis", "bone_metastasis",
)  # fmt: skip
"""Offered when nothing better is known."""


def only_organ(asked: Request, available: frozenset[str] | None) -> str | None:
    """The one organ that the available anchors leave for a request that names none."""
    if not available or asked.unknown:
        return None
    groups = {anatomy.group_of(o) for o in available if o in anatomy.organs() and o != "body"}
    outer = {g for g in groups if not any(g != h and h in anatomy.containing(g) for h in groups)}
    fit = [g for g in sorted(outer) if concepts.find_concept(g, GENERIC_KIND)]
    return fit[0] if len(fit) == 1 else None


def photographed_organ(asked: Request) -> str | None:
    """The one organ whose lesions of the asked kind are seen in photographs: a melanoma there is one of the skin."""
    special = [kind for kind in asked.kinds if kind != GENERIC_KIND]
    if len(special) != 1 or asked.unknown:
        return None
    fit = {c.organ for c in concepts.concepts().values() if special[0] in c.kinds and "photo" in c.modalities}
    return fit.pop() if len(fit) == 1 else None


def question_for(asked: Request, available: frozenset[str] | None) -> tuple[str, tuple[Choice, ...]]:
    """What to ask when no target was understood, with the nearest concepts."""
    if asked.kinds and not asked.unknown:
        kind = next((k for k in asked.kinds if k != GENERIC_KIND), GENERIC_KIND)
        fit = [c for c in concepts.concepts().values() if kind in c.kinds]
        common = [c for c in fit if c.id in COMMON_CONCEPTS]
        fit = [*common, *(c for c in fit if c not in common)]
        if available:
            reach = [c for c in fit if reachable(c, available)]
            fit = reach or fit
        return f"In which organ should I look for {article(kind)}?", choices_of(fit[:MAX_CHOICES])
    unknown = (*asked.lost_places, *asked.unknown)
    near = concepts.nearest_concepts(" ".join(unknown), MAX_CHOICES, NEAR_ENOUGH) if unknown else ()
    if not near:
        special = [k for k in asked.kinds if k != GENERIC_KIND]
        near = tuple(c for c in concepts.concepts().values() if special and special[0] in c.kinds)
        near = near or tuple(concepts.concept(c) for c in COMMON_CONCEPTS)
        near = tuple(c for c in near if not available or reachable(c, available)) or near
    choices = choices_of(near[:MAX_CHOICES])
    if not unknown:
        return "What should I look for, and in which organ?", choices
    return f"I do not know “{unknown[0]}”. Which lesion and organ do you mean?", choices


def choices_of(offered: Iterable[Concept]) -> tuple[Choice, ...]:
    """The concepts as choices of a question."""
    return tuple(Choice(kind="concept", text=concept.name, value=concept.id) for concept in offered)


def article(noun: str) -> str:
    """With the indefinite article; plurals of the table stay bare."""
    return noun if noun.startswith("enlarged") else f"an {noun}" if noun[0] in "aeio" else f"a {noun}"
