"""Class names of public data sets and what they answer for."""

from __future__ import annotations

import re

import numpy as np
import pytest

from r2seg_agent.errors import InputError
from r2seg_agent.reason.language.plan_request import plan_request
from r2seg_agent.segment.folders.classes import ClassTable, class_table
from r2seg_agent.segment.folders.spec import parse_spec

DATA_SETS = [
    # names, words about the data set, {class: concept}
    (["liver", "tumor"], [], {"tumor": "liver_lesion"}),
    (["Liver", "Tumour"], [], {"Tumour": "liver_lesion"}),
    (["kidney", "tumor", "cyst"], [], {"tumor": "kidney_lesion", "cyst": "kidney_cyst"}),
    (["pancreas", "cancer"], [], {"cancer": "pancreatic_cancer"}),
    (["colon cancer primaries"], [], {"colon cancer primaries": "colorectal_cancer"}),
    (["cancer"], ["Dataset006_Lung"], {"cancer": "lung_cancer"}),
    (["edema", "non-enhancing tumor", "enhancing tumour"], ["Task001_BrainTumour"],
     {"edema": "brain_tumor_edema", "non-enhancing tumor": "brain_tumor_non_enhancing",
      "enhancing tumour": "brain_tumor_enhancing"}),
    (["whole tumor", "tumor core", "enhancing tumor"], ["BraTS2021"],
     {"whole tumor": "brain_lesion", "tumor core": "brain_tumor_core", "enhancing tumor": "brain_tumor_enhancing"}),
    (["WT", "TC", "ET"], ["brats_mri_segmentation"],
     {"WT": "brain_lesion", "TC": "brain_tumor_core", "ET": "brain_tumor_enhancing"}),
    (["ET", "NETC", "SNFH", "RC"], ["Dataset200_BRATS"],
     {"ET": "brain_tumor_enhancing", "NETC": "brain_tumor_non_enhancing", "SNFH": "brain_tumor_edema"}),
    (["NCR", "ED", "ET"], [],
     {"NCR": "brain_tumor_non_enhancing", "ED": "brain_tumor_edema", "ET": "brain_tumor_enhancing"}),
    (["NCR/NET", "ED", "ET"], ["BraTS2018"],
     {"NCR/NET": "brain_tumor_non_enhancing", "ED": "brain_tumor_edema", "ET": "brain_tumor_enhancing"}),
    (["NET", "ED", "ET"], ["BraTS2015"],
     {"NET": "brain_tumor_non_enhancing", "ED": "brain_tumor_edema", "ET": "brain_tumor_enhancing"}),
    (["necrotic_tumor_core", "peritumoral_edema", "GD-enhancing tumor"], ["brain"],
     {"necrotic_tumor_core": "brain_tumor_non_enhancing", "peritumoral_edema": "brain_tumor_edema",
      "GD-enhancing tumor": "brain_tumor_enhancing"}),
    (["tumor and edema", "enhancing tumor"], ["brain"],
     {"tumor and edema": "brain_lesion", "enhancing tumor": "brain_tumor_enhancing"}),
    (["liver", "enhancing tumor", "edema"], [], {"enhancing tumor": "liver_lesion"}),
    (["ET", "tumor core"], [], {}),
    (["kidney_cyst_left", "kidney_cyst_right"], [],
     {"kidney_cyst_left": "kidney_cyst", "kidney_cyst_right": "kidney_cyst"}),
    (["lung", "lung_nodules"], [], {"lung_nodules": "lung_nodule"}),
    (["LungNodule"], [], {"LungNodule": "lung_nodule"}),
    (["prostate", "lesion"], [], {"lesion": "prostate_lesion"}),
    (["GTVp"], ["HECKTOR 2022"], {"GTVp": "head_neck_cancer"}),
    (["kidney", "masses"], ["Dataset220_KiTS2023"], {"masses": "kidney_lesion"}),
    (["tumor"], ["Dataset501_MyStudy"], {}),
    (["liver", "spleen", "hepatic vessel"], [], {}),
]  # fmt: skip


@pytest.mark.parametrize(("names", "about", "targets"), DATA_SETS)
def test_names_of_public_data_sets(names: list[str], about: list[str], targets: dict[str, str]) -> None:
    table = class_table("m", names, exclusive=True, about=about)
    assert {c.name: c.concepts for c in table.wanted} == {name: (concept,) for name, concept in targets.items()}


