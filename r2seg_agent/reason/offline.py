"""The offline planner: free text → plans over the concept table, by rules alone (no model, no network).

It never guesses: a request that it cannot map to concepts comes back as a `Clarification` with the nearest ones.
The same text always gives the same plans.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from r2seg_agent.errors import InputError
from r2seg_agent.imaging.volume import Modality
from r2seg_agent.reason import anatomy, concepts
from r2seg_agent.reason.concepts import GENERIC_KIND, Concept
from r2seg_agent.reason.lexicon import lexicon, understand
from r2seg_agent.reason.parse import Request, Wish, read_request
from r2seg_agent.reason.plan import AnatomyPlan, Clarification, PlanSet, Side
from r2seg_agent.reason.plan_file import dump_plan, load_plan

__all__ = ["MAX_REQUEST_CHARS", "MAX_TARGETS", "dump_plan", "load_plan", "plan_request"]

MAX_REQUEST_CHARS = 2000
"""Longer requests are refused: they are not one, and phrase matching should stay instant."""
MAX_TARGETS = 12
"""More targets than this in one request are asked back: each costs a full search."""
MAX_CHOICES = 5
"""Concepts offered in a question."""

MODALITY_WORDS: Mapping[Modality, str] = {
    "CT": "CT", "MR": "MRI", "PT": "PET", "US": "ultrasound", "XR": "X-ray", "photo": "photo", "unknown": "image",
}  # fmt: skip
"""How a modality is written in prompts and sentences."""
NEAR_ENOUGH = 0.75
"""Concepts less like the unknown words than this are not offered; common ones are."""
_COMMON_CONCEPTS = (
    "liver_lesion", "lung_nodule", "pancreatic_lesion", "kidney_lesion", "brain_lesion",
    "liver_metastasis", "lung_metastasis", "brain_metastasis", "bone_metastasis",
)  # fmt: skip


def plan_request(request: str, modality: Modality, *, anchors_available: frozenset[str] | None = None) -> PlanSet:
    """Plans for what `request` asks of an image of this modality, or a question back.

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
    excluded = _excluded_names(asked)

    def ask(question: str, choices: Iterable[str]) -> PlanSet:
        return PlanSet(
            request=request,
            excluded=excluded,
            clarification=Clarification(question=question, choices=tuple(dict.fromkeys(choices))),
        )

    if asked.modalities and modality != "unknown" and modality not in asked.modalities:
        said = " and ".join(MODALITY_WORDS[m] for m in MODALITY_WORDS if m in asked.modalities)
        here = MODALITY_WORDS[modality]
        return ask(
            f"The request speaks of {said}, but the image is {here}. Should this {here} image be searched?",
            (f"search this {here} image",),
        )
    if asked.lost_places:
        return ask(*_question(request, asked, anchors_available))
    if asked.doubts:
        question, ids = asked.doubts[0]
        return ask(question, (concepts.concept(c).name for c in ids))
    wishes = asked.wanted or (asked.remarks if not (asked.regions or asked.excluded) else ())
    nothing_left = not wishes and not asked.regions and not asked.kinds and bool(excluded)
    if not wishes and not asked.regions and not asked.unknown:
        # A lesion word that is a concept's own name needs no organ: "find the glioma".
        own = [k.replace(" ", "_") for k in asked.kinds]
        wishes = tuple(Wish(k, "", None, None, k) for k in own if k in concepts.concepts())
    if not wishes and not asked.regions and not nothing_left:
        only = _only_organ(asked, anchors_available)
        if only is None:
            return ask(*_question(request, asked, anchors_available))
        wishes = (Wish(None, only, (*asked.kinds, GENERIC_KIND)[0], None, only),)
    if asked.kinds and (asked.wanted or asked.regions) and _stray(asked):
        return ask(*_question(request, asked, anchors_available))
    targets = _targets(wishes, asked, anchors_available)
    for wish in wishes:
        if wish.kind in lexicon().organ_bound_kinds and (c := _concept_of(wish)) and wish.kind not in c.kinds:
            fit = (c.name, *(other.name for other in concepts.concepts().values() if wish.kind in other.kinds))
            place = anatomy.organ(wish.organ).display
            return ask(f"The concept table has no {wish.kind} of the {place}. Which do you mean?", fit[:MAX_CHOICES])
    bare = all(w.concept is None and w.kind is None for w in wishes) and not asked.regions
    strange = (*asked.unknown, *asked.plain)
    if targets and bare and (asked.outline or strange):
        names = [c.name for c, _ in targets]
        what = f"I do not know “{strange[0]}”" if strange else "r2seg outlines lesions, not organs"
        return ask(f"{what}. Should I search for {' or '.join(_a(n) for n in names[:3])}?", names[:MAX_CHOICES])
    targets = [(c, w) for c, w in targets if not _is_excluded(c, w, asked)]
    if not targets:
        left_out = ", ".join(excluded) or "everything named"
        meant = [c.name for c in (_concept_of(w) for w in asked.excluded) if c]
        return ask(
            f"The request leaves out {left_out}, and nothing remains to search. What should be searched?",
            meant[:MAX_CHOICES] or _names(_COMMON_CONCEPTS[:MAX_CHOICES]),
        )
    if len(targets) > MAX_TARGETS:
        return ask(
            f"The request names {len(targets)} targets; at most {MAX_TARGETS} are searched at once. Which first?",
            (c.name for c, _ in targets[:MAX_TARGETS]),
        )
    plans = tuple(
        _plan(c, w, asked, modality, corrections=corrections, available=anchors_available) for c, w in targets
    )
    return PlanSet(request=request, plans=plans, excluded=excluded)


