"""Which TotalSegmentator networks find which organs: TotalSegmentator's own tables as typed values.

Pure data: nothing here loads torch. The rules are those of `totalsegmentator.python_api.totalsegmentator` (2.18).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal, cast

from r2seg_agent.errors import InputError
from r2seg_agent.frozen import Frozen
from r2seg_agent.imaging.geometry import Float3
from r2seg_agent.imaging.volume import Modality
from r2seg_agent.reason.anatomy import classes_for, tasks, tasks_for

Quality = Literal["full", "fast", "fastest"]

ROUGH_CROP_MARGIN_MM = (20.0, 20.0, 20.0)
"""What the library leaves around organs found by a `total` network, whatever the task's own `crop_addon` says."""
TOTAL_STEP, OTHER_STEP = 0.8, 0.5
"""Sliding-window step in patch sizes; the library overlaps less for the `total` tasks."""
APPROXIMATE_ZIP_MB: Mapping[int, float] = {**dict.fromkeys(range(291, 296), 234.0), 297: 135.0, 853: 43.0}
"""Sizes of the downloads, as far as published; the library itself has no list."""


class WeightSet(Frozen):
    """One trained network: `folder/model_folder` below the weights folder. `folds` empty: all that are there.

    `get` is the task name that `totalseg_download_weights -t` takes for it.
    """

    set_id: int
    folder: str
    model_folder: str
    folds: tuple[int, ...]
    get: str
    licensed: bool


class TaskSpec(Frozen):
    """How one task runs.

    `resample_mm` is in the image's canonical (x, y, z) order, None for the native grid. `parts` maps a set's id to
    {its own label: class name} where several sets make up the task. `crop` names the classes of the task
    `crop_from` around which the image is cropped, with `crop_margin_mm` (x, y, z) to spare.
    """

    name: str
    sets: tuple[WeightSet, ...]
    classes: Mapping[int, str]
    parts: Mapping[int, Mapping[int, str]] = {}
    resample_mm: Float3 | None
    step_size: float
    crop: tuple[str, ...] = ()
    crop_from: TaskSpec | None = None
    crop_margin_mm: Float3 = ROUGH_CROP_MARGIN_MM
    remove_outside: tuple[str, ...] = ()
    remove_outside_mm: float = 0.0

    def restricted(self, wanted: Sequence[str]) -> TaskSpec:
        """Only the sets that hold a `wanted` class (the library's `roi_subset`)."""
        needed = tuple(s for s in self.sets if not self.parts or set(self.parts[s.set_id].values()) & set(wanted))
        return self.model_copy(update={"sets": needed})

    def all_sets(self) -> tuple[WeightSet, ...]:
        """The sets that a run loads, those of its crop first."""
        before = self.crop_from.all_sets() if self.crop_from else ()
        return (*before, *(s for s in self.sets if s not in before))


class TaskRun(Frozen):
    """One task and the classes wanted from it (for which it was restricted)."""

    spec: TaskSpec
    wanted: tuple[str, ...]


def plan_runs(organs: Sequence[str], modality: Modality, quality: Quality) -> tuple[TaskRun, ...]:
    """The fewest tasks that find `organs`: one task per organ, a task already chosen first.

    Raises `InputError` for a modality or an organ that no task covers.
    """
    if modality not in ("CT", "MR"):
        raise InputError(
            f"TotalSegmentator finds organs in CT and MR, not in `{modality}`",
            "Give organ masks of your own (`--anchors PATH`), or state the right modality (`--modality CT`).",
        )
    wanted: dict[str, list[str]] = {}
    for name in organs:
        options = tasks_for(name, modality)
        if not options:
            raise InputError(
                f"TotalSegmentator has no task that finds `{name}` in {modality}",
                "Give a mask of the organ (`--anchors PATH`), or search in an organ that it knows.",
            )
        task = next((t for t in options if t in wanted), options[0])
        wanted.setdefault(task, []).extend(classes_for(name, task))
    ordered = sorted(wanted, key=lambda t: (not t.startswith("total"), t))
    return tuple(_run(task, tuple(dict.fromkeys(wanted[task])), quality) for task in ordered)


