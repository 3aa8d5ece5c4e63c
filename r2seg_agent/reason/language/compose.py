"""From a target to its `AnatomyPlan`: anchors, neighbours, window, prompt, and the rationale that explains them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from r2seg_agent.imaging.volume import Modality
from r2seg_agent.reason import anatomy, concepts
from r2seg_agent.reason.concepts import GENERIC_KIND, Concept
from r2seg_agent.reason.language.parse import Request
from r2seg_agent.reason.language.questions import article
from r2seg_agent.reason.language.targets import anchors_of, excluded_organs, narrowing_organ
from r2seg_agent.reason.language.wishes import Wish
from r2seg_agent.reason.plan import AnatomyPlan, Side, Window

MODALITY_WORDS: Mapping[Modality, str] = {
    "CT": "CT", "MR": "MRI", "PT": "PET", "US": "ultrasound", "XR": "X-ray", "photo": "photo", "unknown": "image",
}  # fmt: skip
"""How a modality is written in prompts and sentences."""


def compose_plan(
    c: Concept,
    wish: Wish,
    asked: Request,
    modality: Modality,
    *,
    corrections: Sequence[tuple[str, str]],
    available: frozenset[str] | None,
    hounsfield: bool = True,
) -> AnatomyPlan:
    """The plan for one target of a request; its anchors must not all be excluded (`anchors_of`). A CT that is not in
    Hounsfield units (`hounsfield` False) gets no window.
    """
    unmet: list[str] = []
    narrowed = narrowing_organ(c, wish)
    anchors = anchors_of(c, wish, asked, available)
    side = _common_side(anchors)
    if wish.side and side != wish.side:
        place = anatomy.organ(narrowed or c.organ).display
        unmet.append(f"“{wish.side}” cannot be applied: the {place} has no sides of its own.")
    found, swaps = _findable(anchors, modality, available)
    if swaps:
        unmet.append(f"No anchor of its own, so the organ around it is used: {', '.join(swaps)}.")
        if side and _common_side(found) != side:
            unmet.append(f"The side “{side}” cannot be applied.")
            side = None
    banned = excluded_organs(asked)
    beside = (m for n in c.neighbours for m in anatomy.expand(n) if m not in banned and m not in found)
    neighbours = tuple(dict.fromkeys(n for n in beside if side is None or anatomy.organ(n).side in (side, None)))
    window = concepts.windows_hu()[c.window] if modality == "CT" and hounsfield else None
    notes = _notes(c, modality, narrowed)
    notes += [f"Read “{typed}” as “{meant}”." for typed, meant in corrections]
    return AnatomyPlan(
        target=c.id,
        target_name=c.name,
        snomed_ct=c.snomed_ct,
        site=c.site,
        laterality=side,
        modality=modality,
        anchors=found,
        anchor_role="inside" if narrowed else c.anchor_role,
        neighbours=neighbours,
        mimics=c.mimics,
        not_inside=_left_out(banned, found, c),
        padding_mm=c.padding_mm,
        prompt=f"{c.target} in {c.site} {_modality_word(asked, modality)}",
        window=window,
        expected_volume_ml=c.volume_ml,
        expected_contrast=c.contrast.get(modality, "either"),
        rationale=" ".join((_rationale(c, modality, window), *notes)),
        not_used=(*unmet, *_unmet(c, wish, asked)),
    )


def _left_out(banned: frozenset[str], anchors: Sequence[str], c: Concept) -> tuple[str, ...]:
    """The organs that the request leaves out, in table order, groups in place of sides; none that holds the target."""
    held = {around for name in (*anchors, c.organ) for around in anatomy.containing(name)}
    return tuple(o for o in anatomy.organs() if o in banned and o not in held and anatomy.organ(o).group not in banned)


def _common_side(organs: Sequence[str]) -> Side | None:
    sides = {anatomy.organ(o).side for o in organs}
    return next(iter(sides)) if len(sides) == 1 else None


def _findable(
    anchors: Sequence[str], modality: Modality, available: frozenset[str] | None
) -> tuple[tuple[str, ...], list[str]]:
    """Anchors, each replaced by the nearest organ around it that can be found, and what was replaced by what."""
    found: list[str] = []
    swaps: list[str] = []
    for name in anchors:
        around = anatomy.containing(name)
        if available is not None:
            fit = next((o for o in around if o in available), name)
        else:
            fit = next((o for o in around if anatomy.tasks_for(o, modality)), name)
        if fit != name:
            swaps.append(f"{anatomy.organ(name).display} → {anatomy.organ(fit).display}")
        if fit not in found:
            found.append(fit)
    return tuple(found), swaps


def _rationale(c: Concept, modality: Modality, window: Window | None) -> str:
    """What the concept table says. No number of the plan stands here too: a user may change them in the plan."""
    look = c.contrast.get(modality, "either")
    shade = "darker or brighter" if look == "either" else look
    shown = "" if window is None else f", and is shown by the {c.window} window"
    place = anatomy.organ(c.organ).display
    return f"By the concept table, {c.name} lies in the {place}, is typically {shade} than it{shown}."


def _notes(c: Concept, modality: Modality, narrowed: str) -> list[str]:
    """What the reader of the plan must know besides."""
    notes: list[str] = []
    if c.no_anchor_reason and not narrowed:
        notes.append(c.no_anchor_reason)
    if modality not in c.modalities and modality != "unknown":
        notes.append(f"{MODALITY_WORDS[modality]} is not a usual modality for it.")
    return notes


def _unmet(c: Concept, wish: Wish, asked: Request) -> list[str]:
    """What the request says of the target and the plan does not do."""
    notes: list[str] = []
    if wish.kind and wish.kind != GENERIC_KIND and wish.kind not in c.kinds:
        notes.append(f"There is no entry for {article(wish.kind)} of this organ; any lesion of it is searched.")
    if asked.excluded_kinds:
        kinds = ", ".join(asked.excluded_kinds)
        notes.append(f"Wanted without: {kinds}; shape and grey values alone cannot tell these apart.")
    beside = [anatomy.organ(w.organ).display for w in asked.beside if w.organ]
    if beside and wish.side is None:
        notes.append(f"That it lies beside the {', '.join(dict.fromkeys(beside))} is not used.")
    if asked.lost_exclusion or (asked.excluded_sides and not c.paired):
        notes.append("Something in the request was to be left out; it was not understood and is not applied.")
    return notes


def _modality_word(asked: Request, modality: Modality) -> str:
    """As in the prompts that segmenters were trained with: "MRI-T2" where the request names the sequence."""
    if asked.sequence and modality in ("MR", "unknown"):
        return asked.sequence
    said = [word for name, word in MODALITY_WORDS.items() if name in asked.modalities]
    return said[0] if modality == "unknown" and len(said) == 1 else MODALITY_WORDS[modality]
