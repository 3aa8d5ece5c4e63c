"""Class names of public data sets and what they answer for."""

from __future__ import annotations

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
     {"non-enhancing tumor": "brain_lesion", "enhancing tumour": "brain_lesion"}),
    (["whole tumor", "tumor core", "enhancing tumor"], ["BraTS2021"],
     dict.fromkeys(("whole tumor", "tumor core", "enhancing tumor"), "brain_lesion")),
    (["ET", "NETC", "SNFH"], ["Dataset200_BRATS"], {"ET": "brain_lesion", "NETC": "brain_lesion"}),
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
