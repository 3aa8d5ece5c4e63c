"""Tumour and lesion concepts: what can be searched for, in which organ, how it looks. The table is `concepts.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from typing import Annotated, Self

from pydantic import Field, model_validator

from r2seg_agent.errors import InputError
from r2seg_agent.frozen import Frozen
from r2seg_agent.imaging.volume import Modality
from r2seg_agent.imaging.window import WINDOWS
from r2seg_agent.reason import anatomy
from r2seg_agent.reason.normal_words import words
from r2seg_agent.reason.plan import AnchorRole, Contrast, Window

MAX_QUERY_WORDS = 12
"""Words of a text that the search for near concepts looks at."""

GENERIC_KIND = "lesion"
"""The kind that stands for any tumour, mass or finding of an organ."""


class Concept(Frozen):
    """One thing to look for.

    `organ` is where it lives; `anchors` are the organs whose masks say where to look: () when no TotalSegmentator class
    exists, or a stand-in such as the liver for the bile ducts; in both cases `no_anchor_reason` says why, and
    `anchor_role` whether the lesion lies inside the stand-in or near it. `kinds` are the lesion words that mean this
    concept together with the organ ("liver" + "cyst"). `target` and `site` are the words of the segmenter's
    prompt. `mimics` are organs that look like it and do not hold it. `window` is a key of `windows_hu` (CT only).
    `volume_ml` is the typical range. `part`: it is a part of its parent, no kind of it: what outlines the parent
    cannot answer for it, and all parts together make the parent.
    """

    id: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    system: str
    name: str
    organ: str
    kinds: tuple[str, ...] = ()
    parent: str | None = None
    part: bool = False
    snomed_ct: Annotated[str, Field(pattern=r"^\d{6,18}$|^$")] = ""
    snomed_note: str = ""
    synonyms: tuple[str, ...] = ()
    target: str
    site: str
    anchors: tuple[str, ...]
    anchor_role: AnchorRole = "inside"
    no_anchor_reason: str = ""
    neighbours: tuple[str, ...] = ()
    mimics: tuple[str, ...] = ()
    modalities: tuple[Modality, ...]
    padding_mm: Annotated[float, Field(ge=0, le=100)]
    window: str
    volume_ml: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]]
    contrast: Mapping[Modality, Contrast] = {}

    @property
    def paired(self) -> bool:
        """True when left and right mean different organs."""
        return len(anatomy.expand(self.organ)) > 1

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in (self.organ, *self.anchors, *self.neighbours, *self.mimics):
            anatomy.organ(name)
        held = {around for name in (self.organ, *self.anchors) for around in anatomy.containing(name)}
        if wrong := sorted(held & set(self.mimics)):
            raise ValueError(f"{self.id}: lies in {wrong[0]}, which cannot be a mimic")
        if self.volume_ml[0] >= self.volume_ml[1]:
            raise ValueError(f"{self.id}: volume_ml must be (low, high), got {self.volume_ml}")
        if not self.snomed_ct and not self.snomed_note:
            raise ValueError(f"{self.id}: no SNOMED CT code needs a snomed_note")
        if self.anchors != (self.organ,) and not self.no_anchor_reason and self.organ not in self.anchors:
            raise ValueError(f"{self.id}: anchors other than the organ need a no_anchor_reason")
        return self


class _Table(Frozen):
    comment: str
    windows: Mapping[str, Window]
    broader_kinds: Mapping[str, str]
    concepts: tuple[Concept, ...]

    @model_validator(mode="after")
    def _check(self) -> Self:
        ids = [c.id for c in self.concepts]
        if len(set(ids)) != len(ids):
            raise ValueError(f"concept ids repeat: {sorted(i for i in set(ids) if ids.count(i) > 1)}")
        for c in self.concepts:
            if c.parent is not None and c.parent not in ids:
                raise ValueError(f"{c.id}: parent `{c.parent}` is no concept")
            if c.window not in self.windows and c.window not in WINDOWS:
                raise ValueError(f"{c.id}: window `{c.window}` is not one of {sorted((*WINDOWS, *self.windows))}")
        return self


@lru_cache(maxsize=1)
def _table() -> _Table:
    text = files("r2seg_agent.reason").joinpath("concepts.json").read_text(encoding="utf-8")
    return _Table.model_validate(json.loads(text))


@lru_cache(maxsize=1)
def concepts() -> Mapping[str, Concept]:
    """All concepts by id, in table order (by organ system)."""
    return {c.id: c for c in _table().concepts}


def windows_hu() -> Mapping[str, Window]:
    """CT windows (low, high) in HU by site name: those of `imaging.window` and our own for further sites."""
    return {**WINDOWS, **_table().windows}


def concept(id: str) -> Concept:
    """The concept with this id; `InputError` with the nearest ids when there is none."""
    found = concepts().get(id)
    if found is None:
        near = ", ".join(f"`{c.id}`" for c in nearest_concepts(id))
        raise InputError(f"`{id}` is no concept of the concept table.", f"Nearest concepts: {near}.")
    return found


def nearest_concepts(text: str, n: int = 5, floor: float = 0.0) -> tuple[Concept, ...]:
    """The `n` concepts whose names are most like `text`, best first, ties in table order; none below `floor` (0 to 1).

    Likeness is the mean over the words of `text` of the best edit similarity to a word of the concept's names, less a
    fifth where even the first letters differ.
    """
    from rapidfuzz.distance import OSA

    query = [w for w in words(text) if len(w) > 2][:MAX_QUERY_WORDS]

    def likeness(c: Concept) -> float:
        own = {w for key in names_of(c.id) for w in key}
        best = (max(OSA.normalized_similarity(q, w) * (1.0 if q[0] == w[0] else 0.8) for w in own) for q in query)
        return sum(best) / max(1, len(query))

    ranked = sorted(((likeness(c), c) for c in concepts().values()), key=lambda pair: -pair[0])
    return tuple(c for score, c in ranked[:n] if score >= floor)


@lru_cache(maxsize=1024)
def names_of(id: str) -> tuple[tuple[str, ...], ...]:
    """Every way to write the concept, as normalised words: id, name, synonyms."""
    c = concept(id)
    return tuple(dict.fromkeys(key for key in (words(text) for text in (c.id, c.name, *c.synonyms)) if key))


@lru_cache(maxsize=1)
def phrases() -> Mapping[tuple[str, ...], tuple[str, ...]]:
    """Normalised words → ids of the concepts that may be meant; several ids make an ambiguous abbreviation."""
    found: dict[tuple[str, ...], tuple[str, ...]] = {}
    for c in concepts().values():
        for key in names_of(c.id):
            found[key] = (*found.get(key, ()), c.id)
    return found


@lru_cache(maxsize=1)
def _by_organ_and_kind() -> Mapping[tuple[str, str], Concept]:
    found: dict[tuple[str, str], Concept] = {}
    for c in concepts().values():
        for kind in c.kinds:
            found.setdefault((c.organ, kind), c)
    return found


def find_concept(organ: str, kind: str) -> Concept | None:
    """The concept for a lesion word in an organ: "cyst" in "kidney_left" → `kidney_cyst`.

    The exact kind in the organ or in what contains it wins over a broader one ("squamous cell carcinoma" is a cancer),
    and that over the generic lesion of the nearest one that has any.
    """
    table = _by_organ_and_kind()
    broader = _table().broader_kinds.get(kind, kind)
    for wanted in dict.fromkeys((kind, broader, GENERIC_KIND)):
        for place in anatomy.containing(organ):
            if (place, wanted) in table:
                return table[place, wanted]
    return None
