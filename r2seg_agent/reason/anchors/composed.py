"""Organs that follow from named ones: a lung of its lobes, "kidneys" of both, the two sides of a group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

from r2seg_agent.imaging.geometry import Geometry
from r2seg_agent.imaging.masks import Labels
from r2seg_agent.reason.anatomy import organs
from r2seg_agent.reason.anchors.sides import split_sides


def with_wanted(
    labels: Labels, names: dict[str, tuple[int, ...]], wanted: Sequence[str], geometry: Geometry
) -> tuple[Labels, dict[str, tuple[int, ...]]]:
    """`labels` (z, y, x) and `names` with an entry for each of the `wanted` organs: made of the others where they are
    its parts or hold both its sides, without a voxel where it is not there.

    Raises `InputError` for a side of a mask that does not show two.
    """
    names = dict(names)
    for organ, members in composed(set(names)).items():
        if organ in wanted:  # others would only make "in view" a long list of the same things twice
            names[organ] = tuple(sorted({v for member in members for v in names[member]}))
    labels, names = split_sides(labels, names, wanted, geometry)
    for organ in wanted:
        names.setdefault(organ, ())
    return labels, names


def composed(named: set[str]) -> dict[str, tuple[str, ...]]:
    """Organs that are not named but whose parts all are: groups of their sides, and TotalSegmentator's unions."""
    found: dict[str, tuple[str, ...]] = {}
    for organ, choices in _recipes().items():
        members = next((m for m in choices if set(m) <= named), None)
        if organ not in named and members is not None:
            found[organ] = members
    return found


@lru_cache(maxsize=1)
def _recipes() -> Mapping[str, tuple[tuple[str, ...], ...]]:
    """Organ → the sets of other organs whose union it is: its sides, and for each task the organs of its classes."""
    owner: dict[tuple[str, str], tuple[int, str]] = {}  # the organ with fewest classes owns a class
    for name, organ in organs().items():
        for task, classes in organ.classes.items():
            for class_ in classes:
                owner[task, class_] = min(owner.get((task, class_), (len(classes), name)), (len(classes), name))
    recipes: dict[str, tuple[tuple[str, ...], ...]] = {}
    for name, organ in organs().items():
        choices = [organ.members] if organ.members else []
        for task, classes in organ.classes.items():
            choices.append(tuple(dict.fromkeys(owner[task, class_][1] for class_ in classes)))
        fit = tuple(choice for choice in choices if name not in choice)
        if fit:
            recipes[name] = fit
    return recipes
