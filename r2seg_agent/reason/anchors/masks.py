"""Anchors that the user already has: a label map with names, a folder of masks, or the mask of one organ."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from r2seg_agent.errors import EmptyMaskError, InputError, readable_text
from r2seg_agent.files import file_sha256
from r2seg_agent.imaging import dicom_header, files
from r2seg_agent.imaging.geometry import Geometry
from r2seg_agent.imaging.headers import check_nrrd_header
from r2seg_agent.imaging.itk import simpleitk
from r2seg_agent.imaging.masks import Labels, read_label_map, read_labels_alone
from r2seg_agent.imaging.volume import Mask, Modality, Volume
from r2seg_agent.progress import Progress, silent
from r2seg_agent.reason.anatomy import canonical_organ, lesion_classes, organs, tasks
from r2seg_agent.reason.anchors.composed import composed, with_wanted
from r2seg_agent.reason.anchors.label_names import (
    NEEDED,
    Segment,
    names_file_of,
    names_in_file,
    read_names_file,
    task_names,
)
from r2seg_agent.reason.anchors.label_union import LabelUnion
from r2seg_agent.reason.anchors.protocol import AnchorSet, AnchorSourceInfo
from r2seg_agent.reason.anchors.sides import halves

VERSION = "1"
MODALITIES: tuple[Modality, ...] = ("CT", "MR", "PT", "US", "XR", "photo", "unknown")
WHAT = "anchor mask"

_DEFAULT_SLICER_NAME = re.compile(r"segment[ _]?\d+", re.IGNORECASE)


class _Part(NamedTuple):
    """Where an organ's voxels are: values of one file (of one layer); None: every voxel above 0."""

    organ: str
    path: Path
    value: int | None
    layer: int = 0


