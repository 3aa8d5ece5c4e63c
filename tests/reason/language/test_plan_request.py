"""The offline planner's claims: what it maps, what it asks back, and that it never breaks."""

import re
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from r2seg_agent.errors import InputError
from r2seg_agent.reason import anatomy, concepts
from r2seg_agent.reason.language.plan_request import MAX_REQUEST_CHARS, MAX_TARGETS, plan_request
from r2seg_agent.reason.plan import PlanSet

HERE = Path(__file__).parent


def _cases(name):
    lines = (HERE / name).read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines if line and not line.startswith("# ")]
    return [pytest.param(*(row + [""] * (4 - len(row))), id=f"{row[0]} [{row[1]}]") for row in rows]


def _said(planset: PlanSet, expected: str) -> str:
    """The plans in the notation of the table, with as much detail as the expectation has."""
    if planset.clarification is not None:
        return "ASK"
    said = []
    for plan, wanted in zip(planset.plans, [*expected.split("; "), *[""] * len(planset.plans)], strict=False):
        side = f"/{plan.laterality}" if plan.laterality else ""
        anchors = f"={'+'.join(plan.anchors)}" if "=" in wanted else ""
        said.append(f"{plan.target}{side}{anchors}")
    return "; ".join(said)


@pytest.mark.parametrize(("request_text", "modality", "expected", "excluded"), _cases("requests.tsv"))
def test_request_gives_expected_targets(request_text, modality, expected, excluded):
    planset = plan_request(request_text, modality)
    assert _said(planset, expected) == expected
    assert "|".join(planset.excluded) == excluded
    assert (planset.clarification is None) == bool(planset.plans)


def test_the_table_is_large_enough():
    assert len(_cases("requests.tsv")) >= 120


@pytest.mark.parametrize("concept", concepts.concepts().values(), ids=lambda c: c.id)
def test_every_concept_is_found_by_its_name_and_synonyms(concept):
    for text in (concept.name, concept.id, *concept.synonyms):
        for modality in ("CT", "MR"):
            planset = plan_request(text, modality)
            if planset.clarification is not None:  # an abbreviation with several meanings asks, and offers this one
                assert concept.id in [choice.value for choice in planset.clarification.choices], text
            else:
                assert [p.target for p in planset.plans] == [concept.id], text


def test_a_question_offers_names_that_plan():
    for text in (
        "find the tumour",
        "metastases",
        "AML",
        "tumor in the gizzard",
        "pancreas stone",
        "glioma of the liver",
    ):
        choices = plan_request(text, "CT").clarification.choices
        assert choices
        for choice in choices:
            assert plan_request(choice.text, "CT").plans, choice


def test_choices_are_near_what_was_typed():
    assert "hepatoblastoma" in [c.text for c in plan_request("hepatoblstomatic", "CT").clarification.choices]


def test_generic_request_is_settled_by_the_only_available_organ():
    only_kidneys = frozenset({"kidney_left", "kidney_right", "body"})
    assert [p.target for p in plan_request("find the tumour", "CT", anchors_available=only_kidneys).plans] == [
        "kidney_lesion"
    ]
    assert plan_request("find the tumour", "CT", anchors_available=only_kidneys | {"liver"}).clarification
    assert (
        plan_request("anything abnormal?", "CT", anchors_available=frozenset({"liver"})).plans[0].target
        == "liver_lesion"
    )
    brain = plan_request("find the cyst", "MR", anchors_available=frozenset({"brain"})).plans[0]
    assert brain.target == "brain_cyst"


def test_question_offers_what_the_anchor_source_can_reach():
    lungs = frozenset({"lung_left", "lung_right", "bone", "body"})
    choices = plan_request("find the metastases", "CT", anchors_available=lungs).clarification.choices
    assert {choice.text for choice in choices[:2]} == {"metastasis in lung", "metastasis in bone"}


def test_missing_part_falls_back_to_what_contains_it_and_says_so():
    lungs = frozenset({"lung_left", "lung_right", "bone", "body"})
    plan = plan_request("nodule in the right upper lobe", "CT", anchors_available=lungs).plans[0]
    assert (plan.anchors, plan.laterality) == (("lung_right",), "right")
    assert "right upper lobe of lung → right lung" in " ".join(plan.not_used)


def test_missing_organ_is_planned_all_the_same():
    plan = plan_request("pancreatic tumor", "CT", anchors_available=frozenset({"liver"})).plans[0]
    assert plan.anchors == ("pancreas",)


def test_region_keeps_to_reachable_organs():
    some = frozenset({"liver", "spleen", "brain"})
    plans = plan_request("lesions in the abdomen", "CT", anchors_available=some).plans
    assert [p.target for p in plans] == ["liver_lesion", "splenic_lesion"]


