"""What the name of a class says, by the concept table: a lesion of an organ, a lesion of no named organ, an organ."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from r2seg_agent.errors import InputError
from r2seg_agent.frozen import Frozen
from r2seg_agent.reason import anatomy, concepts
from r2seg_agent.reason.language.bind import Stream
from r2seg_agent.reason.language.lexicon import Item, understand
from r2seg_agent.reason.language.wishes import concept_of
from r2seg_agent.reason.normal_words import words
from r2seg_agent.reason.plan import Side

PART_WORDS: Final = frozenset(
    ("whole", "core", "enhancing", "non", "nonenhancing", "necrotic", "solid", "primary", "gross", "all", "total", "gd")
)
"""Words for a part of a tumour, or for all of it: an "enhancing tumor" of the liver is tumour, a "Tumour core" too."""
SHORT_FORMS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("gtv", "gtvp", "wt", "tc", "et", "ncr", "netc", "tumorcore"), "tumor"),
    "metastases": "metastasis",
}
"""Class names of public data sets that are no words: radiotherapy's gross tumour volume, BraTS's regions."""
EDEMA: Final = "edema"
"""The kind of what lies around a tumour."""
TUMOR_PARTS: Final[Sequence[tuple[str, frozenset[str]]]] = (
    (EDEMA, frozenset(("edema", "oedema", "ed", "snfh"))),
    ("non enhancing tumor", frozenset(("non", "nonenhancing", "necrotic", "necrosis", "ncr", "netc"))),
    ("enhancing tumor", frozenset(("enhancing", "et"))),
    ("tumor core", frozenset(("core", "tc", "tumorcore"))),
)
"""Kinds for the parts of a tumour, with the words of class names that mean them; the first that fits."""
WHOLE_WORDS: Final = frozenset(("whole", "wt", "all", "total", "and", "with", "plus"))
"""A class with one of these is no part: "whole tumor", "tumor and edema"."""
TUMOR_WORDS: Final = frozenset(("tumor", "neoplasm", "cancer", "carcinoma", "malignancy"))
"""A class named by one of these is no class of cysts and abscesses; "lesion" and "mass" are."""
DATASET_SITES: Final[Mapping[str, str]] = {"brats": "brain", "kits": "kidneys", "lits": "liver", "hecktor": "pharynx"}
"""Well-known data sets whose names say the organ only to those who know them."""
ANY: Final = "any"
"""Stands for every target, in an explicit meaning of a class (a universal lesion model)."""


class Meaning(Frozen):
    """What one class name says. `concept`: a lesion in its place. `kind`: a lesion word without a place. `organs`:
    places without a lesion word. All empty: nothing that the tables know. `part`: the kind for a part of a tumour,
    beside what the name says when it is taken for the whole of one.
    """

    concept: str | None = None
    kind: str | None = None
    part: str | None = None
    organs: tuple[str, ...] = ()
    side: Side | None = None
    tumors_only: bool = False


def meaning_of(name: str) -> Meaning:
    """ "Liver tumour" → the concept liver_lesion; "cancer" → the kind; "kidney_left" → the organ. Exact words only: a
    name that would have to be corrected or has a word that no table knows means nothing.
    """
    whole = _meaning_as_whole(name)
    return whole.model_copy(update={"part": _part(words(name, camel=True), whole)})


def _part(said: Sequence[str], whole: Meaning) -> str | None:
    """ "Non-enhancing tumor", "ET", "edema": the kind for a part of a tumour that the name says."""
    spoken = frozenset(said)
    if spoken & WHOLE_WORDS and "non" not in spoken and not {"ncr", "necrotic"} & spoken:
        return None
    kind = next((kind for kind, meant in TUMOR_PARTS if spoken & meant), None)
    known = whole.kind is not None or whole.concept is not None
    return kind if kind == EDEMA or known or spoken <= dict(TUMOR_PARTS).get(kind or "", frozenset()) else None


def _meaning_as_whole(name: str) -> Meaning:
    said = [word for word in words(name, camel=True) if word not in PART_WORDS]
    if TUMOR_WORDS & set(said):  # "tumor and edema" is the whole tumour
        said = [word for word in said if word not in dict(TUMOR_PARTS)[EDEMA] | WHOLE_WORDS]
    said = [SHORT_FORMS.get(word, word) for word in said]
    items, corrected = understand(" ".join(said))
    if corrected or any(item.role in ("unknown", "not", "ambiguous") for item in items):
        return Meaning()
    side = _side(items)
    stream = Stream([item for item in items if item.role in ("concept", "organ", "lesion", "side")])
    tumors_only = bool(TUMOR_WORDS & set(said)) and "lesion" not in said
    lesions = [wish for wish in stream.wishes if wish.concept is not None or wish.kind is not None]
    if lesions:
        found = concept_of(lesions[0]) if len(lesions) == 1 else None
        return Meaning() if found is None else Meaning(concept=found.id, side=side, tumors_only=tumors_only)
    if len(stream.kinds) == 1 and not stream.wishes:
        return Meaning(kind=stream.kinds[0], side=side, tumors_only=tumors_only)
    return Meaning(organs=tuple(wish.organ for wish in stream.wishes if wish.organ), side=side)


def _side(items: Sequence[Item]) -> Side | None:
    said = {item.value for item in items if item.role == "side"}
    if said == {"left"}:
        return "left"
    return "right" if said == {"right"} else None


def organ_meant(name: str, said: Meaning) -> str | None:
    """The canonical organ of a class without a lesion word ("R Kidney" → kidney_right); None where it is no one organ
    of the table ("hepatic artery and duct"), or another side of it than the table has.
    """
    whole = anatomy.canonical_organ(name)
    if whole is not None or len(said.organs) != 1:
        return whole
    return said.organs[0] if said.side is None else anatomy.on_side(said.organs[0], said.side)


def stated_organ(targets: Sequence[str]) -> str | None:
    """The canonical organ where someone wrote down that a class is one organ ("#label_6=liver"); else None."""
    if len(targets) != 1 or targets[0] in concepts.concepts():
        return None
    return anatomy.canonical_organ(targets[0])


def site_in(texts: Sequence[str]) -> str | None:
    """The one organ that names of a data set speak of ("Dataset003_Liver", "BRATS"); None for none or several."""
    for text in texts:
        plain = (word.rstrip("0123456789") for word in re.split(r"[\W_]+", text.casefold()))
        organs = {DATASET_SITES[word] for word in plain if word in DATASET_SITES}
        for item in understand(" ".join(words(text, camel=True)))[0]:
            if item.role == "organ":
                organs.add(anatomy.group_of(item.value))
            elif item.role == "concept":
                organs.add(concepts.concept(item.value).organ)
        if len(organs) == 1:
            return organs.pop()
    return None


def stated_meaning(class_name: str, targets: Sequence[str]) -> tuple[tuple[str, ...], Side | None]:
    """Concept ids for targets that someone wrote down: ids, other names of concepts, or `any`; and the class's side.

    Raises `InputError` with the nearest concepts for a target that is none.
    """
    found: list[str] = []
    for target in targets:
        if target in concepts.concepts() or target == ANY:
            found.append(target)
            continue
        said = meaning_of(target)
        if said.concept is None:
            near = ", ".join(f"`{c.id}`" for c in concepts.nearest_concepts(target))
            organs = ", ".join(f"`{o}`" for o in anatomy.nearest_organs(target))
            raise InputError(
                f"the class `{class_name}` is said to mean `{target}`, which is no target of the concept table",
                f"Nearest targets: {near}; `{ANY}` stands for all. For anchors, nearest organs: {organs}.",
            )
        found.append(said.concept)
    return tuple(dict.fromkeys(found)), meaning_of(class_name).side
