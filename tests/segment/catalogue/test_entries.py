"""The catalogue that ships with the package is sound, and each model of it would be taken."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from totalsegmentator.map_tasks_config import TASK_ID_WEIGHTS_CONFIGS

from r2seg_agent.errors import InputError
from r2seg_agent.imaging.geometry import Geometry
from r2seg_agent.reason import anatomy, concepts
from r2seg_agent.segment.catalogue.entries import UNKNOWN_SHA256, Entry, catalogue, entry_named, find_entry
from r2seg_agent.segment.catalogue.units import units
from r2seg_agent.segment.folders.bundle import Bundle
from r2seg_agent.segment.folders.grid import turn_to
from r2seg_agent.segment.folders.spec import ModelSpec
from r2seg_agent.segment.folders.totalseg_task import lesion_tasks
from r2seg_agent.segment.registry import FOLDERS, SEGMENTERS

ENTRIES = catalogue().entries


def test_names_are_distinct_and_none_is_taken_by_a_segmenter() -> None:
    names = [entry.name for entry in ENTRIES]
    assert len(set(names)) == len(names)
    assert not set(names) & {*SEGMENTERS, *FOLDERS, "auto"}


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_targets_are_concepts_and_every_entry_says_what_is_unproven(entry: Entry) -> None:
    assert {target for target in entry.targets if target != "any"} <= set(concepts.concepts())
    assert entry.unproven
    assert entry.page.startswith("https://")
    if entry.kind in ("nnunet", "bundle"):
        assert sum(file.size_bytes for file in entry.files) == entry.size_bytes
    if entry.side_file is not None and entry.side_file.site is not None:
        assert entry.side_file.site in anatomy.organs()


@pytest.mark.parametrize("entry", [e for e in ENTRIES if e.kind == "bundle"], ids=lambda entry: entry.name)
def test_the_manifest_of_a_bundle_answers_for_the_targets_of_its_entry(entry: Entry, tmp_path: Path) -> None:
    (tmp_path / "bundle.json").write_text(entry.manifest_for(UNKNOWN_SHA256).model_dump_json())
    table = Bundle(ModelSpec(place=str(tmp_path))).table
    for target in entry.targets:
        assert table.answering(target)


def test_every_lesion_task_of_totalsegmentator_is_in_the_catalogue_with_its_own_addresses() -> None:
    assert {entry.task for entry in ENTRIES if entry.kind == "totalseg"} == set(lesion_tasks())
    releases = {str(config["foldername"]): config.get("version") for config in TASK_ID_WEIGHTS_CONFIGS.values()}
    for entry in ENTRIES:
        for unit in units(entry) if entry.kind in ("totalseg", "anchors") else ():
            (file,) = unit.files
            assert file.source == f"{releases[unit.name]}/{unit.name}.zip"
            assert unit.weights is not None
            assert not unit.weights.licensed
            assert unit.weights.set_id in catalogue().totalseg_zip_bytes


def test_the_organs_at_full_resolution_bring_their_rough_network() -> None:
    found = {unit.weights.set_id for unit in units(entry_named("totalsegmentator")) if unit.weights}
    assert found == {291, 292, 293, 294, 295, 298}


def test_an_unknown_name_lists_what_there_is() -> None:
    assert find_entry("pantera") is None
    with pytest.raises(InputError, match=r"pantera.*panther, cln-lung"):
        entry_named("pantera")


def test_an_entry_with_a_path_out_of_its_folder_or_without_https_cannot_be_written() -> None:
    panther = entry_named("panther").model_dump(mode="json")
    for source in ("../plans.json", "/plans.json", "a//b", ".hidden"):
        with pytest.raises(ValueError, match="source"):
            Entry.model_validate(panther | {"files": [{"source": source, "size_bytes": 1}]})
    with pytest.raises(ValueError, match="https"):
        Entry.model_validate(panther | {"address": "http://huggingface.co/x"})


@pytest.mark.parametrize(("name", "codes"), [("pancreas-dints", "RAS"), ("brats-segresnet", "LPS")])
def test_a_network_of_monai_sees_the_index_order_that_it_was_trained_on(name: str, codes: str) -> None:
    manifest = entry_named(name).manifest_for(UNKNOWN_SHA256)
    geometry = Geometry(shape=(3, 4, 5), spacing_mm=(1.0, 1.0, 1.0))  # axes (z, y, x) to Superior, Posterior, Left
    array = np.arange(60, dtype=np.float32).reshape(geometry.shape)
    seen = turn_to(manifest.orientation, geometry).apply(array)
    in_lps = np.transpose(array)  # index order (x, y, z), as nibabel reads a file that is stored in LPS
    wanted = nibabel.orientations.ornt_transform(
        nibabel.orientations.axcodes2ornt("LPS"), nibabel.orientations.axcodes2ornt(codes)
    )
    np.testing.assert_array_equal(seen, nibabel.orientations.apply_orientation(in_lps, wanted))