def _answering(table: ClassTable, request: str) -> list[str]:
    plan = plan_request(request, "CT").plans[0]
    return [c.name for c in table.answering(plan.target, plan.laterality)]


def test_requests_reach_their_classes() -> None:
    liver = class_table("m", ["liver", "tumor"], exclusive=True)
    assert _answering(liver, "find the liver lesion") == ["tumor"]
    assert _answering(liver, "find the hepatocellular carcinoma") == ["tumor"]  # cannot tell the kinds apart
    kidney = class_table("m", ["kidney", "tumor", "cyst"], exclusive=True)
    assert _answering(kidney, "find kidney tumours") == ["tumor"]
    assert _answering(kidney, "find the kidney cyst") == ["cyst"]
    sided = class_table("m", ["kidney_cyst_left", "kidney_cyst_right"], exclusive=True)
    assert _answering(sided, "find the cyst in the left kidney") == ["kidney_cyst_left"]
    assert _answering(sided, "find the cyst in the kidneys") == ["kidney_cyst_left", "kidney_cyst_right"]
    cancer = class_table("m", ["pancreas", "cancer"], exclusive=True)
    assert _answering(cancer, "find the pancreatic lesion") == ["cancer"]  # some of what was asked for


def _sum_of(table: ClassTable, target: str, **voxels: float) -> float:
    return float(table.combined({name: np.float32([[[p]]]) for name, p in voxels.items()}, target, None)[0, 0, 0])


def test_a_brain_tumour_is_all_of_its_parts_edema_too_and_a_part_is_that_part() -> None:
    labels = class_table("m", ["NCR", "ED", "ET"], exclusive=True, about=["BraTS2021"])
    probabilities = {"NCR": 0.1, "ED": 0.5, "ET": 0.25}
    assert _sum_of(labels, "brain_lesion", **probabilities) == pytest.approx(0.85)
    assert _sum_of(labels, "glioblastoma", **probabilities) == pytest.approx(0.85)
    assert _sum_of(labels, "brain_tumor_core", **probabilities) == pytest.approx(0.35)
    assert _sum_of(labels, "brain_tumor_edema", **probabilities) == pytest.approx(0.5)
    regions = class_table("m", ["WT", "TC", "ET"], exclusive=False, about=["BraTS2021"])
    probabilities = {"WT": 0.9, "TC": 0.6, "ET": 0.3}
    assert _sum_of(regions, "brain_lesion", **probabilities) == pytest.approx(0.9)
    assert _sum_of(regions, "glioblastoma", **probabilities) == pytest.approx(0.9)
    assert _sum_of(regions, "brain_tumor_core", **probabilities) == pytest.approx(0.6)
    assert _sum_of(regions, "brain_tumor_enhancing", **probabilities) == pytest.approx(0.3)
    with pytest.raises(InputError, match="no class for `brain_tumor_edema`"):  # the whole tumour is not its edema
        regions.answering("brain_tumor_edema")
    with pytest.raises(InputError, match="no class for `intracranial_hemorrhage`"):
        labels.answering("intracranial_hemorrhage")


@pytest.mark.parametrize(
    ("names", "request_", "remark"),
    [
        (["WT", "TC", "ET"], "find the brain tumour", None),
        (["NCR", "ED", "ET"], "find the brain tumour",
         r"no class for lesion of brain as a whole: `NCR`, `ED`, `ET` are searched, taken together\.$"),
        (["TC", "ET"], "find the brain tumour", "`TC`, `ET` are searched, .*edema around it counts to no volume"),
        (["WT", "TC", "ET"], "find a glioblastoma", r"no class for glioblastoma alone: `WT`.* is searched, and other"),
        (["metastasis"], "find brain lesions", r"`metastasis` is searched\.$"),
    ],
)  # fmt: skip
def test_what_is_searched_in_place_of_the_target_is_said(names: list[str], request_: str, remark: str | None) -> None:
    table = class_table("m", names, exclusive=True, about=["BraTS"])
    said = table.check_plan(plan_request(request_, "MR").plans[0])
    assert len(said) == (remark is not None)
    assert remark is None or re.search(remark, said[0])


