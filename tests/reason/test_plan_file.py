"""Plan files: what is written is read back unchanged; what is wrong is named with what is right."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r2seg_agent.errors import InputError
from r2seg_agent.reason import concepts
from r2seg_agent.reason.language.plan_request import plan_request
from r2seg_agent.reason.plan_file import MAX_PLAN_BYTES, dump_plan, load_plan, parse_plan

PLAN = plan_request("left kidney tumor", "CT").plans[0]


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.sampled_from(sorted(concepts.concepts())), min_size=1, max_size=3, unique=True),
    st.sampled_from(["CT", "MR"]),
)
def test_plans_survive_the_file(tmp_path_factory, ids, modality):
    planset = plan_request("; ".join(concepts.concept(i).name for i in ids), modality)
    if planset.clarification is None:
        path = tmp_path_factory.mktemp("plan") / "plan.json"
        dump_plan(planset, path)
        assert load_plan(path) == planset


def test_one_plan_a_list_and_a_set_are_accepted(tmp_path):
    one = PLAN.model_dump(mode="json")
    for data in (one, [one], {"request": "x", "plans": [one]}):
        path = tmp_path / "plan.json"
        path.write_text(json.dumps(data))
        assert load_plan(str(path)).plans == (PLAN,)


def test_a_plan_edited_by_hand_is_used_as_it_is():
    edited = PLAN.model_dump(mode="json") | {"padding_mm": 3, "scales": [1], "anchors": ["Kidney_L", "adrenal gland"]}
    plan = parse_plan(edited).plans[0]
    assert plan.padding_mm == 3.0
    assert plan.scales == (1.0,)
    assert plan.anchors[0] == "kidney_left"
    assert set(plan.anchors[1:]) == {"adrenal_gland_left", "adrenal_gland_right"}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"padding_mm": -1}, ["plans[0].padding_mm", "greater than or equal to 0", "-1"]),
        ({"padding_mm": "wide"}, ["plans[0].padding_mm", "wide"]),
        ({"scales": []}, ["plans[0].scales", "at least 1"]),
        ({"modality": "CAT"}, ["plans[0].modality", "'CT'", "'MR'", "CAT"]),
        ({"laterality": "both"}, ["plans[0].laterality", "'left' or 'right'"]),
        ({"anchors": []}, ["plans[0].anchors", "at least 1"]),
        ({"anchors": ["kidny_left"]}, ["plans[0].anchors[0]", "kidny_left", "`kidney_left`"]),
        ({"neighbours": ["liver", "gizzard"]}, ["plans[0].neighbours[1]", "gizzard", "Nearest organs"]),
        ({"target": "kidney_leson"}, ["plans[0].target", "kidney_leson", "`kidney_lesion`"]),
        ({"window": [200, -100]}, ["plans[0].window", "low < high"]),
        ({"expected_volume_ml": [5, 1]}, ["plans[0].expected_volume_ml"]),
        ({"paddding": 1}, ["paddding", "no such field", "padding_mm"]),
    ],
    ids=lambda v: str(v)[:40] if isinstance(v, dict) else "",
)
def test_bad_values_are_named(change, named):
    with pytest.raises(InputError) as error:
        parse_plan([PLAN.model_dump(mode="json") | change])
    for part in named:
        assert part in str(error.value)


def test_missing_field_is_named():
    data = PLAN.model_dump(mode="json")
    del data["prompt"]
    with pytest.raises(InputError, match=r"plans\[0\].prompt: this field is missing"):
        parse_plan(data)


@pytest.mark.parametrize("data", [[], {"request": "", "plans": []}, 3, "x", None, [3], {"plans": 3}])
def test_what_is_no_plan_is_refused(data):
    with pytest.raises(InputError):
        parse_plan(data)


def test_a_question_is_no_plan(tmp_path):
    path = tmp_path / "plan.json"
    dump_plan(plan_request("find the tumour", "CT"), path)
    with pytest.raises(InputError, match="holds no plan"):
        load_plan(path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not JSON"),
        (b'{"target": ', "line 1"),
        (b"\xff\xfe\x00", "UTF-8"),
        (b"[" * 200_000, "not JSON"),
        (b"[1e999]", "not valid"),
        (b" " * (MAX_PLAN_BYTES + 1), "larger"),
    ],
    ids=["empty", "truncated", "binary", "deep", "infinite", "huge"],
)
def test_broken_files_are_input_errors(tmp_path, content, says):
    path = tmp_path / "plan.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=says):
        load_plan(path)


def test_missing_file_folder_and_unwritable_target(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        load_plan(tmp_path / "no.json")
    with pytest.raises(InputError, match="cannot be read"):
        load_plan(tmp_path)
    with pytest.raises(InputError, match="cannot be written"):
        dump_plan(plan_request("liver lesion", "CT"), tmp_path / "no" / "plan.json")