def test_sides_of_breasts_need_a_mask_that_knows_them():
    plain = plan_request("left breast mass", "CT").plans[0]
    assert plain.laterality is None
    assert "cannot be applied" in " ".join(plain.not_used)
    sided = plan_request("left breast mass", "MR", anchors_available=frozenset({"breast_left", "breast_right"})).plans[
        0
    ]
    assert (sided.anchors, sided.laterality) == (("breast_left",), "left")


def test_plan_says_where_how_and_why():
    plan = plan_request("find the pancreatc lesion", "CT").plans[0]
    assert plan.prompt == "tumor in pancreas CT"
    assert plan.window == (-100.0, 200.0)
    assert plan.snomed_ct
    assert plan.padding_mm == 10.0
    for part in ("pancreas", "darker", "Read “pancreatc” as “pancreatic”"):
        assert part in plan.rationale
    mr = plan_request("T2 MRI: prostate lesion", "MR").plans[0]
    assert mr.prompt == "tumor in prostate MRI-T2"
    assert mr.window is None


def test_plan_for_an_organ_without_anchor_says_so():
    plan = plan_request("uterine fibroid", "MR").plans[0]
    assert "no class for the uterus" in plan.rationale
    assert plan_request("bile duct cancer", "CT").plans[0].anchor_role == "near"


def test_negated_organs_are_no_neighbours():
    plan = plan_request("kidney tumor, not the liver", "CT").plans[0]
    assert "liver" not in plan.neighbours
    assert "liver" in plan_request("kidney tumor", "CT").plans[0].neighbours


def test_one_side_keeps_neighbours_of_that_side():
    plan = plan_request("left kidney tumor", "CT").plans[0]
    assert "adrenal_gland_left" in plan.neighbours
    assert "adrenal_gland_right" not in plan.neighbours


def test_an_exclusion_that_is_not_understood_is_reported():
    plan = plan_request("lesions in the liver but not in the left flurb", "CT").plans[0]
    assert "not understood" in " ".join(plan.not_used)


def test_too_many_targets_are_asked_back():
    organs = (
        "liver spleen pancreas stomach duodenum colon esophagus trachea thyroid brain bladder prostate sacrum skull"
    )
    question = plan_request(" and ".join(f"{o} tumor" for o in organs.split()), "CT").clarification
    assert str(MAX_TARGETS) in question.question


@pytest.mark.parametrize("text", ["", "   ", "\n\t", "x" * (MAX_REQUEST_CHARS + 1)])
def test_empty_and_endless_requests_are_input_errors(text):
    with pytest.raises(InputError) as error:
        plan_request(text, "CT")
    assert error.value.hint


VOCABULARY = """
    find the not without except but only left right both and or , . ; in of from liver kidney kidneys lung lungs mass
    tumor nodule cyst metastases HCC AML glioma abdomen chest everything CT MRI T2 segment upper lobe femur L3 breast
"""


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from(VOCABULARY.split()), min_size=1, max_size=12).map(" ".join),
    st.sampled_from(["CT", "MR", "unknown"]),
)
@example("not not not", "CT")
@example("left", "MR")
@example("liver from", "CT")
def test_any_words_give_legal_plans_or_a_question(text, modality):
    planset = plan_request(text, modality)
    assert bool(planset.plans) != (planset.clarification is not None)
    assert len(planset.plans) <= MAX_TARGETS
    for plan in planset.plans:
        assert plan.target in concepts.concepts()
        assert all(name in anatomy.organs() for name in (*plan.anchors, *plan.neighbours))
        assert not set(plan.anchors) & set(plan.neighbours)
        if plan.laterality:
            assert {anatomy.organ(a).side for a in plan.anchors} == {plan.laterality}
    assert plan_request(text, modality) == planset
    assert PlanSet.model_validate_json(planset.model_dump_json()) == planset


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200).filter(lambda t: t.strip()))
def test_arbitrary_text_never_raises(text):
    planset = plan_request(text, "CT")
    assert bool(planset.plans) != (planset.clarification is not None)


def test_the_longest_legal_request_is_answered():
    assert plan_request(("liver lesion " * 200)[:MAX_REQUEST_CHARS], "CT").plans
    assert plan_request("qzx " * (MAX_REQUEST_CHARS // 4), "CT").clarification


def test_the_words_of_a_plan_repeat_none_of_its_numbers() -> None:
    """A margin that a user sets in plan.json would else stand beside another one."""
    for request in ("find the lung nodule", "find a liver cyst", "find the brain tumour"):
        for plan in plan_request(request, "CT").plans:
            assert not re.search(r"\d", plan.rationale)