class MaskSource:
    """Masks of the user as anchors.

    `spec` is a path, or `PATH=WHAT`: `mask.nii.gz=brain` (a mask of one organ), `seg.nii.gz=names:labels.csv`,
    `seg.nii.gz=values:1:liver,2:liver` (which values are which organ), `seg.nii.gz=task:total` (TotalSegmentator's
    class numbers). Without it, a label map's names are looked for in the file (TotalSegmentator's header extension,
    3D Slicer's segment fields, DICOM SEG), then beside it (`NAME.json`, `.csv`, `.tsv`, `.ctbl`, `.label`, `.txt`,
    `labels.*`, `dataset.json`), then in the file's own name ("liver.nii.gz"). In a folder each file is the mask of the
    organ that it is named after.

    Names become canonical where the organ table knows them, others stay as they are. Organs made of others that are
    all there are known too (a lung of its lobes), and a both-sided organ is split when a plan wants its sides and the
    mask shows two (`sides.halves`). Raises `InputError` for a path that is not there and for labels without names.
    """

    def __init__(self, spec: str | Path) -> None:
        self._path, self._what = _split_spec(str(spec))
        self._split: tuple[str, ...] = ()

    @cached_property
    def info(self) -> AnchorSourceInfo:
        """The masks by content: `masks_sha256` covers every file used and which name each value has."""
        digest = hashlib.sha256()
        for part in self._parts:
            digest.update(f"{part.organ}|{part.value}|{part.layer}|{self._file_sha256[part.path]}\n".encode())
        return AnchorSourceInfo(
            name="masks",
            version=VERSION,
            kind="masks",
            stand_in=False,
            licence="user's own",
            modalities=MODALITIES,
            settings={"masks_sha256": digest.hexdigest(), "files": len(self._file_sha256)},
        )

    def info_for(self, modality: Modality, organs: Sequence[str]) -> AnchorSourceInfo:
        """The same for all organs."""
        return self.info

    def organs(self, modality: Modality) -> frozenset[str]:
        """Every organ that the masks name, and those that follow from them: the two sides of "kidneys", say, where
        the mask shows two. One with a single kidney, or next to nothing of the other, is searched as it is.
        """
        named = {part.organ for part in self._parts}
        return frozenset(named | set(composed(named)) | self._sides)

    def check(self, modality: Modality, organs: Sequence[str]) -> None:
        """Raise `InputError` when the masks name none of `organs`."""
        known = self.organs(modality)
        if organs and not known & set(organs):
            named = {part.organ for part in self._parts}
            held = sorted(name for name in named if _is_known(name))
            strange = len(named) - len(held)
            others = f"{strange} structure{'s' * (strange != 1)} that the organ table does not know" if strange else ""
            raise InputError(
                f"The masks hold {' and '.join(filter(None, (_listed(held) if held else '', others)))}; the plan needs "
                f"{_listed(organs)}.",
                "Name the organ with `--anchors MASK=ORGAN`, give masks of these organs, or change the plan's anchors.",
            )

    def locate(self, volume: Volume, organs: Sequence[str], progress: Progress = silent) -> AnchorSet:
        """The masks as one label map on the grid of `volume`.

        Of a folder only the wanted organs are read, and the rest when none of those has a voxel, so that a report can
        say what is in view. Raises `InputError` for a mask on another grid, saying how it differs.
        """
        self.check(volume.modality, organs)
        needed = _needed(organs, {part.organ for part in self._parts})
        wanted = [part for part in self._parts if part.organ in needed]
        one_file = len({part.path for part in self._parts}) == 1
        first, rest = (list(self._parts), []) if one_file else (wanted, [p for p in self._parts if p not in wanted])
        notes: list[str] = []
        labels, names = self._read(volume.geometry, first, progress, notes.append)
        if rest and not any(names.values()):
            labels, names = self._read(volume.geometry, [*first, *rest], progress, notes.append)
        labels, names = with_wanted(labels, names, organs, volume.geometry)
        names = _without_strange_names(names, organs)
        told = tuple(dict.fromkeys(notes))
        return AnchorSet(labels=labels, names=names, geometry=volume.geometry, info=self.info, notes=told)

    def _read(
        self, geometry: Geometry, parts: Sequence[_Part], progress: Progress, note: Callable[[str], None]
    ) -> tuple[Labels, dict[str, tuple[int, ...]]]:
        by_file: dict[tuple[Path, int], list[_Part]] = {}
        for part in parts:
            by_file.setdefault((part.path, part.layer), []).append(part)
        if len(by_file) == 1 and all(part.value is not None for part in parts):
            return _one_label_map(parts, geometry, self._layered(parts[0].path))
        union = LabelUnion(geometry.shape)
        for done, ((path, layer), own) in enumerate(by_file.items()):
            progress("anchors", done, len(by_file), own[0].organ)
            stored = _layer(path, layer, geometry) if self._layered(path) else _read_mask(path, geometry, note)
            for part in own:
                mask: Mask = stored == part.value if part.value is not None else stored != 0
                union.add(part.organ, mask)
        progress("anchors", len(by_file), len(by_file), "")
        return union.finish()

    @cached_property
    def _parts(self) -> tuple[_Part, ...]:
        files.check_path(files.file_of(self._path), WHAT)
        if self._path.is_dir():
            return self._parts_of_folder()
        files.read_head(files.file_of(self._path), WHAT)  # no pipe, no device, not empty
        return tuple(_parts_of_file(self._path, self._what))

    def _parts_of_folder(self) -> tuple[_Part, ...]:
        if self._what:
            raise InputError(f"`{self._path}` is a folder; `={self._what}` can only follow a file.")
        found = sorted(p for p in self._path.iterdir() if files.suffix_of(p) in files.FORMAT_OF_SUFFIX and p.is_file())
        if not found:
            raise InputError(
                f"The folder `{self._path}` holds no mask in a format that can be read.",
                "Put one mask per organ in it, each named after its organ: liver.nii.gz, kidney_left.nii.gz.",
            )
        return tuple(_Part(_organ(_stem(path)), path, None) for path in found)

    @cached_property
    def _sides(self) -> frozenset[str]:
        """The sides of named groups that their masks show apart."""
        groups = {part.organ for part in self._parts if part.organ in organs() and organs()[part.organ].members}
        return frozenset(member for group in groups if self._shows_sides(group) for member in organs()[group].members)

    def _shows_sides(self, group: str) -> bool:
        """Whether the mask of `group` can be split, on its own grid. What only a scan's grid makes readable (DICOM
        SEG, RTSTRUCT, layers) counts as such until it is read.
        """
        whole: Mask | None = None
        geometry: Geometry | None = None
        for part in (part for part in self._parts if part.organ == group):
            if self._layered(part.path) or dicom_header.kind_of_file(files.file_of(part.path)):
                return True
            stored, geometry = read_labels_alone(part.path, WHAT, may_be_empty=True)
            mask = stored != 0 if part.value is None else stored == part.value
            if whole is not None and whole.shape != mask.shape:
                return True
            whole = mask if whole is None else whole | mask
        return whole is not None and geometry is not None and halves(whole, geometry) is not None

    @cached_property
    def _file_sha256(self) -> Mapping[Path, str]:
        return {path: file_sha256(files.file_of(path)) for path in sorted({part.path for part in self._parts})}

    def _layered(self, path: Path) -> bool:
        return any(part.layer > 0 for part in self._parts if part.path == path)


def _split_spec(spec: str) -> tuple[Path, str]:
    if not Path(spec).exists() and "=" in spec:
        path, _, what = spec.rpartition("=")
        return Path(path), what.strip()
    return Path(spec), ""


def _parts_of_file(path: Path, what: str) -> Iterator[_Part]:
    if what.startswith("task:"):
        segments = task_names(what.removeprefix("task:"))
    elif what.startswith("names:"):
        segments = read_names_file(Path(what.removeprefix("names:")))
    elif what.startswith("values:"):
        segments = _named_values(path, what.removeprefix("values:"))
    elif what:
        yield _Part(_organ(what), path, None)
        return
    else:
        segments = names_in_file(path)
        side = names_file_of(path)
        if not segments and side is not None:
            segments = read_names_file(side)
        if not segments and canonical_organ(_stem(path)) is not None:
            yield _Part(_organ(_stem(path)), path, None)
            return
    if not segments:
        raise InputError(f"The {WHAT} `{path}` does not say which organ its labels are.", NEEDED)
    yield from (_part_of_segment(segment, path) for segment in segments)


