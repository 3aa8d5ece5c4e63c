"""Probabilities of a TotalSegmentator task where the library gives labels; its networks stay loaded (imports torch)."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.imaging.geometry import Float3
from r2seg_agent.imaging.volume import FloatArray, Volume
from r2seg_agent.reason.anchors.totalseg.image import prepare, restore, to_nifti
from r2seg_agent.reason.anchors.totalseg.networks import NetworkPool
from r2seg_agent.reason.anchors.totalseg.run import TaskRunner
from r2seg_agent.reason.anchors.totalseg.tasks import TaskSpec, WeightSet
from r2seg_agent.segment.folders.constants import PROBABILITY_LEVELS


class TaskProbabilities:
    """Runs tasks on scans; the networks stay loaded between them."""

    def __init__(self, weights_dir: Path) -> None:
        self._pool = _ProbabilityPool(weights_dir, "auto")
        self._lock = threading.Lock()

    def of(self, volume: Volume, spec: TaskSpec, classes: Sequence[str]) -> dict[str, FloatArray]:
        """(z, y, x) on the grid of `volume` for each of the task's `classes`."""
        with self._lock:
            found = _ProbabilityRunner(to_nifti(volume), self._pool).probabilities(spec, classes)
        return {
            name: np.ascontiguousarray(levels.transpose(2, 1, 0)).astype(np.float32) / np.float32(PROBABILITY_LEVELS)
            for name, levels in found.items()
        }


class _ProbabilityPool(NetworkPool):
    """The anchors' pool of predictors, asked for probabilities too."""

    def probabilities(
        self, needed: WeightSet, image: NDArray[Any], spacing_mm: Float3, step_size: float
    ) -> NDArray[np.float32]:
        """(classes, z, y, x) for an `image` (z, y, x) in canonical orientation with `spacing_mm` (z, y, x)."""
        predictor = self._predictor(needed)
        predictor.tile_step_size = step_size
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _, found = predictor.predict_single_npy_array(
                np.asarray(image, dtype=np.float32)[None], {"spacing": list(spacing_mm)}, None, None, True
            )
        probabilities: NDArray[np.float32] = found
        return probabilities


class _ProbabilityRunner(TaskRunner):
    """The anchors' runner (rough crop, resampling, and back), its last step with probabilities instead of labels."""

    def __init__(self, image: Any, pool: _ProbabilityPool) -> None:
        super().__init__(image, lambda which, part, mm, step: pool.segment(which, part, mm, step, _unheard))
        self._pool = pool

    def probabilities(self, spec: TaskSpec, classes: Sequence[str]) -> dict[str, NDArray[np.uint8]]:
        """Steps of 1 / 255, (x, y, z) on the image's grid. With one class, step ≥ 128 is the library's own mask
        (p > ½); with several the library takes the likeliest, which may have less.
        """
        crop = None
        if spec.crop_from is not None:
            values = [value for value, name in spec.crop_from.classes.items() if name in spec.crop]
            crop = np.isin(self.labels(spec.crop_from), values)
        prepared = prepare(self._image, spec.resample_mm, crop, spec.crop_margin_mm)
        if prepared is None:  # none of the crop's organs is in view
            return {name: np.zeros(self._image.shape, dtype=np.uint8) for name in classes}
        (weight_set,) = spec.sets
        z, y, x = prepared.spacing_xyz_mm[::-1]
        image = prepared.array.transpose(2, 1, 0)
        found = self._pool.probabilities(weight_set, image, (z, y, x), spec.step_size)
        value_of = {name: value for value, name in spec.classes.items()}
        levels = {name: _levels(found[value_of[name]].transpose(2, 1, 0)) for name in classes}
        back = {name: restore(part, prepared) for name, part in levels.items()}
        if spec.remove_outside and spec.crop_from is not None:
            for part in back.values():
                part[self._remove_outside(spec, spec.crop_from, (part > 0).astype(np.uint8)) == 0] = 0
        return back


def _levels(probability: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The nearest of 255 steps, ties downwards: the library gives a voxel of exactly ½ to the background."""
    steps: NDArray[np.uint8] = np.ceil(probability * np.float32(PROBABILITY_LEVELS) - np.float32(0.5)).astype(np.uint8)
    return steps


def _unheard(done: int, total: int) -> None:
    """Tiles of the rough network: nobody listens."""
