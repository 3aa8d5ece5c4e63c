"""`--anchors nnunet:PATH` and `bundle:PATH`: organs out of the classes of a model, through the whole search."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.bundle_models import write_bundle
from helpers.organ_models import GEOMETRY, OrganCase, ball, make_abdomen, organ_bundle, organ_nnunet
from torch import nn

from r2seg_agent.doctor import examine
from r2seg_agent.errors import InputError
from r2seg_agent.files import file_sha256
from r2seg_agent.imaging.geometry import Geometry
from r2seg_agent.imaging.itk import write_itk
from r2seg_agent.imaging.read import read_image
from r2seg_agent.imaging.volume import Modality, Volume
from r2seg_agent.reason.anchors.protocol import AnchorSource
from r2seg_agent.runs.loaded import LoadedModels
from r2seg_agent.segment.anchor_sources import anchor_source
from r2seg_agent.segment.folders.classes import class_table


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> OrganCase:
    """An abdomen: liver, gallbladder, one lesion."""
    return make_abdomen(tmp_path_factory.mktemp("abdomen"))


def _scan(case: OrganCase) -> Volume:
    return read_image(str(case.folder / "ct.nii.gz"), modality="CT")


def _dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2.0 * float((a & b).sum()) / float(a.sum() + b.sum())


def test_one_nnunet_folder_is_anchors_and_segmenter(case: OrganCase, tmp_path: Path) -> None:
    spec = f"nnunet:{organ_nnunet(tmp_path / 'model')}"
    report = case.find(spec, segmenter=spec)
    assert report.outcome == "lesions_found"
    assert report.truth is not None
    assert report.truth.lesions[0].dice > 0.6
    source = report.anchor_source
    assert source is not None
    assert (source.kind, source.stand_in, source.name) == ("model", True, "nnunet:Dataset903_Organs")
    assert source.weights_sha256 == file_sha256(tmp_path / "model" / "fold_0" / "checkpoint_final.pth")
    assert source.settings["organs"] == "liver=liver"
    assert source.settings["left_out"] == "widget"
    assert any("widget is no organ that the organ table knows" in caution.text for caution in report.warnings)
    assert str(tmp_path) not in report.model_dump_json()
    trace = case.folder / "ws" / "runs" / report.run_id / "trace.jsonl"
    assert str(tmp_path) not in trace.read_text()


def test_a_lesion_class_is_no_anchor_but_part_of_its_organ(case: OrganCase, tmp_path: Path) -> None:
    found = anchor_source(f"nnunet:{organ_nnunet(tmp_path / 'm')}").locate(_scan(case), ("liver",))
    assert set(found.names) == {"liver"}
    liver = found.mask("liver")
    assert _dice(liver, case.masks["liver"]) > 0.93
    assert liver[case.masks["lesion"]].mean() > 0.98, "a lesion is not a hole of its organ"


def test_a_bundle_gives_organs_to_another_segmenter(case: OrganCase, tmp_path: Path) -> None:
    bundle = organ_bundle(tmp_path / "b", {"Liver": 100.0, "Gall Bladder": 20.0, "liver tumor": 180.0})
    report = case.find(f"bundle:{bundle}#trust")
    assert report.outcome == "lesions_found"
    assert report.truth is not None
    assert report.truth.lesions[0].dice > 0.6
    assert report.segmenter is not None
    assert report.segmenter.name == "contrast"
    found = anchor_source(f"bundle:{bundle}#trust").locate(_scan(case), ("liver",))
    assert set(found.names) == {"liver", "gallbladder"}
    for organ in found.names:
        assert _dice(found.mask(organ), case.masks[organ]) > 0.85


def test_a_model_folder_is_loaded_once_for_both(tmp_path: Path) -> None:
    spec, loaded = f"nnunet:{organ_nnunet(tmp_path / 'm')}", LoadedModels()
    segmenter, source = loaded.segmenter(spec), loaded.anchor_source(spec)
    assert source._network is segmenter.network  # type: ignore[attr-defined]


def test_stated_organs_win_and_tell_what_a_number_means(case: OrganCase, tmp_path: Path) -> None:
    bundle = organ_bundle(tmp_path / "b", {"label_6": 100.0, "label_7": 180.0})
    with pytest.raises(InputError, match=r"hold no organ; the plan needs `liver`.*label_6 \(no known target\)"):
        case.find(f"bundle:{bundle}#trust")
    source = anchor_source(f"bundle:{bundle}#trust#label_6=liver#label_7=liver_lesion")
    assert source.organs("CT") == {"liver"}
    assert source.info.settings["organs"] == "label_6=liver"
    assert source.locate(_scan(case), ("liver",)).mask("liver")[case.masks["lesion"]].mean() > 0.95
    with pytest.raises(InputError, match=r"no target of the concept table") as caught:
        _ = anchor_source(f"bundle:{bundle}#trust#label_6=livver").info
    assert "nearest organs: `liver`" in caught.value.hint


@pytest.mark.parametrize(
    ("modality", "organs", "message"),
    [
        ("MR", ("liver",), "made for CT, the image is MR"),
        ("CT", ("spleen",), "hold `gallbladder`, `liver`; the plan needs `spleen`"),
    ],
)
def test_what_the_model_cannot_give_is_refused_before_it_runs(
    tmp_path: Path, modality: Modality, organs: tuple[str, ...], message: str
) -> None:
    source = anchor_source(f"bundle:{organ_bundle(tmp_path / 'b', {'liver': 100.0, 'gallbladder': 20.0})}#trust")
    with pytest.raises(InputError, match=message):
        source.check(modality, organs)


def test_an_unknown_source_lists_model_folders() -> None:
    with pytest.raises(InputError, match=r"nnunet:PATH, bundle:PATH"):
        anchor_source("nowhere.nii.gz")


def test_classes_of_the_organ_table_by_the_names_that_models_write() -> None:
    names = ["brain", "temporalis", "other_muscles", "skull", "R Kidney", "Gall Bladder", "Postcava", "kidney_cyst"]
    table = class_table("m", names, exclusive=True)
    organs = {c.name: c.organ for c in table.classes}
    assert organs == {
        "brain": "brain",
        "temporalis": "temporalis",
        "other_muscles": "skeletal_muscle",
        "skull": "skull",
        "R Kidney": "kidney_right",
        "Gall Bladder": "gallbladder",
        "Postcava": "inferior_vena_cava",
        "kidney_cyst": None,
    }


class Painted(nn.Module):
    """One logit a class: where its part of `painted` (classes, z, y, x) is and the image is above 0.5."""

    def __init__(self, painted: np.ndarray) -> None:
        super().__init__()
        self.register_buffer("painted", torch.from_numpy(painted.astype(np.float32))[None])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 20.0 * (self.painted * (x[:, :1] > 0.5) - 0.5)


def _painted(folder: Path, painted: dict[str, np.ndarray], **changes: object) -> AnchorSource:
    values = {
        "classes": [{"name": name} for name in painted],
        "channels": [{"name": "CT", "normalisation": {"kind": "window", "low": -1000, "high": 1000}}],
        "input_size": list(GEOMETRY.shape),
        "fit": "resize",
        **changes,
    }
    bundle = write_bundle(folder, Painted(np.stack(list(painted.values()))), **values)
    return anchor_source(f"bundle:{bundle}#trust")


def _volume(array: np.ndarray, geometry: Geometry = GEOMETRY) -> Volume:
    return Volume(array=array.astype(np.int16), geometry=geometry, modality="CT", unit="HU")


def _two_kidneys() -> tuple[np.ndarray, np.ndarray]:
    """(right, left) in an array whose x grows to the patient's left."""
    return ball((72.0, 84.0, 45.0), 25.0), ball((72.0, 84.0, 120.0), 25.0)


