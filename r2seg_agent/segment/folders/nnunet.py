"""`nnunet:PATH`: the result folder of any nnU-Net v2 training as a segmenter. Imports no torch; see `nnunet_run.py`."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final, get_args

from r2seg_agent.errors import InputError, MissingDependencyError
from r2seg_agent.files import cached_file_sha256
from r2seg_agent.imaging.geometry import Box
from r2seg_agent.imaging.volume import FloatArray, Modality, Volume
from r2seg_agent.segment.folders.channels import modalities_of, pick_channels
from r2seg_agent.segment.folders.classes import ClassTable, class_table
from r2seg_agent.segment.folders.constants import STEP_SIZE
from r2seg_agent.segment.folders.nnunet_tables import DatasetJson, PlansJson
from r2seg_agent.segment.folders.side_file import Orientation, SideFile, read_model, read_side_file
from r2seg_agent.segment.folders.spec import ModelSpec
from r2seg_agent.segment.protocol import SegmenterInfo

if TYPE_CHECKING:
    from r2seg_agent.segment.folders.nnunet_run import NnUNetPredictor

CHECKPOINTS: Final = ("checkpoint_final.pth", "checkpoint_best.pth")
"""What a fold's checkpoint may be called, the better choice first."""
REORIENTING_READERS: Final[Mapping[str, Orientation]] = {"NibabelIOWithReorient": "RAS"}
"""Readers of nnU-Net that turn images before the network sees them; all others leave them as stored."""


