"""The organ table agrees with the installed TotalSegmentator, and names resolve however they are written."""

from __future__ import annotations

import pytest
from totalsegmentator.map_tasks_config import TASK_CONFIGS
from totalsegmentator.map_to_binary import class_map, commercial_models

from r2seg_agent.errors import InputError
from r2seg_agent.reason import anatomy
from r2seg_agent.reason.anatomy import canonical_organ, organs, tasks


def test_every_class_name_exists_in_totalsegmentator():
    for o in organs().values():
        for task, classes in o.classes.items():
            assert set(classes) <= set(class_map[task].values()), (o.name, task)
            assert task in tasks()


def test_tasks_exist_and_licences_agree():
    for task in tasks().values():
        assert task.name in TASK_CONFIGS
        assert task.licensed == (task.name in commercial_models), task.name
        assert task.licensed == TASK_CONFIGS[task.name].get("commercial", False)
        assert (task.modality == "MR") == task.name.endswith("_mr")


@pytest.mark.parametrize("task", ["total", "total_mr"])
def test_base_tasks_are_covered_completely(task):
    for name in class_map[task].values():
        if name in anatomy.lesion_classes(task):
            assert not any(name in organ.classes.get(task, ()) for organ in anatomy.organs().values())
            continue
        organ = canonical_organ(name)
        assert anatomy.classes_for(organ, task) == (name,)
        assert organ in anatomy.organs_for_task(task)


def test_lesion_classes_exist_and_are_no_organs():
    for task in tasks():
        for name in anatomy.lesion_classes(task):
            assert name in class_map[task].values()
            assert canonical_organ(name) is None


def test_compound_organs_are_the_union_of_their_classes():
    assert anatomy.classes_for("lung_left", "total") == ("lung_upper_lobe_left", "lung_lower_lobe_left")
    assert anatomy.classes_for("lung_left", "total_mr") == ("lung_left",)
    assert len(anatomy.classes_for("lungs", "total")) == 5
    assert len(anatomy.classes_for("spine", "total")) == 24
    assert anatomy.classes_for("spine", "total_mr") == ("vertebrae",)
    assert anatomy.classes_for("liver", "brain_structures") == ()


def test_base_task_comes_first():
    assert anatomy.tasks_for("liver", "CT")[0] == "total"
    assert anatomy.tasks_for("spine", "MR") == ("total_mr", "vertebrae_mr")
    assert anatomy.tasks_for("frontal_lobe", "CT") == ("brain_structures",)
    assert anatomy.tasks_for("tongue", "MR") == ()
    assert anatomy.tasks_for("uterus", "CT") == ()


def test_groups_members_and_containers_are_consistent():
    for o in organs().values():
        if o.group:
            assert o.name in organs()[o.group].members
            assert o.side in ("left", "right")
            assert anatomy.on_side(o.group, o.side) == o.name
        assert {organs()[m].group for m in o.members} <= {o.name}
        if o.part_of:
            assert o.part_of in organs()
        assert len(set(anatomy.containing(o.name))) == len(anatomy.containing(o.name))


def test_containers_lead_outwards():
    assert anatomy.containing("lung_upper_lobe_right") == (
        "lung_upper_lobe_right",
        "lung_upper_lobes",
        "lung_right",
        "lungs",
    )
    assert anatomy.containing("femur_left") == ("femur_left", "femurs", "bone")
    assert anatomy.containing("vertebrae_L3")[-2:] == ("spine", "bone")


def test_hounsfield_organs():
    assert {o.name for o in organs().values() if o.hounsfield} == {"body", "lung_left", "lung_right", "lungs", "bone"}


def test_sides_expand_only_where_a_task_tells_them_apart():
    assert set(anatomy.expand("kidneys")) == {"kidney_left", "kidney_right"}
    assert anatomy.expand("breasts") == ("breasts",)
    assert anatomy.expand("liver") == ("liver",)


@pytest.mark.parametrize("name", organs())
def test_every_organ_is_found_by_its_own_names(name, valid_sctid):
    o = organs()[name]
    assert canonical_organ(o.name) == name
    assert canonical_organ(o.display) == name
    assert canonical_organ(o.name.upper().replace("_", " ")) == name
    for synonym in o.synonyms:
        assert canonical_organ(synonym) == name, synonym
    assert not o.snomed_ct or valid_sctid(o.snomed_ct)


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("Kidney_L", "kidney_left"),
        ("LT kidney", "kidney_left"),
        ("kidney, right", "kidney_right"),
        ("SpinalCord", "spinal_cord"),
        ("Lung_R", "lung_right"),
        ("left upper lobe", "lung_upper_lobe_left"),
        ("Oesophagus", "esophagus"),
        ("Harnblase", "urinary_bladder"),
        ("vertebrae", "spine"),
        ("L1", "vertebrae_L1"),
        ("kidney", "kidneys"),
        ("breast left", "breast_left"),
        ("gizzard", None),
        ("", None),
        ("left", None),
        ("tumor", None),
    ],
)
def test_canonical_organ(written, name):
    assert canonical_organ(written) == name


def test_unknown_organ_error_names_the_nearest():
    with pytest.raises(InputError) as error:
        anatomy.organ("kidny_left")
    assert "`kidney_left`" in error.value.hint
