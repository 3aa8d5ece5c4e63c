"""`totalseg:TASK`: TotalSegmentator's own lesion tasks as segmenters (no torch here: `totalseg_probability.py`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from r2seg_agent.errors import InputError, MissingDependencyError
from r2seg_agent.imaging.geometry import Box
from r2seg_agent.imaging.volume import FloatArray, Modality, Volume
from r2seg_agent.reason import anatomy
from r2seg_agent.reason.anchors.totalseg.source import FREE_LICENCE
from r2seg_agent.reason.anchors.totalseg.tasks import TaskSpec, task_spec
from r2seg_agent.reason.anchors.totalseg.weights import (
    check_weights,
    default_weights_dir,
    is_stand_in,
    weights_sha256,
)
from r2seg_agent.segment.folders.classes import ClassTable, class_table
from r2seg_agent.segment.folders.constants import PROBABILITY_LEVELS
from r2seg_agent.segment.folders.spec import ModelSpec
from r2seg_agent.segment.protocol import SegmenterInfo

if TYPE_CHECKING:
    from r2seg_agent.segment.folders.totalseg_probability import TaskProbabilities


def lesion_tasks() -> tuple[str, ...]:
    """Free tasks of TotalSegmentator that have a class of lesions that the concept table knows, by name."""
    free = [t.name for t in anatomy.tasks().values() if not t.licensed and t.name not in anatomy.BASE_TASKS.values()]
    return tuple(name for name in sorted(free) if _table(name, {}).wanted)


def _table(task: str, stated: Mapping[str, tuple[str, ...]]) -> ClassTable:
    return class_table(f"totalseg:{task}", anatomy.lesion_classes(task), exclusive=True, stated=stated)


class TotalSegTask:
    """A `ClassNetwork` over one task. The library's own rules decide where it looks (around its organ); the answer for
    a scan is kept for all ROIs of it.
    """

    def __init__(self, spec: ModelSpec, weights_dir: Path | None = None, *, fetch_command: str = "") -> None:
        """`fetch_command` is the command that fetches the task's weights, where there is one.

        Raises `InputError` for a task that is bound to a licence, finds no lesions, or is none.
        """
        self._task = spec.place
        self._fetch_command = fetch_command
        self._stated = spec.classes
        self._weights_dir = weights_dir or default_weights_dir()
        self._running: TaskProbabilities | None = None
        self._answer: tuple[Volume, Mapping[str, FloatArray]] | None = None
        tasks = lesion_tasks()
        if self._task not in tasks and not (self._stated and anatomy.lesion_classes(self._task)):
            raise InputError(
                f"`totalseg:{self._task}` is no lesion task: {self._why()}",
                f"There are: {', '.join(f'totalseg:{name}' for name in tasks)}.",
            )

    def _why(self) -> str:
        known = anatomy.tasks().get(self._task)
        if known is not None and known.licensed:
            return "it is bound to a licence, and segments organs"
        if known is not None:
            found = ", ".join(anatomy.lesion_classes(self._task))
            return f"of what it segments ({found}) the concept table knows no target" if found else "it segments organs"
        return "TotalSegmentator has no such task that r2seg knows"

    @cached_property
    def _spec(self) -> TaskSpec:
        return task_spec(self._task)

    @cached_property
    def table(self) -> ClassTable:
        """Its lesion classes."""
        return _table(self._task, self._stated)

    @property
    def channels(self) -> tuple[str, ...]:
        """One image."""
        return (self._modality,)

    @property
    def _modality(self) -> Modality:
        return anatomy.tasks()[self._task].modality

    @property
    def info(self) -> SegmenterInfo:
        """The hash covers the task's networks and those of its rough crop."""
        sets = self._spec.all_sets()
        stand_in = is_stand_in(self._weights_dir, sets)
        return SegmenterInfo(
            name=f"totalseg:{self._task}" + (" (tiny synthetic test weights)" if stand_in else ""),
            version=f"{version('TotalSegmentator')}, nnunetv2 {version('nnunetv2')}",
            ndim=3,
            prompt_kinds=("text",),
            output_kind="probability",
            licence=FREE_LICENCE,
            stand_in=stand_in,
            modalities=(self._modality,),
            weights_sha256=weights_sha256(self._weights_dir, sets),
            # It looks at the whole scan, turned to its own orientation.
            flip_equivariant=True,
            roi_independent=True,
            settings={
                "task": self._task,
                "networks": ",".join(str(s.set_id) for s in sets),
                "probability_levels": PROBABILITY_LEVELS,
                "classes": self.table.label,
            },
        )

    def check(self) -> None:
        """Raise `MissingDependencyError` naming each weight set that is missing or broken, its size, how to get it."""
        try:
            check_weights(self._weights_dir, self._spec.all_sets())
        except MissingDependencyError as error:
            hint = f"{error.hint} Or run `{self._fetch_command}`." if self._fetch_command else error.hint
            raise MissingDependencyError(f"`totalseg:{self._task}`: {error.message}", hint) from error

    def check_scan(self, volume: Volume) -> None:
        """Raise `InputError` for an image without three spacings in mm, or a CT without HU."""
        if volume.geometry.is_2d or volume.geometry.known_spacing != "zyx":
            raise InputError(
                f"`totalseg:{self._task}` needs a 3D scan with spacing in mm, got shape {volume.geometry.shape} "
                f"(z, y, x) with known spacing `{volume.geometry.known_spacing}`",
                "Choose another segmenter for this image.",
            )
        if self._modality == "CT" and volume.unit != "HU":
            raise InputError(
                f"`totalseg:{self._task}` needs Hounsfield units; this CT has arbitrary grey values",
                "Read the original DICOM or a NIfTI in HU.",
            )

    def probabilities(self, volume: Volume, roi: Box, classes: Sequence[str] | None = None) -> Mapping[str, FloatArray]:
        """What the task's network says, on the ROI grid."""
        names = [c.name for c in self.table.wanted] if classes is None else list(classes)
        if self._answer is None or self._answer[0] is not volume or not set(names) <= self._answer[1].keys():
            self.check_scan(volume)
            self.check()
            if self._running is None:
                from r2seg_agent.segment.folders.totalseg_probability import TaskProbabilities

                self._running = TaskProbabilities(self._weights_dir)
            self._answer = (volume, self._running.of(volume, self._spec, names))
        return {name: self._answer[1][name][roi.slices] for name in names}
