"""BIDS: `sub-01/[ses-1/]anat/sub-01[_ses-1]_T1w.nii.gz`, with lesion masks among the derivatives.

Of the standard (BIDS 1.10) only names and sidecar files are needed here; pybids would bring a database for that.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

from r2seg_agent.datasets.case import Case, Dataset, Wanted
from r2seg_agent.datasets.labels import NO_LABEL
from r2seg_agent.errors import InputError
from r2seg_agent.segment.folders.class_names import meaning_of

DATATYPES: Mapping[str, str] = {"anat": "MR", "ct": "CT", "pet": "PT"}
"""Folders of single volumes → modality, where no sidecar says it. Others (func, dwi, …) hold series of volumes."""
CT_SUFFIX = "ct"
"""CT has no place in the standard yet; data sets put `_ct` or `_CT` into `anat` or `ct`."""
MASK_SUFFIXES = ("mask", "roi")
"""`_label-lesion_roi` is how lesion masks were named before derivatives were part of the standard."""
DERIVED_ENTITIES = ("space", "res", "den", "label", "desc", "atlas")
"""Entities that describe what was made of a scan, not which scan."""
LESION_LABELS = ("L", "lesion", "tumor", "tumour")
"""Values of `label-` and `desc-` that the standard (L) and data sets use; others go through the concept table."""

Masks = dict[frozenset[tuple[str, str]], list[tuple[Path, str]]]
"""Entities of the scan → lesion masks with their `space`."""

_ENTITY = re.compile(r"([a-zA-Z]+)-([a-zA-Z0-9+]+)")


class Name(NamedTuple):
    """A file name in parts: entities (`sub-01` → sub: 01), suffix (`T1w`)."""

    entities: Mapping[str, str]
    suffix: str


def parse_name(path: Path) -> Name | None:
    """None for what is no image in NIfTI with a name by the standard."""
    stem, found, _ = path.name.partition(".nii")
    parts = stem.split("_")
    entities = [_ENTITY.fullmatch(part) for part in parts[:-1]]
    if not found or not entities or any(match is None for match in entities):
        return None
    return Name({match[1]: match[2] for match in entities if match is not None}, parts[-1])


def is_bids(folder: Path) -> bool:
    """A folder with subjects, and with scans in at least one of them."""
    return next(_scans(folder), None) is not None


def read_bids(folder: Path, wanted: Wanted) -> Dataset:
    """One case per scan, one patient per subject. Raises `InputError` when scans are of several kinds (T1w, FLAIR, …)
    and `only` does not say which, and when a scan has several lesion masks."""
    scans = [scan for scan in _scans(folder) if matches(folder, scan[0], wanted.only)]
    kinds = Counter(name.suffix for _, name in scans)
    if len(kinds) > 1:
        listed = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        raise InputError(
            f"`{folder}` holds scans of several kinds: {listed}; one search is for one kind",
            f"Choose with --only, for example --only '*_{max(kinds, key=lambda k: kinds[k])}.nii.gz'.",
        )
    masks = {} if wanted.lesion_labels == NO_LABEL else _masks(folder, wanted.lesion_labels)
    cases = [
        Case(
            image=str(path),
            patient=f"sub-{name.entities['sub']}",
            truth=_truth(path, name, masks),
            modality=_modality(folder, path, name) if wanted.modality else None,
        )
        for path, name in scans
    ]
    subjects = {case.patient for case in cases}
    masked = sum(case.truth is not None for case in cases)
    notes = [f"Cases: {len(cases)} scans of {len(subjects)} subjects ({masked} with a lesion mask as truth)."]
    unlisted = subjects - _participants(folder) if (folder / "participants.tsv").exists() else set()
    if unlisted:
        notes.append(f"participants.tsv does not list {len(unlisted)} of them (first: {min(unlisted)}).")
    return Dataset(layout="bids", cases=tuple(cases), notes=tuple(notes))


def matches(folder: Path, path: Path, patterns: tuple[str, ...]) -> bool:
    """True without patterns, or when the name, or the path below `folder`, fits one."""
    below = path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name
    return not patterns or any(fnmatch(path.name, pattern) or fnmatch(below, pattern) for pattern in patterns)


def _scans(folder: Path) -> Iterator[tuple[Path, Name]]:
    for datatype in DATATYPES:
        for pattern in (f"sub-*/{datatype}/*.nii*", f"sub-*/ses-*/{datatype}/*.nii*"):
            for path in sorted(folder.glob(pattern)):
                name = parse_name(path)
                derived = name is None or name.suffix in (*MASK_SUFFIXES, "dseg", "probseg") or "desc" in name.entities
                if name is not None and "sub" in name.entities and not derived:
                    yield path, name


def _masks(folder: Path, wanted: tuple[str, ...]) -> Masks:
    found: Masks = {}
    for place in (folder, folder / "derivatives", *sorted((folder / "derivatives").glob("*"))):
        for path in sorted([*place.glob("sub-*/*/*.nii*"), *place.glob("sub-*/ses-*/*/*.nii*")]):
            name = parse_name(path)
            if name is None or name.suffix not in MASK_SUFFIXES:
                continue
            said = [name.entities[key] for key in ("label", "desc") if key in name.entities]
            if any(_is_lesion(item, wanted) for item in said):
                found.setdefault(_source(name), []).append((path, name.entities.get("space", "")))
    return found


def _source(name: Name) -> frozenset[tuple[str, str]]:
    """The entities that a scan and what is derived from it share."""
    return frozenset((key, value) for key, value in name.entities.items() if key not in DERIVED_ENTITIES)


def _is_lesion(said: str, wanted: tuple[str, ...]) -> bool:
    if wanted:
        return said.casefold() in {item.casefold() for item in wanted}
    meaning = meaning_of(said)
    return said in LESION_LABELS or meaning.concept is not None or meaning.kind is not None


def _truth(image: Path, name: Name, masks: Masks) -> str | None:
    """The lesion mask with all entities of the scan, in the scan's own space: one in MNI space is on another grid."""
    own_spaces = ("", "orig", name.suffix.casefold())
    found = [path for path, space in masks.get(_source(name), ()) if space.casefold() in own_spaces]
    if len(found) > 1:
        raise InputError(
            f"`{image.name}` has {len(found)} lesion masks: {', '.join(f'`{path}`' for path in found)}",
            "Say which with --lesion-label (the value of `label-` or `desc-`), or give a table of cases.",
        )
    return f"{found[0]}::1" if found else None


