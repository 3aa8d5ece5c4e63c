"""Which labels of a data set's segmentations are the lesion, and which the organ around it. Nothing is guessed: names
that the concept table does not know, or that it knows as different things, are asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from r2seg_agent.datasets.case import Wanted
from r2seg_agent.errors import InputError
from r2seg_agent.reason import concepts
from r2seg_agent.reason.anatomy import group_of
from r2seg_agent.reason.language.lexicon import understand
from r2seg_agent.reason.language.parse import read_request
from r2seg_agent.reason.language.wishes import concept_of
from r2seg_agent.segment.folders.class_names import Meaning, meaning_of

NO_LABEL = ("none",)
IGNORED_NAMES = ("background", "ignore", "unlabeled", "unlabelled", "clear label")
"""Names that mean no structure; nnU-Net's `ignore` marks voxels that nobody has looked at."""

Labels = Mapping[str, tuple[int, ...]]
"""Name → values; nnU-Net's regions have several."""


class LabelChoice(NamedTuple):
    """The values that are the lesion (none: no truth), the organs that label maps give as anchors, and what to say."""

    lesion: tuple[int, ...]
    organs: Mapping[int, str]
    notes: tuple[str, ...]

    def truth(self, path: str) -> str | None:
        """`--truth` for a label map: `FILE::2,3`."""
        return f"{path}::{','.join(map(str, self.lesion))}" if self.lesion else None

    def anchors(self, path: str) -> str | None:
        """`--anchors` for a label map: `FILE=values:1:liver,2:liver`."""
        values = ",".join(f"{value}:{organ}" for value, organ in sorted(self.organs.items()))
        return f"{path}=values:{values}" if values else None


def parse_labels(found: object, file: str) -> Labels:
    """`labels` of a dataset.json: name → value or values (nnU-Net), or value → name (Decathlon)."""
    labels: dict[str, tuple[int, ...]] = {}
    if isinstance(found, dict):
        for key, value in found.items():
            if isinstance(value, str) and str(key).isdigit():
                labels[value] = (*labels.get(value, ()), int(key))
            elif isinstance(value, int) and not isinstance(value, bool):
                labels[str(key)] = (value,)
            elif isinstance(value, list) and value and all(isinstance(item, int) for item in value):
                labels[str(key)] = tuple(value)
            else:
                raise InputError(f"`{file}`: the label `{key}` has the value {value!r}", "Give whole numbers.")
    if not labels:
        raise InputError(f"`{file}` names no labels", 'It needs "labels": {"background": 0, "tumour": 1}.')
    return {name: values for name, values in labels.items() if values != (0,) and name.casefold() not in IGNORED_NAMES}


def choose_labels(labels: Labels, wanted: Wanted) -> LabelChoice:
    """Which labels are truth and anchors. Raises `InputError` that lists the names where only the user can know."""
    listed = ", ".join(f"{name} ({_values(values)})" for name, values in labels.items())
    means = {name: meaning_of(name) for name in labels}
    names: list[str] = []
    if wanted.lesion_labels and wanted.lesion_labels != NO_LABEL:
        names = [_named(label, labels, listed) for label in wanted.lesion_labels]
    elif not wanted.lesion_labels:
        names = _lesion_names(means, wanted.request, listed)
    lesion = tuple(sorted({value for name in names for value in labels[name]}))
    organs = _organs(labels, means, names, wanted.request) if wanted.anchors else {}
    notes = []
    if names:
        left = [name for name in labels if name not in names and not means[name].organs]
        also = f"; not counted as lesion: {', '.join(left)}" if left else ""
        notes.append(f"Truth: label {' + '.join(names)} ({_values(lesion)}){also}.")
    else:
        why = "No truth, as wished" if wanted.lesion_labels else "No label is a lesion, so there is no truth"
        notes.append(f"{why}; labels: {listed}.")
    if organs:
        told_organs = ", ".join(dict.fromkeys(organs.values()))
        notes.append(
            f"Anchors: the data set's own labels ({told_organs}, lesion included) where a case has them; "
            "`--anchors` names another source."
        )
    return LabelChoice(lesion, organs, tuple(notes))


def _named(label: str, labels: Labels, listed: str) -> str:
    for name, values in labels.items():
        if label.casefold() == name.casefold() or label in map(str, values if len(values) == 1 else ()):
            return name
    raise InputError(f"there is no label `{label}`; there are: {listed}", "Give names or numbers from this list.")


def _lesion_names(means: Mapping[str, Meaning], request: str | None, listed: str) -> list[str]:
    lesions = [name for name, meaning in means.items() if _is_lesion(meaning)]
    strange = [name for name, meaning in means.items() if meaning == Meaning()]
    how = "Say which with --lesion-label NAME (may be repeated), or `--lesion-label none` for no truth."
    if not lesions and strange:
        raise InputError(f"which label is the lesion? The names do not say; there are: {listed}", how)
    targets = _targets(request)
    kinds = {(means[name].concept, means[name].kind) for name in lesions if means[name].part is None}
    zones = [name for name in lesions if means[name].part is not None]  # all of them are one tumour
    if len(kinds) + bool(zones) <= 1 and not any(target.part for target in targets):
        return lesions
    fitting = [name for name in lesions if any(_is(name, means[name], target) for target in targets)]
    if not fitting:
        raise InputError(f"several labels are lesions of different kinds; there are: {listed}", how)
    return fitting


def _is_lesion(meaning: Meaning) -> bool:
    return meaning.concept is not None or meaning.kind is not None or meaning.part is not None


def _targets(request: str | None) -> tuple[concepts.Concept, ...]:
    """The concepts that a request asks for."""
    if not request:
        return ()
    wanted = read_request(understand(request)[0]).wanted
    return tuple(found for wish in wanted if (found := concept_of(wish)) is not None)


def _is(name: str, meaning: Meaning, target: concepts.Concept) -> bool:
    """A label "tumor" in a data set that is searched for kidney lesions is a kidney tumour."""
    own = meaning.concept or meaning_of(f"{target.organ.replace('_', ' ')} {name}").concept
    return own == target.id


def _organs(labels: Labels, means: Mapping[str, Meaning], lesion: Sequence[str], request: str | None) -> dict[int, str]:
    """Value → organ. The organ that holds the lesion gets the lesion's voxels too: an anchor with a hole where the
    truth is would give the answer away, or exclude it. Where that organ is not known, no label serves as an anchor."""
    organs = {value: organ for name in labels for organ in means[name].organs[:1] for value in labels[name][:1]}
    spared = [name for name in labels if name not in lesion and _is_lesion(means[name])]
    holes = [value for name in (*lesion, *spared) for value in labels[name] if value not in organs]
    known = set(organs.values())
    if not holes or not known:
        return organs
    targets = [*_targets(request), *(concepts.concept(c) for name in lesion if (c := means[name].concept) is not None)]
    homes = {organ for target in targets for organ in (target.organ, *target.anchors)}
    holding = {o for o in known if o in homes or group_of(o) in homes} if homes else known
    if len(holding) != 1:
        return {}
    (home,) = holding
    return {**dict.fromkeys(holes, home), **organs}


def _values(values: Sequence[int]) -> str:
    return "+".join(map(str, values))