class NnUNetFolder:
    """A `ClassNetwork` over a folder `<trainer>__<plans>__<configuration>` with `fold_*/checkpoint_final.pth`."""

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec
        self._folder = Path(spec.place).expanduser()
        self._loaded: NnUNetPredictor | None = None
        self._answer: tuple[Volume, Mapping[str, FloatArray]] | None = None

    @cached_property
    def dataset(self) -> DatasetJson:
        """`dataset.json`."""
        self._check_folder()
        return read_model(self._folder / "dataset.json", DatasetJson, "model table")

    @cached_property
    def plans(self) -> PlansJson:
        """`plans.json`."""
        self._check_folder()
        return read_model(self._folder / "plans.json", PlansJson, "model table")

    @cached_property
    def side_file(self) -> SideFile:
        """`r2seg.json`, if there is one."""
        self._check_folder()
        return read_side_file(self._folder)

    @cached_property
    def name(self) -> str:
        """ "nnunet:Dataset003_Liver": the data set's name, never the path, which may say more than it should."""
        return f"nnunet:{self.side_file.name or self.plans.dataset_name}"

    @cached_property
    def table(self) -> ClassTable:
        """Its classes by the concept table, the side file, and what was stated behind the path (which wins)."""
        return class_table(
            self.name,
            [name for name in self.dataset.outputs() if name is not None],
            exclusive=not self.dataset.has_regions,
            site=self.side_file.site,
            about=(self.plans.dataset_name, self.dataset.name, self.dataset.description),
            stated={**self.side_file.classes, **self._spec.classes},
        )

    @property
    def channels(self) -> tuple[str, ...]:
        """The side file's names, else those of `dataset.json`."""
        names = self.side_file.channels or self.dataset.channel_names
        if len(names) != len(self.dataset.channel_names):
            raise InputError(
                f"the side file of `{self.name}` names {len(names)} channels, the network takes "
                f"{len(self.dataset.channel_names)} ({', '.join(self.dataset.channel_names)})"
            )
        return names

    @property
    def orientation(self) -> Orientation:
        """The side file's, else what nnU-Net's own reader of this data set does."""
        return self.side_file.orientation or REORIENTING_READERS.get(self.plans.image_reader_writer, "as_stored")

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """The side file's, else what the channel names say, else all."""
        return self.side_file.modalities or modalities_of(self.channels) or get_args(Modality)

    @cached_property
    def checkpoints(self) -> tuple[Path, ...]:
        """One file per fold that is used, final before best; `MissingDependencyError` for one that is missing."""
        self._check_folder()
        if self._spec.folds:
            folds = [self._folder / f"fold_{fold}" for fold in self._spec.folds]
        else:  # as nnU-Net: the folds of the cross-validation, else the one that saw all data
            folds = sorted(p for p in self._folder.glob("fold_*") if p.name != "fold_all" and _checkpoint(p))
            folds = folds or [self._folder / "fold_all"]
        found = []
        for fold in folds:
            path = _checkpoint(fold)
            if path is None:
                there = ", ".join(p.name for p in sorted(self._folder.glob("fold_*")) if _checkpoint(p)) or "none"
                raise MissingDependencyError(
                    f"the model `{self.name}` has no whole checkpoint in `{fold.name}`; folds with one: {there}",
                    f"Each fold needs {' or '.join(f'`{c}`' for c in CHECKPOINTS)}; choose others with `#0,1`.",
                )
            found.append(path)
        return tuple(found)

    @cached_property
    def info(self) -> SegmenterInfo:
        """Everything that changes the result is in it: the hash of the weights and both tables, folds, classes."""
        side = self.side_file
        return SegmenterInfo(
            name=self.name,
            version=f"nnunetv2 {_version('nnunetv2')}",
            ndim=3,
            prompt_kinds=("text",),
            output_kind="probability",
            licence=side.licence
            or self.dataset.licence
            or self.dataset.license
            or "not stated: ask the model's authors",
            stand_in=side.stand_in or self.dataset.r2seg_stand_in,
            modalities=self.modalities,
            weights_sha256=files_sha256(*self.checkpoints),
            # Mirrored copies are nnU-Net's own business: it knows along which axes it was trained.
            flip_equivariant=True,
            # Up to where its tiles fall: every ROI is looked at with half a patch around it.
            roi_independent=True,
            settings={
                "tables_sha256": files_sha256(self._folder / "plans.json", self._folder / "dataset.json"),
                "folds": ", ".join(path.parent.name for path in self.checkpoints),
                "checkpoint": ", ".join(sorted({path.name for path in self.checkpoints})),
                "mirror": self._spec.mirror,
                "step_size": STEP_SIZE,
                "orientation": self.orientation,
                "channels": ", ".join(self.channels),
                "classes": self.table.label,
            },
        )

    def check(self) -> None:
        """Raise `MissingDependencyError` for an absent `nnunetv2` or checkpoint, `InputError` for unusable tables."""
        if find_spec("nnunetv2") is None:
            raise MissingDependencyError("nnU-Net folders need the package `nnunetv2`.", "pip install nnunetv2")
        _ = (self.checkpoints, self.table, self.channels)

    def check_scan(self, volume: Volume) -> None:
        """Raise `InputError` for a channel that is missing, or a scan without HU where the network takes CT."""
        picked = pick_channels(volume, self.channels, self.name)
        of_ct = [a for n, a in zip(self.dataset.channel_names, picked.arrays, strict=True) if n.casefold() == "ct"]
        if volume.unit != "HU" and any(array is volume.array for array in of_ct):
            raise InputError(
                f"the model `{self.name}` needs Hounsfield units, this image has arbitrary grey values",
                "Read the original DICOM or a NIfTI in HU.",
            )

    def probabilities(self, volume: Volume, roi: Box, classes: Sequence[str] | None = None) -> Mapping[str, FloatArray]:
        """What nnU-Net's own predictor says, on the ROI grid. An answer for a whole scan is kept for its other ROIs."""
        names = [c.name for c in self.table.wanted] if classes is None else list(classes)
        if self._loaded is None:
            from r2seg_agent.segment.folders.nnunet_run import NnUNetPredictor

            self._loaded = NnUNetPredictor(self.name, self._folder, self.checkpoints, mirror=self._spec.mirror)
        if not self._loaded.needs_whole:
            return self._predicted(self._loaded, volume, roi, names)
        if self._answer is None or self._answer[0] is not volume or not set(names) <= self._answer[1].keys():
            self._answer = (volume, self._predicted(self._loaded, volume, volume.geometry.full_box, names))
        return {name: self._answer[1][name][roi.slices] for name in names}

    def _predicted(
        self, predictor: NnUNetPredictor, volume: Volume, roi: Box, names: Sequence[str]
    ) -> Mapping[str, FloatArray]:
        self.check_scan(volume)
        picked = pick_channels(volume, self.channels, self.name)
        wanted = {name: self.dataset.outputs().index(name) for name in names}
        return predictor.probabilities(volume.geometry, picked.arrays, roi, self.orientation, wanted)

    def _check_folder(self) -> None:
        if not self._folder.is_dir():
            raise InputError(
                f"`nnunet:{self._spec.place}` is no folder",
                "Give nnU-Net's result folder: the one that holds plans.json, dataset.json and fold_0.",
            )
        lacking = [n for n in ("plans.json", "dataset.json") if not (self._folder / n).is_file()]
        if lacking:
            inner = sorted(p.parent.name for p in self._folder.glob("*/plans.json"))
            raise InputError(
                f"`nnunet:{self._spec.place}` has no {' and no '.join(lacking)}",
                f"One folder deeper there is {', '.join(inner)}: give its path."
                if inner
                else "Give nnU-Net's result folder: the one that holds plans.json, dataset.json and fold_0.",
            )


def files_sha256(*files: Path) -> str:
    """Of one file its own sha256, of several one over theirs."""
    hashes = [cached_file_sha256(p, p.stat().st_mtime_ns, p.stat().st_size) for p in files]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("|".join(hashes).encode()).hexdigest()


def _checkpoint(fold: Path) -> Path | None:
    """The fold's checkpoint, if there is a whole one (torch's format is a zip archive, its directory at the end)."""
    return next((p for name in CHECKPOINTS if (p := fold / name).is_file() and zipfile.is_zipfile(p)), None)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