def _modality(folder: Path, path: Path, name: Name) -> str | None:
    """From the sidecar file (the nearest of those that the standard lets inherit), else from the folder's name."""
    stems = [path.name.partition(".nii")[0], name.suffix]
    for place in (path.parent, *path.parent.parents):
        for stem in (*stems, f"sub-{name.entities['sub']}_{name.suffix}"):
            said = _field(place / f"{stem}.json", "Modality")
            if said:
                return {"MRI": "MR", "PET": "PT"}.get(said.upper(), said.upper())
        if place == folder:
            break
    return "CT" if name.suffix.casefold() == CT_SUFFIX else DATATYPES.get(path.parent.name)


def _field(sidecar: Path, field: str) -> str | None:
    if not sidecar.is_file():
        return None
    try:
        found: object = json.loads(sidecar.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read `{sidecar}`: {error}", "It must be JSON.") from error
    value = found.get(field) if isinstance(found, dict) else None
    return value if isinstance(value, str) else None


def _participants(folder: Path) -> set[str]:
    try:
        with (folder / "participants.tsv").open(encoding="utf-8-sig", newline="") as file:
            return {row.get("participant_id") or "" for row in csv.DictReader(file, delimiter="\t")}
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read participants.tsv: {error}", "It must be UTF-8 with tabs.") from error