def _targets(wishes: Sequence[Wish], asked: Request, available: frozenset[str] | None) -> list[tuple[Concept, Wish]]:
    """Concepts with the wish that named them, each place once, in the order of the request.

    Of a region, only organs that the anchor source can find, unless it can find none of them.
    """
    found: dict[tuple[str, str, Side | None], tuple[Concept, Wish]] = {}
    regional = [w for region, kind in asked.regions for w in _region(region, kind)]
    if available:
        within = [w for w in regional if (c := _concept_of(w)) and _reachable(c, available)]
        regional = within or regional
    for wish in (*wishes, *regional):
        c = _concept_of(wish)
        if c is not None:
            found.setdefault((c.id, _refining(c, wish), wish.side), (c, wish))
    return list(found.values())


def _region(region: str, kind: str) -> list[Wish]:
    return [Wish(None, organ, kind, None, region) for organ in lexicon().regions[region].organs]


def _concept_of(wish: Wish) -> Concept | None:
    if wish.concept is not None:
        c = concepts.concept(wish.concept)
        closer = concepts.find_concept(wish.organ, c.kinds[0]) if wish.organ and c.kinds else None
        deeper = closer is not None and c.kinds[0] in closer.kinds and c.organ in anatomy.containing(closer.organ)[1:]
        return closer if deeper else c  # "bone metastasis in the femur"
    return concepts.find_concept(wish.organ, wish.kind or GENERIC_KIND)


def _refining(c: Concept, wish: Wish) -> str:
    """The organ that narrows the concept's own down ("right upper lobe" of the lungs), else ""."""
    if wish.organ in c.anchors and len(c.anchors) > 1:
        return wish.organ
    if wish.organ and wish.organ != c.organ and wish.organ not in anatomy.containing(c.organ)[1:]:
        inside = c.organ in anatomy.containing(wish.organ) or c.anchors == ("body",)
        inside = inside or any(a in anatomy.containing(wish.organ) for a in c.anchors)
        return wish.organ if inside and wish.organ not in c.anchors else ""
    return ""


def _is_excluded(c: Concept, wish: Wish, asked: Request) -> bool:
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
            dropped = _concept_of(no)
            if dropped is not None and dropped.id == c.id and no.side in (None, wish.side):
                return True
    return False


