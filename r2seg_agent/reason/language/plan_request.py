"""The offline planner: free text → plans over the concept table, by rules alone (no model, no network).

It never guesses: a request that it cannot map to concepts comes back as a `Clarification` with the nearest ones.
The same text always gives the same plans.
"""

from __future__ import annotations

from collections.abc import Iterable

from r2seg_agent.errors import InputError
from r2seg_agent.imaging.volume import Modality
from r2seg_agent.reason import anatomy, concepts
from r2seg_agent.reason.concepts import GENERIC_KIND
from r2seg_agent.reason.language.compose import MODALITY_WORDS, compose_plan
from r2seg_agent.reason.language.lexicon import lexicon, understand
from r2seg_agent.reason.language.parse import read_request
from r2seg_agent.reason.language.questions import (
    COMMON_CONCEPTS,
    MAX_CHOICES,
    article,
    choices_of,
    only_organ,
    photographed_organ,
    question_for,
)
from r2seg_agent.reason.language.targets import anchors_of, excluded_names, is_excluded, targets_of
from r2seg_agent.reason.language.wishes import Wish, concept_of
from r2seg_agent.reason.plan import Choice, Clarification, PlanSet
from r2seg_agent.reason.plan_file import dump_plan, load_plan

__all__ = ["MAX_REQUEST_CHARS", "MAX_TARGETS", "dump_plan", "load_plan", "plan_request"]

MAX_REQUEST_CHARS = 2000
"""Longer requests are refused: they are not one, and phrase matching should stay instant."""
MAX_TARGETS = 12
"""More targets than this in one request are asked back: each costs a full search."""


def plan_request(
    request: str,
    modality: Modality,
    *,
    anchors_available: frozenset[str] | None = None,
    any_modality: bool = False,
    hounsfield: bool = True,
) -> PlanSet:
    """Plans for what `request` asks of an image of this modality, or a question back.

    `hounsfield`: whether a CT is in HU; one that is not (a picture, a slice of 8 bits) is planned without a window.
    `any_modality`: the image is meant even if the request names another modality; without it that is asked back.

    `anchors_available` are the organs that the anchor source can find: they settle a request that names no organ, and
    an anchor that is missing is replaced by what contains it. A missing organ is still planned for; whether it can be
    found is decided later. Raises `InputError` for an empty request or one above `MAX_REQUEST_CHARS` characters.
    """
    if not request.strip():
        raise InputError("The request is empty.", 'Say what to look for, for example: "find the pancreatic lesion".')
    if len(request) > MAX_REQUEST_CHARS:
        raise InputError(
            f"The request has {len(request)} characters; at most {MAX_REQUEST_CHARS} are allowed.",
            'One sentence is enough, for example: "any lesions in the liver or kidneys".',
        )
    items, corrections = understand(request)
    asked = read_request(items)
    excluded = excluded_names(asked)

    def ask(question: str, choices: Iterable[Choice]) -> PlanSet:
        return PlanSet(
            request=request,
            excluded=excluded,
            clarification=Clarification(question=question, choices=tuple(dict.fromkeys(choices))),
        )

    named = () if any_modality or modality == "unknown" else asked.modalities
    if named and modality not in named:
        said = " and ".join(MODALITY_WORDS[m] for m in MODALITY_WORDS if m in asked.modalities)
        here = MODALITY_WORDS[modality]
        return ask(
            f"The request speaks of {said}, but the image is {here}. Should this {here} image be searched?",
            (Choice(kind="keep_image", text=f"search this {here} image"),),
        )
    if asked.lost_places:
        return ask(*question_for(asked, anchors_available))
    if asked.doubts:
        question, ids = asked.doubts[0]
        return ask(question, choices_of(concepts.concept(c) for c in ids))
    wishes = asked.wanted or (asked.remarks if not (asked.regions or asked.excluded) else ())
    nothing_left = not wishes and not asked.regions and not asked.kinds and bool(excluded)
    if not wishes and not asked.regions and not asked.unknown:
        # A lesion word that is a concept's own name needs no organ: "find the glioma".
        own = [k.replace(" ", "_") for k in asked.kinds]
        wishes = tuple(Wish(k, "", None, None, k) for k in own if k in concepts.concepts())
    if not wishes and not asked.regions and not nothing_left:
        only = only_organ(asked, anchors_available) or (photographed_organ(asked) if modality == "photo" else None)
        if only is None:
            return ask(*question_for(asked, anchors_available))
        wishes = (Wish(None, only, (*asked.kinds, GENERIC_KIND)[0], None, only),)
    if asked.kinds and (asked.wanted or asked.regions) and asked.unknown:
        # A lesion word found no organ, and a word was not understood: part of the request would be lost.
        return ask(*question_for(asked, anchors_available))
    targets = targets_of(wishes, asked, anchors_available)
    for wish in wishes:
        if wish.kind in lexicon().organ_bound_kinds and (c := concept_of(wish)) and wish.kind not in c.kinds:
            fit = (c, *(other for other in concepts.concepts().values() if wish.kind in other.kinds))
            place = anatomy.organ(wish.organ).display
            return ask(
                f"The concept table has no {wish.kind} of the {place}. Which do you mean?",
                choices_of(fit[:MAX_CHOICES]),
            )
    bare = all(w.concept is None and w.kind is None for w in wishes) and not (asked.regions and asked.lesions_meant)
    strange = (*asked.unknown, *asked.plain)
    if targets and bare and (asked.outline or strange):
        near = [c for c, _ in targets]
        what = f"I do not know “{strange[0]}”" if strange else "r2seg outlines lesions, not organs"
        return ask(
            f"{what}. Should I search for {' or '.join(article(c.name) for c in near[:3])}?",
            choices_of(near[:MAX_CHOICES]),
        )
    targets = [
        (c, w) for c, w in targets if not is_excluded(c, w, asked) and anchors_of(c, w, asked, anchors_available)
    ]
    if not targets:
        left_out = ", ".join(excluded) or "everything named"
        meant = [c for c in (concept_of(w) for w in asked.excluded) if c]
        return ask(
            f"The request leaves out {left_out}, and nothing remains to search. What should be searched?",
            choices_of(meant[:MAX_CHOICES] or [concepts.concept(c) for c in COMMON_CONCEPTS[:MAX_CHOICES]]),
        )
    if len(targets) > MAX_TARGETS:
        return ask(
            f"The request names {len(targets)} targets; at most {MAX_TARGETS} are searched at once. Which first?",
            choices_of(c for c, _ in targets[:MAX_TARGETS]),
        )
    plans = tuple(
        compose_plan(c, w, asked, modality, corrections=corrections, available=anchors_available, hounsfield=hounsfield)
        for c, w in targets
    )
    once = {(p.target, p.laterality, p.anchors): p for p in reversed(plans)}
    return PlanSet(request=request, plans=tuple(p for p in plans if p in once.values()), excluded=excluded)
