"""Anchors by TotalSegmentator: its networks, tables and image steps, driven in this process.

The library's own entry point starts two helper processes, writes the scan to temporary files, posts usage statistics
and downloads what is missing. Here nnU-Net's predictor stays loaded between cases, everything happens in memory, no
file of TotalSegmentator's home folder is written, and no code that knows the network is called: there is no telemetry
to switch off, and a user's own `config.json` is left as it is.
"""

from __future__ import annotations

import importlib.metadata
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.errors import InputError, MissingDependencyError
from r2seg_agent.imaging.geometry import Float3
from r2seg_agent.imaging.volume import Modality, Volume
from r2seg_agent.progress import Progress, silent
from r2seg_agent.reason.anatomy import classes_for, organs_for_task, tasks
from r2seg_agent.reason.anchors.protocol import AnchorSet, AnchorSourceInfo
from r2seg_agent.reason.anchors.totalseg.tasks import Quality, TaskRun, WeightSet, plan_runs, task_spec
from r2seg_agent.reason.anchors.totalseg.weights import (
    check_weights,
    default_weights_dir,
    is_stand_in,
    weights_sha256,
)

if TYPE_CHECKING:
    from r2seg_agent.reason.anchors.totalseg.networks import NetworkPool
    from r2seg_agent.reason.anchors.totalseg.run import Segment

TICKS_PER_NETWORK = 100
"""Progress steps that one network's run counts for."""
FREE_LICENCE = "Apache-2.0 (code and open weights)"
BOUND_LICENCE = "Apache-2.0 (code); licensed weights, free for research only"


