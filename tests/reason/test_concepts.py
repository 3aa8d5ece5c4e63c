"""The concept table: complete over the anchors, consistent, with valid codes."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from r2seg_agent.errors import InputError
from r2seg_agent.reason import anatomy
from r2seg_agent.reason.concepts import Concept, concept, concepts, find_concept, nearest_concepts, phrases, windows_hu

ALL = pytest.mark.parametrize("c", concepts().values(), ids=lambda c: c.id)
NO_LESION_OF_THEIR_OWN = {"body", "body_trunc", "body_extremities", "abdominal_cavity", "thoracic_cavity"}
"""Containers: their organs have concepts."""


def test_table_is_large_enough():
    assert len(concepts()) >= 80


def test_every_organ_has_a_concept():
    bare = {name for name in anatomy.organs() if find_concept(name, "lesion") is None}
    assert bare == NO_LESION_OF_THEIR_OWN


@ALL
def test_snomed_code_is_well_formed_or_explained(c, valid_sctid):
    assert valid_sctid(c.snomed_ct) if c.snomed_ct else c.snomed_note


def test_snomed_codes_are_not_shared():
    codes = [c.snomed_ct for c in concepts().values() if c.snomed_ct]
    assert len(set(codes)) == len(codes)
    assert len(codes) > len(concepts()) / 2


@ALL
def test_anchor_is_an_organ_that_a_source_finds_or_the_reason_is_given(c):
    for name in c.anchors:
        assert anatomy.organ(name).classes, f"{name} has no class"
    if not c.anchors:
        assert c.no_anchor_reason
        assert not anatomy.organ(c.organ).classes
    assert not set(c.neighbours) & set(c.anchors)


@ALL
def test_size_window_and_parent_are_sensible(c):
    assert 0.01 <= c.volume_ml[0] < c.volume_ml[1] <= 10_000
    assert c.window in windows_hu()
    assert c.padding_mm <= 30
    seen, at = {c.id}, c.parent
    while at is not None:
        assert at not in seen, "parents go round in a circle"
        seen.add(at)
        at = concept(at).parent
    assert set(c.contrast) <= {"CT", "MR", "PT", "US", "XR", "photo"}
    assert {"CT", "MR"} & set(c.modalities)


def test_paired_concepts():
    assert concept("kidney_lesion").paired
    assert concept("lung_nodule").paired
    assert not concept("liver_lesion").paired


def test_no_name_means_two_concepts():
    assert {key: ids for key, ids in phrases().items() if len(ids) > 1} == {}


def test_lesion_word_and_organ_find_the_concept():
    assert find_concept("kidney_left", "cyst").id == "kidney_cyst"
    assert find_concept("vertebrae_L3", "metastasis").id == "spine_metastasis"
    assert find_concept("spleen", "abscess").id == "splenic_lesion"
    assert find_concept("body", "lesion") is None


def test_nearest_concepts_and_their_error():
    assert nearest_concepts("pancreatic_leson")[0].id == "pancreatic_lesion"
    with pytest.raises(InputError, match="lung_nodle") as error:
        concept("lung_nodle")
    assert "`lung_nodule`" in error.value.hint


@pytest.mark.parametrize(
    "change",
    [
        {"organ": "gizzard"},
        {"anchors": ["gizzard"]},
        {"volume_ml": [5, 1]},
        {"snomed_ct": "12"},
        {"snomed_ct": "", "snomed_note": ""},
        {"anchors": []},
        {"padding_mm": -1},
        {"modalities": ["XX"]},
        {"unknown_field": 1},
    ],
)
def test_bad_rows_are_refused(change):
    row = concept("liver_lesion").model_dump(mode="json") | change
    with pytest.raises((ValidationError, InputError)):
        Concept.model_validate_json(json.dumps(row))


def test_windows_of_the_method_are_kept():
    assert windows_hu()["liver"] == (-25.0, 230.0)
    assert windows_hu()["pancreas"] == (-100.0, 200.0)
    assert {"brain", "bone", "mediastinum"} <= set(windows_hu())