@pytest.mark.parametrize(
    ("request_", "target"),
    [
        ("find the edema in the brain", "brain_tumor_edema"),
        ("NCR", "brain_tumor_non_enhancing"),
        ("find the peritumoral edema", "brain_tumor_edema"),
        ("enhancing tumour in the brain", "brain_tumor_enhancing"),
        ("find the enhancing brain tumour", "brain_lesion"),
        ("tumour core in the brain", "brain_tumor_core"),
        ("find the enhancing tumour in the liver", "liver_lesion"),
        ("whole tumour in the brain", "brain_lesion"),
    ],
)
def test_requests_for_parts_of_a_tumour(request_: str, target: str) -> None:
    assert [plan.target for plan in plan_request(request_, "MR").plans] == [target]


def test_edema_of_an_organ_is_no_lesion_of_it() -> None:
    assert plan_request("find the edema in the liver", "CT").plans == ()


def test_a_tumour_class_is_no_class_of_cysts_but_a_lesion_class_is() -> None:
    tumours = class_table("m", ["liver", "tumor"], exclusive=True)
    lesions = class_table("m", ["liver_lesions"], exclusive=True)
    assert lesions.answering("liver_cyst")
    with pytest.raises(InputError):
        tumours.answering("liver_cyst")


def test_an_unknown_target_lists_the_classes() -> None:
    table = class_table("nnunet:Liver", ["liver", "tumor"], exclusive=True)
    with pytest.raises(
        InputError, match=r"`nnunet:Liver` has no class for `lung_nodule`.*liver \(an organ\)"
    ) as caught:
        table.answering("lung_nodule")
    assert "liver_lesion" in caught.value.hint
    nameless = class_table("m", ["tumor"], exclusive=True)
    with pytest.raises(InputError, match="a lesion of no stated organ") as caught:
        nameless.answering("liver_lesion")
    assert "#tumor=liver_lesion" in caught.value.hint


def test_stated_meanings_win() -> None:
    table = class_table("m", ["liver", "tumor"], exclusive=True, stated={"tumor": ["spleen lesion", "kidney_cyst"]})
    assert table.wanted[0].concepts == ("splenic_lesion", "kidney_cyst")
    anything = class_table("m", ["lesion"], exclusive=True, stated={"lesion": ["any"]})
    assert anything.answering("lung_nodule")
    assert anything.answering("liver_cyst")
    site = class_table("m", ["tumor"], exclusive=True, site="prostate", about=["Dataset003_Liver"])
    assert site.wanted[0].concepts == ("prostate_lesion",)
    with pytest.raises(InputError, match="no target of the concept table"):
        class_table("m", ["tumor"], exclusive=True, stated={"tumor": ["gizzard spot"]})
    with pytest.raises(InputError, match="no class `tumour`; its classes: tumor"):
        class_table("m", ["tumor"], exclusive=True, stated={"tumour": ["liver_lesion"]})


def test_several_organs_share_a_lesion_class() -> None:
    table = class_table("m", ["liver", "kidney_left", "kidney_right", "tumor"], exclusive=True)
    assert table.answering("liver_lesion") == table.answering("kidney_lesion")


def test_probabilities_add_up_or_compete() -> None:
    layers = {"a": np.float32([[[0.5, 0.7]]]), "b": np.float32([[[0.4, 0.6]]])}
    stated = {"a": ["glioma"], "b": ["glioma"]}
    exclusive = class_table("m", ["a", "b"], exclusive=True, stated=stated)
    overlapping = class_table("m", ["a", "b"], exclusive=False, stated=stated)
    np.testing.assert_allclose(exclusive.combined(layers, "glioma", None), [[[0.9, 1.0]]], atol=1e-6)
    np.testing.assert_allclose(overlapping.combined(layers, "glioma", None), [[[0.5, 0.7]]], atol=1e-6)
    np.testing.assert_allclose(layers["a"], [[[0.5, 0.7]]], atol=1e-6)


def test_what_stands_behind_a_path() -> None:
    spec = parse_spec("/models/x#0,fold_2#nomirror#my tumor=liver_lesion, kidney_cyst", "nnunet")
    assert spec.place == "/models/x"
    assert spec.folds == (0, 2)
    assert not spec.mirror
    assert spec.classes == {"my tumor": ("liver_lesion", "kidney_cyst")}
    assert parse_spec("/models/x#all", "nnunet").folds == ("all",)
    for wrong in ("", "#0", "/x#", "/x#tumor=", "/x#=liver_lesion", "/x#0,quick"):
        with pytest.raises(InputError):
            parse_spec(wrong, "nnunet")
    with pytest.raises(InputError):
        parse_spec("/models/x#0", "bundle")