def _named_values(path: Path, text: str) -> tuple[Segment, ...]:
    found = [part.partition(":") for part in text.split(",")]
    if not all(value.strip().isdigit() and name.strip() for value, _, name in found):
        raise InputError(f"`{path}=values:{text}` is not VALUE:ORGAN,…", "For example: =values:1:liver,2:liver.")
    return tuple(Segment(name.strip(), int(value)) for value, _, name in found)


def _part_of_segment(segment: Segment, path: Path) -> _Part:
    return _Part(_organ(segment.name), path, segment.value, segment.layer)


def _organ(name: str) -> str:
    """Canonical where the table knows it. "Segment_1" is what 3D Slicer calls a segment that nobody named."""
    name = readable_text(name)
    if _DEFAULT_SLICER_NAME.fullmatch(name.strip()):
        return name.strip()
    return canonical_organ(name) or name.strip()


_NEUTRAL = re.compile(r"(label|structure)_\d+")


def _is_known(name: str) -> bool:
    """True for a name that says nothing of the patient: one of the organ table, of a task's classes, or a number."""
    return (
        name in organs()
        or name in _class_names()
        or _NEUTRAL.fullmatch(name) is not None
        or _DEFAULT_SLICER_NAME.fullmatch(name) is not None
    )


@lru_cache(maxsize=1)
def _class_names() -> frozenset[str]:
    """Classes of TotalSegmentator's tasks that the organ table names."""
    of_organs = {name for organ in organs().values() for classes in organ.classes.values() for name in classes}
    return frozenset(of_organs.union(*(lesion_classes(task) for task in tasks())))


def _without_strange_names(names: Mapping[str, tuple[int, ...]], wanted: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Structures that neither the organ table nor the plan names are numbered: the name of a file may be a patient's,
    and answer, trace, report and exports tell what is in view.
    """
    strange = sorted(name for name in names if not _is_known(name) and name not in wanted)
    numbered = {name: f"structure_{n}" for n, name in enumerate(strange, start=1)}
    return {numbered.get(name, name): values for name, values in names.items()}


def _stem(path: Path) -> str:
    name = path.name[: len(path.name) - len(files.suffix_of(path))]
    return name.removesuffix(".seg")


def _needed(wanted: Sequence[str], named: set[str]) -> set[str]:
    """The named organs that are read for `wanted`: themselves, what they are made of, and the group of a side."""
    unions = composed(named)
    needed: set[str] = set()
    for organ in wanted:
        if organ in named:
            needed.add(organ)
        elif organ in unions:
            needed.update(unions[organ])
        elif organ in organs() and organs()[organ].group in named:
            needed.add(str(organs()[organ].group))
    return needed


def _one_label_map(
    parts: Sequence[_Part], geometry: Geometry, layered: bool
) -> tuple[Labels, dict[str, tuple[int, ...]]]:
    """A label map stays as it is; values without a name become `label_7`."""
    path, layer = parts[0].path, parts[0].layer
    labels = _layer(path, layer, geometry) if layered else _read_mask(path, geometry)
    present = {int(v) for v in np.unique(labels)} - {0}
    names: dict[str, tuple[int, ...]] = {}
    for part in parts:
        assert part.value is not None  # the caller asked
        own = (part.value,) if part.value in present else ()
        names[part.organ] = (*names.get(part.organ, ()), *own)
    unnamed = present - {part.value for part in parts}
    names |= {f"label_{value}": (value,) for value in sorted(unnamed)}
    return labels, names


def _read_mask(path: Path, geometry: Geometry, note: Callable[[str], None] = lambda text: None) -> Labels:
    try:
        return read_label_map(path, geometry, WHAT, note=note)
    except EmptyMaskError:
        return np.zeros(geometry.shape, dtype=np.uint8)  # an organ that is not in view


def _layer(path: Path, layer: int, geometry: Geometry) -> Labels:
    """One layer of a layered .seg.nrrd, which ITK reads as an image of vectors."""
    check_nrrd_header(path, WHAT, layers=True)
    sitk = simpleitk()
    with files.readable(path, WHAT), tempfile.TemporaryDirectory() as folder:
        image = sitk.ReadImage(str(path))
        if image.GetNumberOfComponentsPerPixel() > 1:
            image = sitk.VectorIndexSelectionCast(image, layer)
        single = Path(folder) / "layer.seg.nrrd"
        sitk.WriteImage(image, str(single))
        try:
            return _read_mask(single, geometry)
        except InputError as error:
            raise InputError(error.message.replace(str(single), str(path)), error.hint) from None


def _listed(names: Sequence[str], most: int = 12) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
