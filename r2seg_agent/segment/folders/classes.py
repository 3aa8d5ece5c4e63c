"""`ClassTable`: which classes of a model answer for which target of a plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from r2seg_agent.errors import InputError
from r2seg_agent.frozen import Frozen
from r2seg_agent.imaging.volume import FloatArray
from r2seg_agent.reason import anatomy, concepts
from r2seg_agent.reason.plan import AnatomyPlan, Side
from r2seg_agent.segment.folders.class_names import (
    ANY,
    EDEMA,
    Meaning,
    meaning_of,
    organ_meant,
    site_in,
    stated_meaning,
    stated_organ,
)

Fit = Literal["exact", "narrower", "broader", "any"]
"""How classes stand to a target: exactly it; a part of it (cysts among kidney lesions); more than it; every lesion."""

NO_TUMORS = ("cyst", "abscess", "hemorrhage")
"""Target words of concepts that a class of tumours does not hold, although the table keeps them under the lesions."""


class ModelClass(Frozen):
    """One output of a model. `concepts` are the targets it stands for, () for an organ or what no table knows.

    `organ`: the canonical organ that it is, for a model that serves as anchors (`anchors.py`).
    """

    name: str
    concepts: tuple[str, ...] = ()
    side: Side | None = None
    tumors_only: bool = False
    organ: str | None = None
    needs_site: bool = False
    """True when its name is a lesion word and nothing says of which organ."""

    @property
    def label(self) -> str:
        """For lists: "tumor (liver_lesion)"."""
        if self.concepts:
            return f"{self.name} ({', '.join(self.concepts)})"
        if self.organ is not None:
            return f"{self.name} (an organ)"
        return f"{self.name} ({'a lesion of no stated organ' if self.needs_site else 'no known target'})"


class ClassTable(Frozen):
    """The classes of one model in the order of its outputs, without the background.

    `exclusive`: a voxel has one class, so that the probability of several is their sum (softmax); otherwise each has
    its own (sigmoid, regions), and that of several is the largest.
    """

    model: str
    classes: tuple[ModelClass, ...]
    exclusive: bool

    @property
    def wanted(self) -> tuple[ModelClass, ...]:
        """Those that stand for some target: the only ones whose probabilities are kept."""
        return tuple(c for c in self.classes if c.concepts)

    @property
    def label(self) -> str:
        """All classes with what they stand for, for reports and errors."""
        return ", ".join(c.label for c in self.classes)

    def answering(self, concept: str, side: Side | None = None) -> tuple[ModelClass, ...]:
        """The classes to look at for a target: those of exactly this concept; else those of narrower ones (a model of
        liver metastases, asked for liver lesions, finds some; the parts of a tumour together are the tumour); else
        those of broader ones (a model of liver tumours, asked for hepatocellular carcinoma, cannot tell the kinds
        apart). A class of the whole never answers for a part of it, nor one of the other side.

        Raises `InputError` that lists the classes when there is none.
        """
        found = self._answering(concept, side)
        if found is None:
            raise self._unknown(concept, side)
        return found[1]

    def fit(self, plan: AnatomyPlan) -> Fit | None:
        """How the classes that answer for the plan's target stand to it; None where none answers."""
        found = self._answering(plan.target, plan.laterality)
        return None if found is None else found[0]

    def _answering(self, concept: str, side: Side | None) -> tuple[Fit, tuple[ModelClass, ...]] | None:
        usable = [c for c in self.wanted if side is None or c.side in (None, side)]
        if exact := [c for c in usable if concept in c.concepts]:
            return "exact", tuple(exact)
        if narrower := [c for c in usable if any(concept in ancestors(own) for own in c.concepts)]:
            return "narrower", tuple(narrower)
        broader = [c for c in usable if _covers(c, concept)]
        broader = [c for c in broader if any(_whole(own) == own for own in c.concepts)] or broader
        if not broader:
            return None
        return "any" if all(ANY in c.concepts for c in broader) else "broader", tuple(broader)

    def check_plan(self, plan: AnatomyPlan) -> tuple[str, ...]:
        """Remarks on classes that answer for the plan's target and are not exactly it; raises as `answering`."""
        answering = self._answering(plan.target, plan.laterality)
        if answering is None:
            raise self._unknown(plan.target, plan.laterality)
        fit, found = answering
        asked, names = plan.target_name, ", ".join(f"`{c.name}`" for c in found)
        if fit == "exact" or any(ANY in c.concepts for c in found):
            return ()
        which = f"{names} {'is' if len(found) == 1 else 'are'}"
        if fit == "broader":
            return (f"The model {self.model} has no class for {asked} alone: {which} searched, and other kinds too.",)
        parts = {kind for c in found for own in c.concepts if concepts.concept(own).part for kind in _kinds(own)}
        lacks_edema = parts and EDEMA not in parts and not concepts.concept(plan.target).part
        without = ", so that edema around it counts to no volume" if lacks_edema else ""
        together = ", taken together" if len(found) > 1 else ""
        return (f"The model {self.model} has no class for {asked} as a whole: {which} searched{together}{without}.",)

    def combined(self, probabilities: Mapping[str, FloatArray], concept: str, side: Side | None) -> FloatArray:
        """One probability (z, y, x) out of those of the answering classes."""
        layers = [probabilities[c.name] for c in self.answering(concept, side)]
        if len(layers) == 1:
            return layers[0]
        if self.exclusive:
            total = layers[0].copy()
            for layer in layers[1:]:
                total += layer
            return np.minimum(total, np.float32(1.0))
        largest: FloatArray = np.maximum.reduce(layers)
        return largest

    def _unknown(self, concept: str, side: Side | None) -> InputError:
        named = concepts.concepts().get(concept)
        asked = f"{side} {named.name if named else concept}" if side else (named.name if named else concept)
        known = sorted({id for c in self.wanted for id in c.concepts})
        likely = sorted(self.classes, key=lambda c: (not c.needs_site, c.organ is not None, bool(c.concepts)))
        open_ = likely[0].name if likely else "CLASS"
        hint = f"Ask for one of its targets ({', '.join(known)})" if known else "It has no class with a known target"
        return InputError(
            f"the model `{self.model}` has no class for `{concept}` ({asked}); its classes: {self.label}",
            f"{hint}; or, where a class does mean this target, say so: `#{open_}={concept}` behind the model's path, "
            "or `classes` in its side file (docs/guide/models.md).",
        )


