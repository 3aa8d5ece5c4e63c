"""Which networks are needed: the library's own configuration is the oracle."""

import pytest
from totalsegmentator.bin.totalseg_download_weights import TASK_TO_ID
from totalsegmentator.python_api import get_task_config

from r2seg_agent.errors import InputError
from r2seg_agent.reason.anatomy import tasks
from r2seg_agent.reason.anchors.totalseg.tasks import Quality, plan_runs, task_spec

QUALITIES: tuple[Quality, ...] = ("full", "fast", "fastest")
ALL = [(task, quality) for task in tasks() for quality in QUALITIES]
FREE = [
    (t, q) for t, q in ALL if not tasks()[t].licensed and (q == "full" or t in ("total", "total_mr", "body", "body_mr"))
]


@pytest.mark.parametrize(("task", "quality"), FREE)
def test_configuration_is_the_librarys(task: str, quality: Quality):
    config = get_task_config(
        task, fast=quality == "fast", fastest=quality == "fastest", quiet=True, plans="nnUNetPlans"
    )
    spec = task_spec(task, quality)
    ids = config["task_id"] if isinstance(config["task_id"], list) else [config["task_id"]]
    resample = config["resample"]
    assert [s.set_id for s in spec.sets] == ids
    assert {s.model_folder for s in spec.sets} == {f"{config['trainer']}__{config['plans']}__{config['model']}"}
    assert spec.resample_mm == (
        None if resample is None else tuple(resample) if isinstance(resample, list) else (resample,) * 3
    )
    assert spec.crop == tuple(config["crop"] or ())
    assert {s.folds for s in spec.sets} == {tuple(config["folds"] or ())}


@pytest.mark.parametrize(("task", "quality"), ALL)
def test_the_download_command_gets_the_set(task: str, quality: Quality):
    for weight_set in task_spec(task, quality).all_sets():
        assert weight_set.set_id in TASK_TO_ID[weight_set.get]


@pytest.mark.parametrize(("task", "quality"), ALL)
def test_every_class_of_a_part_is_a_class_of_its_task(task: str, quality: Quality):
    spec = task_spec(task, quality)
    assert set(spec.parts) >= {s.set_id for s in spec.sets} or not spec.parts
    for part in spec.parts.values():
        assert set(part.values()) <= set(spec.classes.values())


def test_full_quality_runs_only_the_networks_of_the_wanted_organs():
    (run,) = plan_runs(["liver", "pancreas"], "CT", "full")
    assert [s.set_id for s in run.spec.sets] == [291]
    assert [s.set_id for s in run.spec.all_sets()] == [298, 291]
    (run,) = plan_runs(["liver", "vertebrae_L1"], "CT", "full")
    assert [s.set_id for s in run.spec.all_sets()] == [298, 291, 292]


@pytest.mark.parametrize(
    ("modality", "quality", "sets"),
    [
        ("CT", "fast", [297]),
        ("CT", "fastest", [298]),
        ("MR", "fast", [852]),
        ("MR", "fastest", [853]),
        ("MR", "full", [852, 850]),
    ],
)
def test_networks_by_modality_and_quality(modality, quality: Quality, sets: list[int]):
    (run,) = plan_runs(["liver"], modality, quality)
    assert [s.set_id for s in run.spec.all_sets()] == sets


def test_an_organ_of_a_sub_task_brings_its_rough_crop():
    runs = plan_runs(["liver", "liver_segment_4"], "CT", "fast")
    assert [r.spec.name for r in runs] == ["total", "liver_segments"]
    assert [s.set_id for s in runs[1].spec.all_sets()] == [298, 570]
    assert runs[1].wanted == ("liver_segment_4",)


def test_both_sides_share_one_run():
    (run,) = plan_runs(["kidneys", "kidney_left"], "CT", "fast")
    assert set(run.wanted) == {"kidney_left", "kidney_right"}


@pytest.mark.parametrize("modality", ["US", "XR", "photo", "PT", "unknown"])
def test_other_modalities_are_refused(modality):
    with pytest.raises(InputError, match="CT and MR"):
        plan_runs(["liver"], modality, "fast")


def test_an_organ_without_a_task_is_refused():
    with pytest.raises(InputError, match="no task that finds `heart_atrium_left` in MR") as error:
        plan_runs(["heart_atrium_left"], "MR", "fast")
    assert "--anchors" in error.value.hint