def _run(task: str, wanted: tuple[str, ...], quality: Quality) -> TaskRun:
    spec = task_spec(task, quality)
    if task in ("total", "total_mr") and quality == "full":
        rough = task_spec(task, "fast" if task == "total_mr" else "fastest")
        spec = spec.restricted(wanted).model_copy(update={"crop": wanted, "crop_from": rough})
    return TaskRun(spec=spec, wanted=wanted)


@lru_cache(maxsize=128)
def task_spec(task: str, quality: Quality = "full") -> TaskSpec:
    """The library's configuration of `task`; tasks with one resolution ignore `quality`."""
    from totalsegmentator.map_tasks_config import DEFAULT_CONFIG, TASK_CONFIGS
    from totalsegmentator.map_to_binary import class_map

    raw = cast("dict[str, Any]", TASK_CONFIGS[task])
    modes = raw.get("sub_modes")
    chosen = raw if modes is None else modes[_mode(modes, quality)]
    config: dict[str, Any] = {**DEFAULT_CONFIG, **chosen}
    ids = config["task_id"] if isinstance(config["task_id"], list) else [config["task_id"]]
    model_folder = f"{config['trainer']}__{config['plans'] or 'nnUNetPlans'}__{config['model']}"
    folds = tuple(config["folds"] or ())
    resample = config["resample"]
    crop = tuple(config["crop"] or ())
    crop_model = config["crop_model"]
    return TaskSpec(
        name=task,
        sets=tuple(_weight_set(int(i), model_folder, folds, task, quality) for i in ids),
        classes={int(k): str(v) for k, v in class_map[task].items()},
        parts=_parts(task) if len(ids) > 1 else {},
        resample_mm=None if resample is None else _triple(resample),
        step_size=TOTAL_STEP if task in ("total", "total_mr") else OTHER_STEP,
        crop=crop,
        crop_from=_crop_task(task, crop, config) if crop else None,
        crop_margin_mm=ROUGH_CROP_MARGIN_MM if crop_model is None else _triple(config["crop_addon"]),
        remove_outside=tuple(config["remove_outside"] or ()),
        remove_outside_mm=float(config["remove_outside_dilation"] or 0.0),
    )


def _mode(modes: Mapping[str, Any], quality: Quality) -> str:
    """The library falls back from "fastest" to "fast" where only that exists."""
    if quality == "full":
        return "default"
    return quality if quality in modes else "fast"


def _crop_task(task: str, crop: tuple[str, ...], config: Mapping[str, Any]) -> TaskSpec:
    if config["crop_model"] is not None:
        return task_spec(config["crop_model"])
    if "body_trunc" in crop or "body_extremities" in crop:
        return task_spec("body", "fast")
    if task.endswith("_mr") or config["modality"] == "mr":
        return task_spec("total_mr", "fast")
    return task_spec("total", "fast" if config["robust_crop"] else "fastest")


def _weight_set(set_id: int, model_folder: str, folds: tuple[int, ...], task: str, quality: Quality) -> WeightSet:
    from totalsegmentator.map_tasks_config import TASK_ID_WEIGHTS_CONFIGS

    known = tasks().get(task)
    return WeightSet(
        set_id=set_id,
        folder=str(TASK_ID_WEIGHTS_CONFIGS[set_id]["foldername"]),
        model_folder=model_folder,
        folds=folds,
        get=_download_name(task, quality),
        licensed=known.licensed if known else False,
    )


def _download_name(task: str, quality: Quality) -> str:
    if quality == "full" or task not in ("total", "total_mr", "body", "body_mr"):
        return task
    return {"total_mr": "total_fast_mr"}.get(task, f"{task}_fast")


def _parts(task: str) -> dict[int, dict[int, str]]:
    from totalsegmentator import map_to_binary as table

    names, labels = {
        "total": (table.map_taskid_to_partname_ct, table.class_map_5_parts),
        "total_mr": (table.map_taskid_to_partname_mr, table.class_map_parts_mr),
        "headneck_muscles": (table.map_taskid_to_partname_headneck_muscles, table.class_map_parts_headneck_muscles),
    }[task]
    return {
        int(set_id): {int(k): str(v) for k, v in labels[part].items()}
        for set_id, part in names.items()
        if part != "test"
    }


def _triple(value: float | Sequence[float]) -> Float3:
    if isinstance(value, int | float):
        return (float(value), float(value), float(value))
    x, y, z = (float(v) for v in value)
    return (x, y, z)
