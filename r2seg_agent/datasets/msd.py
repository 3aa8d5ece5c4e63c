"""Medical Segmentation Decathlon: `dataset.json` with `training` (pairs of image and label) and `test` (images)."""

from __future__ import annotations

from pathlib import Path

from r2seg_agent.datasets.case import Case, Dataset, Wanted, case_name
from r2seg_agent.datasets.dataset_json import NAME, DatasetJson
from r2seg_agent.datasets.labels import choose_labels
from r2seg_agent.errors import InputError
from r2seg_agent.imaging.files import file_of


def is_msd(folder: Path) -> bool:
    """A dataset.json that lists its images."""
    return (folder / NAME).is_file() and isinstance(DatasetJson(folder).fields.get("training"), list)


def read_msd(folder: Path, wanted: Wanted) -> Dataset:
    """Images that hold several channels are searched in their first one, and have all of them by name.

    Raises `InputError` for labels that only the user knows and for paths outside the folder."""
    described = DatasetJson(folder)
    names = described.channels
    choice = choose_labels(described.labels(), wanted)
    modality = described.modality if wanted.modality else None
    cases: list[Case] = []
    for image, label in _pairs(described):
        cases.append(
            Case(
                image=f"{image}::1" if len(names) > 1 else str(image),
                channels={name: f"{image}::{n}" for n, name in enumerate(names, start=1)} if len(names) > 1 else {},
                patient=case_name(image),
                anchors=None if label is None else choice.anchors(str(label)),
                truth=None if label is None else choice.truth(str(label)),
                modality=modality,
            )
        )
    missing = [case.image for case in cases if not file_of(case.image).exists()]
    if cases and len(missing) == len(cases):
        raise InputError(f"`{described.path}` lists `{missing[0]}`, which is not there, nor any other", "Unpack it.")
    listed = sum(case.truth is not None for case in cases)
    several = [f"Images of {len(names)} channels; searched in `{names[0]}`."] if len(names) > 1 else []
    notes = [*choice.notes, *several, f"Cases: {len(cases)} in {NAME} ({listed} with truth)."]
    if missing:
        notes.append(f"{len(missing)} of {len(cases)} scans are missing; first: `{missing[0]}`.")
    return Dataset(layout="msd", cases=tuple(cases), notes=tuple(notes))


def _pairs(described: DatasetJson) -> list[tuple[Path, Path | None]]:
    found: list[tuple[Path, Path | None]] = []
    for field in ("training", "validation", "test"):
        listed = described.fields.get(field)
        for entry in listed if isinstance(listed, list) else ():
            image, label = (entry.get("image"), entry.get("label")) if isinstance(entry, dict) else (entry, None)
            if not isinstance(image, str) or not (label is None or isinstance(label, str)):
                raise InputError(
                    f"`{described.path}`: `{field}` holds {entry!r}, no image", 'Give {"image": …, "label": …}.'
                )
            found.append((described.inside(image), None if label is None else described.inside(label)))
    return found
