"""A model is fetched from a mirror on loopback and then searches a phantom, without the mirror."""

from __future__ import annotations

import hashlib

import pytest
from helpers.bright_lesion import Case
from helpers.model_mirror import Mirror

from r2seg_agent.doctor import examine
from r2seg_agent.errors import InputError, MissingDependencyError
from r2seg_agent.segment.catalogue.fetch import fetch_model
from r2seg_agent.segment.registry import segmenter

NC = "CC-BY-NC-SA-4.0"


@pytest.mark.parametrize("name", ["panther", "tiny-bundle"])
def test_a_fetched_model_finds_the_lesion_and_its_hash_is_part_of_the_run(
    name: str, mirror: Mirror, case: Case
) -> None:
    (folder,) = fetch_model(name, origin=mirror.server.address, accepted=[NC]).folders
    requests = len(mirror.server.seen)
    parts = "#0,1#nomirror" if name == "panther" else ""
    report = case.find(name + parts, workspace=mirror.cache / "ws")
    assert len(mirror.server.seen) == requests, "offline afterwards"
    assert report.outcome == "lesions_found"
    assert report.truth is not None
    assert report.truth.lesions[0].dice > 0.6
    assert report.segmenter is not None
    kind = "nnunet:panther" if name == "panther" else "bundle:tiny"
    assert report.segmenter.name == kind
    if name == "tiny-bundle":
        expected = hashlib.sha256((folder / "model.ts").read_bytes()).hexdigest()
    else:
        hashes = [
            hashlib.sha256((folder / f"fold_{n}" / "checkpoint_final.pth").read_bytes()).hexdigest() for n in (0, 1)
        ]
        expected = hashlib.sha256("|".join(hashes).encode()).hexdigest()
    assert report.segmenter.weights_sha256 == expected
    assert str(mirror.cache) not in report.model_dump_json()


def test_a_model_that_is_not_here_is_named_with_the_command_before_long_work(mirror: Mirror, case: Case) -> None:
    with pytest.raises(MissingDependencyError, match=r"`panther` \(1.2 GB, licence Apache-2.0\) is not on") as caught:
        case.find("panther", workspace=mirror.cache / "ws")
    assert caught.value.hint == "Run `r2seg models fetch panther`."


def test_a_model_changed_after_it_was_fetched_does_not_run(mirror: Mirror, case: Case) -> None:
    (folder,) = fetch_model("tiny-bundle", origin=mirror.server.address, accepted=[NC]).folders
    manifest = folder / "bundle.json"
    manifest.write_text(manifest.read_text().replace("300.0", "301.0"))
    with pytest.raises(MissingDependencyError, match=r"`bundle.json` of the model `tiny-bundle` is damaged"):
        case.find("tiny-bundle", workspace=mirror.cache / "ws")


def test_a_listed_model_that_nothing_here_runs_says_so_and_unknown_names_list_the_others(mirror: Mirror) -> None:
    with pytest.raises(InputError, match="no segmenter of r2seg.*No plug-in exists yet"):
        segmenter("medsam2-ct-lesion")
    with pytest.raises(InputError, match="there is no segmenter `nothing`.*panther.*totalseg-lung-nodules"):
        segmenter("nothing")


def test_the_doctor_names_missing_models_with_their_command_and_checks_those_that_are_here(mirror: Mirror) -> None:
    fetch_model("tiny-bundle", origin=mirror.server.address, accepted=[NC])
    parts = {part.name: part for part in examine()}
    assert parts["tiny-bundle"].ready
    assert not parts["panther"].ready
    assert parts["panther"].fix == "r2seg models fetch panther"
    assert parts["totalseg:lung_nodules"].fix == "r2seg models fetch totalseg-lung-nodules"
    assert parts["totalsegmentator:full MR"].fix == "r2seg models fetch totalsegmentator-mr"
    assert examine(["tiny-bundle"])[0].detail.endswith("classes: liver tumor (liver_lesion)")
