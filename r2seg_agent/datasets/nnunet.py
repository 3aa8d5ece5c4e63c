"""nnU-Net raw data: `imagesTr/CASE_0000.nii.gz` (one file per channel), `labelsTr/CASE.nii.gz`, `dataset.json`.

As documented in nnU-Net's `documentation/dataset_format.md`; version 1 (`modality`, labels by value) is read too.
"""

from __future__ import annotations

import re
from pathlib import Path

from r2seg_agent.datasets.case import IMAGE_SUFFIXES, Case, Dataset, Wanted, case_name
from r2seg_agent.datasets.dataset_json import NAME, DatasetJson
from r2seg_agent.datasets.labels import LabelChoice, choose_labels
from r2seg_agent.errors import InputError

PARTS = (("imagesTr", "labelsTr"), ("imagesVal", "labelsVal"), ("imagesTs", "labelsTs"))
_CHANNEL = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")


def is_nnunet(folder: Path) -> bool:
    """Images with channel numbers in a folder of that name."""
    return any(_CHANNEL.fullmatch(case_name(path)) for images, _ in PARTS for path in _images(folder / images))


def read_nnunet(folder: Path, wanted: Wanted) -> Dataset:
    """Channel 0000 is the scan, all channels are given by name. Raises `InputError` for labels that only the user
    knows, and for cases that lack a channel."""
    if not (folder / NAME).exists():
        raise InputError(
            f"`{folder}` has no {NAME}, so its labels and channels have no names", "nnU-Net needs it too; add it."
        )
    described = DatasetJson(folder)
    choice = choose_labels(described.labels(), wanted)
    ending = described.fields.get("file_ending")
    cases: list[Case] = []
    counts = []
    for images, labels in PARTS:
        found = _cases(folder / images, folder / labels, described, choice, wanted, str(ending or ""))
        if found:
            with_truth = sum(case.truth is not None for case in found)
            counts.append(f"{len(found)} in {images} ({with_truth} with truth)")
        cases.extend(found)
    notes = (*choice.notes, f"Cases: {', '.join(counts)}.")
    return Dataset(layout="nnunet", cases=tuple(cases), notes=notes)


def _cases(
    images: Path, labels: Path, described: DatasetJson, choice: LabelChoice, wanted: Wanted, ending: str
) -> list[Case]:
    by_case: dict[str, dict[int, Path]] = {}
    for path in _images(images):
        match = _CHANNEL.fullmatch(path.name.removesuffix(ending) if ending else case_name(path))
        if match is not None:
            by_case.setdefault(match["case"], {})[int(match["channel"])] = path
    names = described.channels or ("image",)
    cases = []
    for name, channels in sorted(by_case.items()):
        lacking = [f"{number:04d} ({names[number]})" for number in range(len(names)) if number not in channels]
        if lacking:
            raise InputError(
                f"case `{name}` in `{images}` lacks channel {', '.join(lacking)}",
                f"Every case needs the {len(names)} channels that {NAME} names.",
            )
        label = _label(labels, name, channels[0], ending)
        cases.append(
            Case(
                image=str(channels[0]),
                patient=name,
                anchors=None if label is None else choice.anchors(str(label)),
                truth=None if label is None else choice.truth(str(label)),
                modality=described.modality if wanted.modality else None,
                channels={names[n]: str(channels[n]) for n in range(len(names))} if len(names) > 1 else {},
            )
        )
    return cases


def _label(folder: Path, name: str, image: Path, ending: str) -> Path | None:
    suffix = ending or image.name.removeprefix(case_name(image))
    path = folder / f"{name}{suffix}"
    return path if path.exists() else None


def _images(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.name.lower().endswith(IMAGE_SUFFIXES) and p.name[0] != ".")