def _excluded_names(asked: Request) -> tuple[str, ...]:
    names: list[str] = []
    for no in asked.excluded:
        c = _concept_of(no) if no.concept or no.kind else None
        display = c.name if c else anatomy.organ(no.organ).display
        names.append(f"{no.side} {display}" if no.side else display)
    return tuple(dict.fromkeys((*names, *asked.excluded_regions, *asked.excluded_kinds)))


def _excluded_organs(asked: Request) -> frozenset[str]:
    out: set[str] = set()
    for no in asked.excluded:
        if no.concept is None and no.kind is None:
            sided = anatomy.on_side(no.organ, no.side) if no.side else None
            out.update((sided,) if sided else (no.organ, *anatomy.expand(no.organ)))
    return frozenset(out)


def _stray(asked: Request) -> bool:
    """A lesion word that found no organ although unknown words stand in the request: part of it was not understood."""
    return bool(asked.unknown)


def _only_organ(asked: Request, available: frozenset[str] | None) -> str | None:
    """The one organ that the available anchors leave for a request that names none."""
    if not available or asked.unknown:
        return None
    groups = {anatomy.group_of(o) for o in available if o in anatomy.organs() and o != "body"}
    outer = {g for g in groups if not any(g != h and h in anatomy.containing(g) for h in groups)}
    fit = [g for g in sorted(outer) if concepts.find_concept(g, GENERIC_KIND)]
    return fit[0] if len(fit) == 1 else None


def _question(request: str, asked: Request, available: frozenset[str] | None) -> tuple[str, tuple[str, ...]]:
    """What to ask when no target was understood, with the nearest concepts."""
    if asked.kinds and not asked.unknown:
        kind = next((k for k in asked.kinds if k != GENERIC_KIND), GENERIC_KIND)
        fit = [c for c in concepts.concepts().values() if kind in c.kinds]
        common = [c for c in fit if c.id in _COMMON_CONCEPTS]
        fit = [*common, *(c for c in fit if c not in common)]
        if available:
            reach = [c for c in fit if _reachable(c, available)]
            fit = reach or fit
        return f"In which organ should I look for {_a(kind)}?", tuple(c.name for c in fit[:MAX_CHOICES])
    unknown = (*asked.lost_places, *asked.unknown)
    near = concepts.nearest_concepts(" ".join(unknown), MAX_CHOICES, NEAR_ENOUGH) if unknown else ()
    if not near:
        special = [k for k in asked.kinds if k != GENERIC_KIND]
        near = tuple(c for c in concepts.concepts().values() if special and special[0] in c.kinds)
        near = near or tuple(concepts.concept(c) for c in _COMMON_CONCEPTS)
        near = tuple(c for c in near if not available or _reachable(c, available)) or near
    names = tuple(c.name for c in near[:MAX_CHOICES])
    if not unknown:
        return "What should I look for, and in which organ?", names
    return f"I do not know “{unknown[0]}”. Which lesion and organ do you mean?", names


def _a(noun: str) -> str:
    """With the indefinite article; plurals of the table stay bare."""
    return noun if noun.startswith("enlarged") else f"an {noun}" if noun[0] in "aeio" else f"a {noun}"


def _reachable(c: Concept, available: frozenset[str]) -> bool:
    return any(a in available or any(s in available for s in anatomy.expand(a)) for a in c.anchors or (c.organ,))


def _names(ids: Iterable[str]) -> tuple[str, ...]:
    return tuple(concepts.concept(c).name for c in ids)