def test_the_orientation_of_the_network_is_honoured(tmp_path: Path) -> None:
    """The network says "left" of a half of its input; a scan stored the other way round is the same patient."""
    right, left = _two_kidneys()
    halves = np.zeros((2, *GEOMETRY.shape), dtype=bool)
    halves[0, :, :, :28], halves[1, :, :, 28:] = True, True
    painted = {"kidney_right": halves[0], "kidney_left": halves[1]}
    direction = (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    mirrored = Geometry(shape=GEOMETRY.shape, spacing_mm=GEOMETRY.spacing_mm, direction=direction)
    grey = np.where(right | left, 100, -500)
    lps = _painted(tmp_path / "lps", painted, orientation="LPS")
    stored = _painted(tmp_path / "stored", painted)
    for source, follows_patient in ((lps, True), (stored, False)):
        plain = source.locate(_volume(grey), ("kidney_left", "kidneys"))
        flipped = source.locate(_volume(grey[..., ::-1], mirrored), ("kidney_left",))
        assert np.array_equal(plain.mask("kidney_left"), left)
        assert np.array_equal(plain.mask("kidneys"), left | right), "made of both sides"
        assert np.array_equal(flipped.mask("kidney_left")[..., ::-1], left) == follows_patient


def test_regions_may_overlap_and_a_lesion_goes_to_the_side_that_it_touches(tmp_path: Path) -> None:
    right, left = _two_kidneys()
    cyst = ball((72.0, 84.0, 150.0), 12.0) & ~left
    assert cyst.any()
    far = ball((20.0, 20.0, 80.0), 10.0)
    source = _painted(
        tmp_path / "b",
        {"kidney_right": right, "kidney_left": left, "kidney cyst": cyst | far, "body": right | left | cyst | far},
    )
    found = source.locate(_volume(np.full(GEOMETRY.shape, 100)), ("kidney_left",))
    assert np.array_equal(found.mask("kidney_left"), left | cyst)
    assert np.array_equal(found.mask("kidney_right"), right), "what touches no kidney belongs to none"
    assert np.array_equal(found.mask("body"), right | left | cyst | far)


def test_islands_away_from_the_brain_are_no_brain(tmp_path: Path) -> None:
    brain, island = ball((80.0, 84.0, 84.0), 50.0), ball((12.0, 84.0, 84.0), 8.0)
    source = _painted(tmp_path / "b", {"brain": brain | island, "skull": island})
    found = source.locate(_volume(np.full(GEOMETRY.shape, 100)), ("brain",))
    assert np.array_equal(found.mask("brain"), brain)
    assert np.array_equal(found.mask("skull"), island)


@pytest.mark.parametrize(("radius_mm", "warned"), [(30.0, True), (66.0, False)])
def test_a_brain_of_a_size_that_nobody_has_is_said(tmp_path: Path, radius_mm: float, warned: bool) -> None:
    brain = ball((72.0, 84.0, 84.0), radius_mm)
    grey = np.where(brain, 100, -500) + np.random.default_rng(1).normal(0.0, 5.0, GEOMETRY.shape)
    write_itk(tmp_path / "ct.nii.gz", grey.astype(np.int16), GEOMETRY)
    _painted(tmp_path / "model", {"brain": brain})
    report = OrganCase(tmp_path, {}).find(f"bundle:{tmp_path / 'model'}#trust", "find the brain lesion", truth=None)
    said = [caution.text for caution in report.warnings if caution.kind == "implausible_anchors"]
    assert bool(said) is warned
    assert not warned or "900 to 1900 ml" in said[0]


def test_other_weights_are_another_source_and_another_cache_entry(case: OrganCase, tmp_path: Path) -> None:
    one, other = (f"nnunet:{organ_nnunet(tmp_path / f'm{above:g}', liver_above=above)}" for above in (60.0, 70.0))
    infos = [anchor_source(spec).info_for("CT", ("liver",)) for spec in (one, other)]
    assert infos[0].weights_sha256 != infos[1].weights_sha256
    assert infos[0].model_copy(update={"weights_sha256": None}) == infos[1].model_copy(update={"weights_sha256": None})
    reports = [case.find(spec) for spec in (one, one, other)]
    assert reports[0].run_id == reports[1].run_id != reports[2].run_id


def test_doctor_tells_organs_from_targets(tmp_path: Path) -> None:
    (part,) = examine([f"nnunet:{organ_nnunet(tmp_path / 'm')}"])
    assert part.ready
    assert "liver (an organ), tumor (liver_lesion), widget (no known target)" in part.detail
    assert any(p.kind == "anchors" and "--anchors nnunet:PATH" in p.detail for p in examine())