def class_table(
    model: str,
    names: Sequence[str],
    *,
    exclusive: bool,
    site: str | None = None,
    about: Sequence[str] = (),
    stated: Mapping[str, Sequence[str]] | None = None,
) -> ClassTable:
    """The classes `names` with their targets, by the concept table.

    A name that says both lesion and organ ("kidney_cyst_left") speaks for itself. One that says only the lesion
    ("tumor") gets its organ from `site` (a canonical organ), else from the organs among the other classes, else from
    the words `about` the model (data set name, description). `stated` meanings (targets, or one organ) win over all of
    it. Raises `InputError` for a stated class that the model does not have, or an organ or target that no table knows.
    """
    given = dict(stated or {})
    strangers = [name for name in given if name not in names]
    if strangers:
        raise InputError(
            f"the model `{model}` has no class `{strangers[0]}`; its classes: {', '.join(names)}",
            "Class names must be written as the model writes them.",
        )
    meanings = {name: meaning_of(name) for name in names}
    if site is not None:
        sites: tuple[str, ...] = (anatomy.organ(site).name,)
    else:
        whole = (m.organs[0] for name, m in meanings.items() if name not in given and len(m.organs) == 1)
        others = (anatomy.group_of(organ) for organ in whole)
        sites = tuple(dict.fromkeys(others))
        if not sites and (found := site_in(about)) is not None:
            sites = (found,)
    parts = {said.part for said in meanings.values()} - {None}
    # Edema beside a part of a tumour: the labels of brain tumours, whose names seldom say so.
    part_sites = sites or (("brain",) if EDEMA in parts and len(parts) > 1 else ())
    if part_sites == ("brain",) and parts:  # "NET" beside them is BraTS's non-enhancing tumour
        meanings |= {name: Meaning(part="non enhancing tumor") for name in names if name.casefold() == "net"}
    classes: list[ModelClass] = []
    for name, said in meanings.items():
        if name in given and (organ := stated_organ(given[name])) is not None:
            classes.append(ModelClass(name=name, organ=organ))
        elif name in given:
            targets, side = stated_meaning(name, given[name])
            classes.append(ModelClass(name=name, concepts=targets, side=side))
        elif (part := _part_of_tumor(said, part_sites)) is not None:
            classes.append(ModelClass(name=name, concepts=(part,), side=said.side, tumors_only=True))
        elif said.part == EDEMA:
            classes.append(ModelClass(name=name, side=said.side, needs_site=not sites))
        elif said.concept is not None:
            classes.append(
                ModelClass(name=name, concepts=(said.concept,), side=said.side, tumors_only=said.tumors_only)
            )
        elif said.kind is not None:
            found_in = (concepts.find_concept(organ, said.kind) for organ in sites)
            targets = tuple(dict.fromkeys(c.id for c in found_in if c is not None))
            classes.append(
                ModelClass(
                    name=name,
                    concepts=targets,
                    side=said.side,
                    tumors_only=said.tumors_only,
                    needs_site=not targets,
                )
            )
        else:
            classes.append(ModelClass(name=name, organ=organ_meant(name, said)))
    return ClassTable(model=model, classes=tuple(classes), exclusive=exclusive)


def _part_of_tumor(said: Meaning, sites: Sequence[str]) -> str | None:
    """The concept of a part of a tumour in the organ that the name or the model says; None where the table has none."""
    if said.part is None:
        return None
    named = (concepts.concept(said.concept).organ,) if said.concept is not None else ()
    found = (concepts.find_concept(organ, said.part) for organ in named or said.organs or sites)
    return next((c.id for c in found if c is not None and c.part), None)


def _kinds(concept: str) -> tuple[str, ...]:
    return concepts.concept(concept).kinds


def fit_of(own: Sequence[str], concept: str) -> Fit | None:
    """How targets (concept ids, or "any") that a model is said to have stand to `concept`."""
    if concept in own:
        return "exact"
    if any(concept in ancestors(id_) for id_ in own):
        return "narrower"
    if set(own) & set(ancestors(concept)):
        return "broader"
    return "any" if ANY in own else None


def ancestors(concept: str) -> tuple[str, ...]:
    """Parents of a concept, nearest first."""
    chain: list[str] = []
    at = concepts.concepts()[concept].parent if concept in concepts.concepts() else None
    while at is not None and at not in chain:
        chain.append(at)
        at = concepts.concepts()[at].parent
    return tuple(chain)


def _covers(own: ModelClass, concept: str) -> bool:
    """True when the class stands for something broader that holds `concept`."""
    if ANY in own.concepts:
        return True
    if concept in concepts.concepts() and concepts.concept(concept).part:
        return False
    if not {_whole(c) for c in own.concepts} & set(ancestors(concept)):
        return False
    return not (own.tumors_only and concepts.concept(concept).target in NO_TUMORS)


def _whole(concept: str) -> str:
    """What a part is a part of; other concepts as they are."""
    at = concepts.concepts().get(concept)
    while at is not None and at.part and at.parent is not None:
        at = concepts.concept(at.parent)
    return concept if at is None else at.id