def _plan(
    c: Concept,
    wish: Wish,
    asked: Request,
    modality: Modality,
    *,
    corrections: Sequence[tuple[str, str]],
    available: frozenset[str] | None,
) -> AnatomyPlan:
    notes: list[str] = []
    narrowed = _refining(c, wish)
    wanted = (narrowed,) if narrowed else c.anchors or (c.organ,)
    banned = _excluded_organs(asked)
    anchors: list[str] = []
    side: Side | None = None
    for name in wanted:
        members = _members(name, wish.side, available)
        anchors += [m for m in members if m not in anchors and m not in banned]
    anchors = anchors or list(wanted)
    sides = {anatomy.organ(a).side for a in anchors}
    if len(sides) == 1:
        side = next(iter(sides))
    if wish.side and side != wish.side:
        notes.append(
            f"“{wish.side}” cannot be applied: the {anatomy.organ(wanted[0]).display} has no sides of its own."
        )
    found, swapped = _findable(anchors, available)
    if swapped:
        kept = all(anatomy.organ(a).side == side for a in found)
        notes.append(swapped if kept or side is None else f"{swapped} The side “{side}” cannot be applied.")
        side = side if kept else None
    neighbours = [m for n in c.neighbours for m in anatomy.expand(n) if m not in banned and m not in found]
    if side:
        neighbours = [n for n in neighbours if anatomy.organ(n).side in (side, None)]
    window = concepts.windows_hu()[c.window] if modality == "CT" else None
    look = c.contrast.get(modality, "either")
    if c.no_anchor_reason and not narrowed:
        notes.append(c.no_anchor_reason)
    if modality not in c.modalities and modality != "unknown":
        notes.append(f"{MODALITY_WORDS[modality]} is not a usual modality for it.")
    if wish.kind and wish.kind != GENERIC_KIND and wish.kind not in c.kinds:
        notes.append(f"There is no entry for a {wish.kind} of this organ; any lesion of it is searched.")
    if asked.excluded_kinds:
        notes.append(
            f"Wanted without: {', '.join(asked.excluded_kinds)}; shape and grey values alone cannot tell these apart."
        )
    if asked.lost_exclusion:
        notes.append("Something in the request was to be left out; it was not understood and is not applied.")
    notes += [f"Read “{typed}” as “{meant}”." for typed, meant in corrections]
    shown = ", ".join(anatomy.organ(a).display for a in found)
    grey = f"the {c.window} window {window[0]:g} to {window[1]:g} HU" if window else "the 0.5–99.5 percentile window"
    rationale = " ".join(
        (
            f"{c.name[0].upper()}{c.name[1:]} is searched in and around the {shown} with a margin of "
            f"{c.padding_mm:g} mm; {grey} shows it, typically "
            f"{'darker or brighter' if look == 'either' else look} than its organ, "
            f"{c.volume_ml[0]:g} to {c.volume_ml[1]:g} ml.",
            *notes,
        )
    )
    word = asked.sequence if asked.sequence and modality in ("MR", "unknown") else MODALITY_WORDS[modality]
    if modality == "unknown" and len(asked.modalities) == 1 and not asked.sequence:
        word = {m: w for m, w in MODALITY_WORDS.items() if m == asked.modalities[0]}.popitem()[1]
    return AnatomyPlan(
        target=c.id,
        target_name=c.name,
        snomed_ct=c.snomed_ct,
        site=c.site,
        laterality=side,
        modality=modality,
        anchors=tuple(found),
        anchor_role="inside" if narrowed else c.anchor_role,
        neighbours=tuple(dict.fromkeys(neighbours)),
        padding_mm=c.padding_mm,
        prompt=f"{c.target} in {c.site} {word}",
        window=window,
        expected_volume_ml=c.volume_ml,
        expected_contrast=look,
        rationale=rationale,
    )


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


def _findable(anchors: Sequence[str], available: frozenset[str] | None) -> tuple[list[str], str]:
    """Anchors, each replaced by the nearest organ around it that the source can find; and a sentence that says so."""
    found: list[str] = []
    swaps: list[str] = []
    for name in anchors:
        around = anatomy.containing(name)
        if available is None:
            fit = name if anatomy.organ(name).classes else next((o for o in around if anatomy.organ(o).classes), name)
        else:
            fit = next((o for o in around if o in available), name)
        if fit != name:
            swaps.append(f"{anatomy.organ(name).display} → {anatomy.organ(fit).display}")
        if fit not in found:
            found.append(fit)
    return found, f"No anchor of its own, so the organ around it is used: {', '.join(swaps)}." if swaps else ""
