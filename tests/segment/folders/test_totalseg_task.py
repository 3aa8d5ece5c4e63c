"""TotalSegmentator's lesion tasks: the library's own mask as a probability; what is missing named first."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.folder_models import bright_detector, build, plans, write_nnunet
from helpers.phantoms import phantom as drawn

from r2seg_agent.errors import InputError, MissingDependencyError
from r2seg_agent.phantom import LesionSpec, Phantom
from r2seg_agent.reason.anchors.totalseg.image import to_nifti
from r2seg_agent.reason.anchors.totalseg.networks import NetworkPool
from r2seg_agent.reason.anchors.totalseg.run import TaskRunner
from r2seg_agent.reason.anchors.totalseg.tasks import task_spec
from r2seg_agent.segment.catalogue.entries import fetch_command_of_task
from r2seg_agent.segment.folders.spec import parse_spec
from r2seg_agent.segment.folders.totalseg_task import TotalSegTask, lesion_tasks
from r2seg_agent.segment.registry import segmenter

TINY = Path(__file__).parents[2] / "data" / "tiny_totalseg"


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    lesion = LesionSpec("liver", volume_ml=20.0, contrast=90.0)
    return drawn(11, spacing_mm=(5.0, 4.0, 4.0), shape=(60, 72, 100), shift_mm=(-60.0, 0.0, 0.0), lesions=(lesion,))


@pytest.fixture
def weights(tmp_path: Path, phantom: Phantom) -> Path:
    """The tiny rough network, and a hand-made one for `liver_vessels` in TotalSegmentator's layout."""
    root = tmp_path / "weights"
    shutil.copytree(TINY, root)
    spec = task_spec("liver_vessels")
    plan = plans((5.0, 4.0, 4.0), (32, 32, 32), ["CTNormalization"], name=spec.sets[0].folder)
    network = build(plan, 1, 3)
    liver_hu = float(np.median(phantom.volume.array[phantom.organ("liver") & ~phantom.lesions[0]]))
    bright_detector(network, channel=0, output=2, threshold=(liver_hu + 45.0) / 100.0)
    with torch.no_grad():
        network.decoder.seg_layers[-1].bias[1] = -20.0  # no vessels: two classes compete, so argmax means p > 1/2
    write_nnunet(
        root / spec.sets[0].folder / spec.sets[0].model_folder,
        {"fold_0": network},
        plan,
        labels={"background": 0, "liver_vessels": 1, "liver_tumor": 2},
        extra={"r2seg_stand_in": True},
    )
    return root


def test_it_gives_the_librarys_own_mask_with_probabilities(weights: Path, phantom: Phantom) -> None:
    network = TotalSegTask(parse_spec("liver_vessels", "totalseg"), weights)
    network.check()
    volume = phantom.volume
    found = network.probabilities(volume, volume.geometry.full_box)
    assert set(found) == {"liver_tumor"}
    pool = NetworkPool(weights, "cpu")
    runner = TaskRunner(
        to_nifti(volume), lambda which, part, mm, step: pool.segment(which, part, mm, step, lambda *_: None)
    )
    theirs = runner.labels(task_spec("liver_vessels")).transpose(2, 1, 0) == 2
    assert theirs[phantom.lesions[0]].mean() > 0.5, "the network must find something for this to prove anything"
    np.testing.assert_array_equal(found["liver_tumor"] >= 0.5, theirs)
    assert 0.0 < found["liver_tumor"][theirs].mean() < 1.0
    info = network.info
    assert info.stand_in
    assert "tiny" in info.name
    assert info.weights_sha256 is not None


def test_the_answer_for_a_scan_is_kept(weights: Path, phantom: Phantom, monkeypatch: pytest.MonkeyPatch) -> None:
    network = TotalSegTask(parse_spec("liver_vessels", "totalseg"), weights)
    box = phantom.volume.geometry.full_box
    whole = network.probabilities(phantom.volume, box)["liver_tumor"]
    monkeypatch.setattr(network._running, "of", None)
    again = network.probabilities(phantom.volume, box)["liver_tumor"]
    assert again.base is whole.base or np.shares_memory(again, whole)


def test_missing_weights_are_named_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(tmp_path))
    with pytest.raises(MissingDependencyError, match=r"totalseg:liver_lesions.*\n.*set 297.*\n.*set 591") as caught:
        segmenter("totalseg:liver_lesions").check("CT")
    assert "totalseg_download_weights -t liver_lesions" in caught.value.hint
    with pytest.raises(InputError, match="made for CT, the image is MR"):
        segmenter("totalseg:liver_lesions").check("MR")


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        ("coronary_arteries", "bound to a licence"),
        ("total", "is no lesion task"),
        ("lung_vessels", "it segments organs"),
        ("pleural_pericard_effusion", "knows no target"),
        ("gizzard", "no such task"),
    ],
)
def test_tasks_that_are_no_lesion_tasks(task: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason) as caught:
        segmenter(f"totalseg:{task}")
    assert "totalseg:lung_nodules" in caught.value.hint


def test_the_tasks_and_their_targets() -> None:
    targets = {
        task: sorted({c for own in TotalSegTask(parse_spec(task, "totalseg")).table.wanted for c in own.concepts})
        for task in lesion_tasks()
    }
    assert targets == {
        "cerebral_bleed": ["cerebral_hemorrhage"],
        "kidney_cysts": ["kidney_cyst"],
        "liver_lesions": ["liver_lesion"],
        "liver_lesions_mr": ["liver_lesion"],
        "liver_vessels": ["liver_lesion"],
        "lung_nodules": ["lung_nodule"],
    }


def test_a_class_that_no_table_knows_can_be_given_a_target() -> None:
    network = TotalSegTask(parse_spec("pleural_pericard_effusion#pleural_effusion=pleural_lesion", "totalseg"))
    assert network.table.answering("pleural_lesion")[0].name == "pleural_effusion"


def test_a_class_that_the_table_knows_can_be_given_another_target() -> None:
    network = TotalSegTask(parse_spec("cerebral_bleed#intracerebral_hemorrhage=brain_lesion", "totalseg"))
    assert network.table.answering("brain_lesion")[0].name == "intracerebral_hemorrhage"


def test_a_bleed_in_the_brain_answers_a_search_for_any_intracranial_hemorrhage() -> None:
    network = TotalSegTask(parse_spec("cerebral_bleed", "totalseg"))
    assert network.table.answering("intracranial_hemorrhage")[0].name == "intracerebral_hemorrhage"


OUTSIDE_THE_CATALOGUE = "pleural_pericard_effusion#pleural_effusion=pleural_lesion"


@pytest.mark.parametrize(("task", "named"), [("lung_nodules", True), (OUTSIDE_THE_CATALOGUE, False)])
def test_missing_weights_name_the_command_only_where_the_catalogue_has_them(
    tmp_path: Path, task: str, named: bool
) -> None:
    with pytest.raises(MissingDependencyError) as caught:
        TotalSegTask(
            parse_spec(task, "totalseg"),
            weights_dir=tmp_path,
            fetch_command=fetch_command_of_task(task.partition("#")[0]),
        ).check()
    assert ("r2seg models fetch totalseg-" in caught.value.hint) == named
