"""One TotalSegmentator task on one image: rough crop, networks, post-processing, back on the image's grid."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.imaging.geometry import Float3
from r2seg_agent.reason.anchors.totalseg.image import Prepared, prepare, restore
from r2seg_agent.reason.anchors.totalseg.tasks import TaskRun, TaskSpec, WeightSet

Segment = Callable[[WeightSet, NDArray[Any], Float3, float], NDArray[np.uint8]]
"""segment(set, image (z, y, x), spacing (z, y, x) in mm, step size) → the set's own labels (z, y, x)."""

BODY_EXTREMITIES_MM3 = 50_000.0
"""Smaller pieces of arms and legs are dropped (the library's threshold)."""


class TaskRunner:
    """Runs tasks on one image; a rough network that serves several crops runs once."""

    def __init__(self, image: Any, segment: Segment) -> None:
        self._image = image
        self._segment = segment
        self._done: dict[tuple[object, ...], NDArray[np.uint8]] = {}

    def run(self, task: TaskRun) -> NDArray[np.uint8]:
        """Labels (x, y, z) of the task's classes on the image's grid.

        A `total` task that was cropped around the wanted organs gives the other organs too, from the rough network:
        complete at low resolution, where the crop would have cut them off.
        """
        labels = self.labels(task.spec)
        rough = task.spec.crop_from
        if rough is None or rough.name != task.spec.name:
            return labels
        wanted = _values(task.spec, task.wanted)
        others = np.where(np.isin(self.labels(rough), wanted), 0, self.labels(rough))
        return np.where(np.isin(labels, wanted), labels, others).astype(np.uint8)

    def labels(self, spec: TaskSpec) -> NDArray[np.uint8]:
        """Labels (x, y, z) of everything that the sets of `spec` find inside its crop."""
        key = (spec.name, spec.sets, spec.crop)
        if key not in self._done:
            self._done[key] = self._compute(spec)
        return self._done[key]

    def _compute(self, spec: TaskSpec) -> NDArray[np.uint8]:
        crop = None
        if spec.crop_from is not None:
            crop = np.isin(self.labels(spec.crop_from), _values(spec.crop_from, spec.crop))
        prepared = prepare(self._image, spec.resample_mm, crop, spec.crop_margin_mm)
        if prepared is None:  # none of the crop's organs is in view
            return np.zeros(self._image.shape, dtype=np.uint8)
        labels = restore(_postprocessed(spec.name, self._networks(spec, prepared), prepared), prepared)
        if spec.remove_outside and spec.crop_from is not None:
            labels = self._remove_outside(spec, spec.crop_from, labels)
        return labels

    def _networks(self, spec: TaskSpec, prepared: Prepared) -> NDArray[np.uint8]:
        """Labels (x, y, z) on the prepared grid; of several sets, the later one wins where they meet."""
        image = prepared.array.transpose(2, 1, 0)
        z, y, x = prepared.spacing_xyz_mm[::-1]
        combined = np.zeros(prepared.array.shape, dtype=np.uint8)
        for weight_set in spec.sets:
            found = self._segment(weight_set, image, (z, y, x), spec.step_size).transpose(2, 1, 0)
            if not spec.parts:
                return found
            values = {name: value for value, name in spec.classes.items()}
            lookup = np.zeros(256, dtype=np.uint8)
            for own, name in spec.parts[weight_set.set_id].items():
                lookup[own] = values[name]
            mapped = lookup[found]
            np.copyto(combined, mapped, where=mapped > 0)
        return combined

    def _remove_outside(self, spec: TaskSpec, rough: TaskSpec, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        from totalsegmentator.postprocessing import remove_outside_of_mask

        near = np.isin(self.labels(rough), _values(rough, spec.remove_outside))
        voxels = int(spec.remove_outside_mm / np.mean(self._image.header.get_zooms()))
        kept: NDArray[np.uint8] = remove_outside_of_mask(labels.copy(), near, addon=voxels)
        return kept


def _values(spec: TaskSpec, names: tuple[str, ...]) -> list[int]:
    return [value for value, name in spec.classes.items() if name in names]


def _postprocessed(task: str, labels: NDArray[np.uint8], prepared: Prepared) -> NDArray[np.uint8]:
    """The library's own post-processing of `task`, on the prepared grid."""
    from totalsegmentator.map_to_binary import class_map
    from totalsegmentator.postprocessing import (
        keep_largest_blob_multilabel,
        postprocess_vertebrae_pp,
        remove_small_blobs_multilabel,
    )

    voxel_mm3 = float(np.prod(prepared.spacing_xyz_mm))
    for auxiliary in class_map.get(f"{task}_auxiliary", {}):
        labels = np.where(labels == auxiliary, 0, labels).astype(np.uint8)
    if task == "body":
        labels = keep_largest_blob_multilabel(labels.copy(), class_map[task], ["body_trunc"], quiet=True)
        limits = [BODY_EXTREMITIES_MM3 / voxel_mm3, 1e10]
        labels = remove_small_blobs_multilabel(
            labels, class_map[task], ["body_extremities"], interval=limits, quiet=True
        )
    elif task == "vertebrae_pp":
        labels = postprocess_vertebrae_pp(
            labels, class_map[task], voxel_volume=voxel_mm3, voxel_spacing=prepared.spacing_xyz_mm
        )
    return np.asarray(labels, dtype=np.uint8)
