"""Canonical organs: one name per organ, whoever made the mask. The table is `organs.json`.

A sided organ ("kidney_left") has a `group` ("kidneys") whose `members` are both sides; plans name the sides, so that
organs far apart get boxes of their own. An organ with no `classes` can only come from a mask of the user.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from typing import Literal

from r2seg_agent.errors import InputError
from r2seg_agent.frozen import Frozen
from r2seg_agent.imaging.volume import Modality
from r2seg_agent.reason.normal_words import words
from r2seg_agent.reason.plan import Side

BASE_TASKS: Mapping[str, str] = {"CT": "total", "MR": "total_mr"}
"""The TotalSegmentator task that finds most organs of a modality."""

_SIDE_WORDS: Mapping[str, Side] = {
    "left": "left",
    "l": "left",
    "lt": "left",
    "li": "left",
    "right": "right",
    "r": "right",
    "rt": "right",
    "re": "right",
}


class Task(Frozen):
    """A TotalSegmentator task that finds organs. `licensed` tasks need a (free for research) licence key."""

    name: str
    modality: Literal["CT", "MR"]
    licensed: bool


class Organ(Frozen):
    """One organ. `snomed_ct` is the code of the body structure without its side, "" where we know none.

    `classes` maps a TotalSegmentator task to the class names whose union is the organ; `part_of` names the organ that
    contains it; `hounsfield` is True when the weight-free source can find it.
    """

    name: str
    display: str
    snomed_ct: str = ""
    side: Side | None = None
    group: str | None = None
    members: tuple[str, ...] = ()
    part_of: str | None = None
    synonyms: tuple[str, ...] = ()
    classes: Mapping[str, tuple[str, ...]] = {}
    hounsfield: bool = False


class _Table(Frozen):
    comment: str
    tasks: tuple[Task, ...]
    lesion_classes: Mapping[str, tuple[str, ...]]
    organs: tuple[Organ, ...]


@lru_cache(maxsize=1)
def _table() -> _Table:
    text = files("r2seg_agent.reason").joinpath("organs.json").read_text(encoding="utf-8")
    return _Table.model_validate(json.loads(text))


@lru_cache(maxsize=1)
def organs() -> Mapping[str, Organ]:
    """All canonical organs by name, in table order."""
    return {o.name: o for o in _table().organs}


@lru_cache(maxsize=1)
def tasks() -> Mapping[str, Task]:
    """All TotalSegmentator tasks that the table knows, base tasks first."""
    return {t.name: t for t in _table().tasks}


def lesion_classes(task: str) -> tuple[str, ...]:
    """Classes of a TotalSegmentator task that are lesions, not organs: fit for a segmenter, never for an anchor."""
    return _table().lesion_classes.get(task, ())


def organ(name: str) -> Organ:
    """The organ with this canonical name; `InputError` with the nearest names when there is none."""
    found = organs().get(name)
    if found is None:
        near = ", ".join(f"`{n}`" for n in nearest_organs(name))
        raise InputError(f"`{name}` is no organ of the organ table.", f"Nearest names: {near}.")
    return found


def nearest_organs(text: str, n: int = 3) -> tuple[str, ...]:
    """The `n` canonical names most like `text`, best first."""
    from rapidfuzz import fuzz, process

    spaced = {name: name.replace("_", " ") for name in organs()}
    query = " ".join(words(text, camel=True)) or text
    return tuple(key for _, _, key in process.extract(query, spaced, scorer=fuzz.WRatio, limit=n))


@lru_cache(maxsize=1)
def phrases() -> Mapping[tuple[str, ...], str]:
    """Every way to write an organ, as normalised words → canonical name. Groups own the unsided words
    ("kidney" → "kidneys"); sided organs are written with their side ("left kidney", "kidney left").
    """
    found: dict[tuple[str, ...], str] = {}
    for o in organs().values():
        for text in (o.name, o.display, *o.synonyms):
            found.setdefault(words(text), o.name)
    for o in organs().values():
        for own in o.classes.values():
            if len(own) == 1:
                found.setdefault(words(own[0]), o.name)
    found.pop((), None)
    return found


def canonical_organ(text: str) -> str | None:
    """Canonical name of an organ written in any known way: class names, synonyms, "left kidney", "Kidney_L".

    Exact after normalisation (case, plural, spelling, word joiners); None rather than a guess.
    """
    table = phrases()
    if (plain := words(text)) in table:
        return table[plain]
    key = words(text, camel=True)
    if key in table:
        return table[key]
    for at in (0, -1):
        if len(key) > 1 and key[at] in _SIDE_WORDS:
            base = table.get(key[1:] if at == 0 else key[:-1])
            sided = on_side(base, _SIDE_WORDS[key[at]]) if base else None
            if sided:
                return sided
    return None


def on_side(name: str, side: Side) -> str | None:
    """The left or right one of a group ("kidneys", "left") → "kidney_left"; None when the organ has no sides."""
    found = organ(name)
    if found.side == side:
        return name
    return next((m for m in found.members if organ(m).side == side), None)


def expand(name: str) -> tuple[str, ...]:
    """A group's two sides where a task can tell them apart ("kidneys", not "breasts"); any other organ as itself."""
    group = organ(name)
    apart = not group.classes or all(set(group.classes) & set(organ(m).classes) for m in group.members)
    return group.members if group.members and apart else (name,)


def group_of(name: str) -> str:
    """The group of a sided organ ("kidney_left" → "kidneys"); any other organ as itself."""
    return organ(name).group or name


def containing(name: str) -> tuple[str, ...]:
    """The organ, then its group, then what contains it, outwards: "femur_left", "femurs", "bone"."""
    chain: list[str] = []
    at: str | None = name
    while at is not None and at not in chain:
        chain.append(at)
        here = organ(at)
        if here.part_of is None or here.group is None:
            at = here.group or here.part_of
        else:
            chain.append(here.group)
            at = here.part_of
    return tuple(chain)


def classes_for(name: str, task: str) -> tuple[str, ...]:
    """Class names of `task` whose union is the organ; () when the task does not find it."""
    return organ(name).classes.get(task, ())


def tasks_for(name: str, modality: Modality) -> tuple[str, ...]:
    """Tasks that find the organ in `modality`: the base task first, then free ones, then licensed ones."""
    fit = [t for t in tasks().values() if t.modality == modality and t.name in organ(name).classes]
    return tuple(t.name for t in sorted(fit, key=lambda t: (t.name != BASE_TASKS[t.modality], t.licensed)))


def organs_for_task(task: str) -> tuple[str, ...]:
    """Canonical names of everything that `task` can find, in table order."""
    return tuple(o.name for o in organs().values() if task in o.classes)