class TotalSegmentatorSource:
    """Organs of CT and MR scans; see `AnchorSource` for the contract.

    `quality` picks the networks of `total` and `total_mr`: "full" 1.5 mm, around the wanted organs only (the other
    organs then come from the rough network), "fast" 3 mm, "fastest" 6 mm. Organs of sub-tasks run at the sub-task's
    own resolution. `weights_dir` defaults to `$TOTALSEG_WEIGHTS_PATH`, else TotalSegmentator's own folder.
    """

    def __init__(
        self,
        quality: Quality = "fast",
        device: Literal["cpu", "cuda", "auto"] = "auto",
        weights_dir: Path | None = None,
    ) -> None:
        self._quality = quality
        self._weights_dir = Path(weights_dir) if weights_dir is not None else default_weights_dir()
        self._device = device
        self._pool: NetworkPool | None = None
        self._lock = threading.Lock()

    @property
    def info(self) -> AnchorSourceInfo:
        """What this source is; the hash covers the networks of `total` and `total_mr` that are on this machine."""
        sets = tuple(s for task in ("total", "total_mr") for s in task_spec(task, self._quality).all_sets())
        return self._info(sets, ())

    def info_for(self, modality: Modality, organs: Sequence[str]) -> AnchorSourceInfo:
        """`info` of exactly the networks that `organs` need: what `locate` puts into its `AnchorSet`."""
        runs = plan_runs(organs, modality, self._quality)
        return self._info(_sets(runs), tuple(run.spec.name for run in runs))

    def organs(self, modality: Modality) -> frozenset[str]:
        """Canonical names of everything that any task finds in `modality`."""
        return frozenset(o for t in tasks().values() if t.modality == modality for o in organs_for_task(t.name))

    def check(self, modality: Modality, organs: Sequence[str]) -> None:
        """Raise `InputError` or `MissingDependencyError` before long work; loads no weights."""
        check_weights(self._weights_dir, _sets(plan_runs(organs, modality, self._quality)))
        if self._device == "cuda":
            _check_cuda()

    def locate(self, volume: Volume, organs: Sequence[str], progress: Progress = silent) -> AnchorSet:
        """The wanted organs and all others that the same tasks find, on the grid of `volume`."""
        _check_scan(volume)
        runs = plan_runs(organs, volume.modality, self._quality)
        needed = _sets(runs)
        self.check(volume.modality, organs)
        from r2seg_agent.reason.anchors.totalseg.image import to_nifti
        from r2seg_agent.reason.anchors.totalseg.run import TaskRunner

        with self._lock:
            runner = TaskRunner(to_nifti(volume), self._segmenter(needed, progress))
            merged = _Merged(volume.geometry.shape)
            for run in runs:
                merged.add(run, np.ascontiguousarray(runner.run(run).transpose(2, 1, 0)))
        progress("anchors", len(needed) * TICKS_PER_NETWORK, len(needed) * TICKS_PER_NETWORK, "done")
        return AnchorSet(
            labels=merged.labels,
            names=merged.names(),
            geometry=volume.geometry,
            info=self._info(needed, tuple(run.spec.name for run in runs)),
        )

    def _segmenter(self, needed: tuple[WeightSet, ...], progress: Progress) -> Segment:
        """Runs one network of the pool (made at the first use: it imports torch) and reports its tiles."""
        if self._pool is None:
            from r2seg_agent.reason.anchors.totalseg.networks import NetworkPool

            self._pool = NetworkPool(self._weights_dir, self._device)
        pool = self._pool
        total = len(needed) * TICKS_PER_NETWORK

        def segment(which: WeightSet, image: NDArray[Any], spacing: Float3, step_size: float) -> NDArray[np.uint8]:
            start = needed.index(which) * TICKS_PER_NETWORK
            progress("anchors", start, total, f"TotalSegmentator network {which.set_id}")

            def on_tile(done: int, tiles: int) -> None:
                note = f"TotalSegmentator network {which.set_id}, tile {done} of {tiles}"
                progress("anchors", start + TICKS_PER_NETWORK * done // tiles, total, note)

            return pool.segment(which, image, spacing, step_size, on_tile)

        return segment

    def _info(self, sets: tuple[WeightSet, ...], ran: tuple[str, ...]) -> AnchorSourceInfo:
        stand_in = is_stand_in(self._weights_dir, sets)
        networks = ",".join(str(i) for i in sorted({s.set_id for s in sets}))
        return AnchorSourceInfo(
            name="totalsegmentator (tiny synthetic test weights)" if stand_in else "totalsegmentator",
            version=f"{_version('TotalSegmentator')}, nnunetv2 {_version('nnunetv2')}",
            kind="model",
            stand_in=stand_in,
            licence=BOUND_LICENCE if any(s.licensed for s in sets) else FREE_LICENCE,
            modalities=("CT", "MR"),
            weights_sha256=weights_sha256(self._weights_dir, sets),
            settings={"quality": self._quality, "device": self._device, "networks": networks, "tasks": ",".join(ran)},
        )


class _Merged:
    """Label maps of several tasks as one: where two tasks label a voxel, a new value stands for both."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.labels: NDArray[np.uint8] | NDArray[np.uint16] = np.zeros(shape, dtype=np.uint8)
        self._values: dict[str, set[int]] = {}
        self._top = 0

    def add(self, run: TaskRun, labels: NDArray[np.uint8]) -> None:
        """Lay the labels (z, y, x) of one more task over those so far."""
        value_of = {name: value for value, name in run.spec.classes.items()}
        own = {
            organ: {value_of[name] for name in classes_for(organ, run.spec.name)}
            for organ in organs_for_task(run.spec.name)
            if organ not in self._values
        }
        if self._top == 0:
            self.labels, self._values, self._top = labels, own, max(run.spec.classes)
            return
        at = labels > 0
        pairs, which = np.unique(self.labels[at].astype(np.int64) * 256 + labels[at], return_inverse=True)
        wide = self.labels.astype(np.uint16)
        wide[at] = self._top + 1 + which
        self.labels = wide
        for organ in own:
            self._values[organ] = set()
        for position, pair in enumerate(pairs):
            before, new = divmod(int(pair), 256)
            for organ, values in self._values.items():
                if before in values or new in own.get(organ, ()):
                    values.add(self._top + 1 + position)
        self._top += len(pairs)

    def names(self) -> dict[str, tuple[int, ...]]:
        """Organ → its label values, as `AnchorSet` wants them."""
        return {organ: tuple(sorted(values)) for organ, values in self._values.items()}


def _sets(runs: tuple[TaskRun, ...]) -> tuple[WeightSet, ...]:
    return tuple(dict.fromkeys(s for run in runs for s in run.spec.all_sets()))


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _check_cuda() -> None:
    import torch

    if not torch.cuda.is_available():
        raise MissingDependencyError(
            f"the device `cuda` was asked for, but torch {torch.__version__} finds none",
            "Choose the device `cpu` or `auto`, or install a torch build for this machine's GPU.",
        )


def _check_scan(volume: Volume) -> None:
    if volume.geometry.is_2d or volume.geometry.known_spacing != "zyx":
        raise InputError(
            f"TotalSegmentator needs a 3D scan with spacing in mm, got shape {volume.geometry.shape} (z, y, x) with "
            f"known spacing `{volume.geometry.known_spacing}`",
            "Give organ masks of your own for this image (`--anchors PATH`).",
        )
    if volume.modality == "CT" and volume.unit != "HU":
        raise InputError(
            "TotalSegmentator's CT networks need Hounsfield units; this CT has arbitrary grey values",
            "Read the original DICOM or a NIfTI in HU, or give organ masks of your own (`--anchors PATH`).",
        )
