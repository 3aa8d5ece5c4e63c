"""The seat of VoxTell: made-up weights in the layout of version 1.1, on a stand-in and on the real package."""

from __future__ import annotations

import inspect
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from helpers import fake_voxtell
from helpers.bright_lesion import Case, make_case
from helpers.missing_package import assert_commands_are_named
from helpers.prompted_models import TEXT, WINDOW, write_voxtell

from r2seg_agent.errors import InputError, MissingDependencyError
from r2seg_agent.imaging.geometry import Box, Geometry
from r2seg_agent.imaging.read import read_image
from r2seg_agent.imaging.volume import Modality, Volume
from r2seg_agent.segment.catalogue.fetch import fetch_model
from r2seg_agent.segment.protocol import KnowsTargets, OutlinesRegions, Prompt
from r2seg_agent.segment.registry import segmenter
from r2seg_agent.segment.voxtell.segmenter import VoxTellSegmenter
from r2seg_agent.segment.voxtell.words import TextBank, wordings

LICENCE = "CC-BY-NC-SA-4.0"
HERE = find_spec("voxtell") is not None
NEEDS_PACKAGE = pytest.mark.skipif(not HERE, reason="voxtell is not installed")


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_voxtell.install(monkeypatch)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make_case(tmp_path_factory.mktemp("case"))


def seated(folder: Path) -> VoxTellSegmenter:
    return VoxTellSegmenter(folder, LICENCE, lambda: None)


def asked(concept: str, **more: Any) -> Prompt:
    return Prompt(text="", target="", site="", modality="CT", concept=concept, **more)


def noise(
    shape: tuple[int, int, int] = (30, 34, 38), direction: tuple[float, ...] = (1, 0, 0, 0, 1, 0, 0, 0, 1)
) -> Volume:
    array = np.random.default_rng(3).normal(50.0, 10.0, shape).astype(np.float32)
    geometry = Geometry(shape=shape, spacing_mm=(2.0, 1.0, 1.0), direction=direction)
    return Volume(array=array, geometry=geometry, modality="CT", unit="HU", name="noise")


@pytest.mark.parametrize(
    "direction",
    [(1, 0, 0, 0, 1, 0, 0, 0, 1), (-1, 0, 0, 0, -1, 0, 0, 0, 1), (0, 0, 1, 1, 0, 0, 0, 1, 0)],
    ids=["LPS", "RAS", "slices along another axis"],
)
def test_each_prompt_is_answered_by_its_own_words_on_the_voxels_of_the_roi(
    stand_in: None, direction: tuple[float, ...], tmp_path: Path
) -> None:
    texts = {"liver lesion": [1.0, 1.0], "kidney cyst": [-1.0, 1.0]}
    model = seated(write_voxtell(tmp_path / "m", texts))
    volume = noise(direction=direction)
    roi = Box(start=(3, 5, 2), stop=(20, 30, 25))
    bright, dark = model.segment(model.encode(volume, roi), [asked("liver_lesion"), asked("kidney_cyst")])
    z = (volume.array - volume.array.mean()) / volume.array.std()
    np.testing.assert_allclose(bright, 1 / (1 + np.exp(-8 * (z - 1)))[roi.slices], atol=1e-4)
    np.testing.assert_allclose(dark, 1 / (1 + np.exp(-8 * (-z - 1)))[roi.slices], atol=1e-4)
    assert bright.dtype == np.float32


def test_grey_values_are_scaled_by_the_box_of_what_is_not_zero_and_nothing_is_found_outside(
    stand_in: None, tmp_path: Path
) -> None:
    model = seated(write_voxtell(tmp_path / "m", {"liver lesion": [1.0, 0.5]}))
    volume = noise()
    array = np.zeros_like(volume.array)
    inside = (slice(4, 26), slice(6, 30), slice(5, 33))
    array[inside] = volume.array[inside]
    volume = replace(volume, array=array)
    (found,) = model.segment(model.encode(volume, volume.geometry.full_box), [asked("liver_lesion")])
    body = array[inside]
    np.testing.assert_allclose(
        found[inside], 1 / (1 + np.exp(-8 * ((body - body.mean()) / body.std() - 0.5))), atol=1e-4
    )
    assert found.sum() == pytest.approx(found[inside].sum())
    empty = replace(volume, array=np.zeros_like(array))
    with pytest.raises(InputError, match="zeros"):
        model.segment(model.encode(empty, Box(start=(0, 0, 0), stop=(4, 4, 4))), [asked("liver_lesion")])


def test_the_wording_of_a_target_is_its_kind_and_place_with_the_side_first() -> None:
    assert wordings("liver_lesion")[:3] == ("liver lesion", "liver nodule", "liver tumor")
    assert wordings("kidney_cyst", "left")[0] == "left kidney cyst"
    assert "kidney cyst" in wordings("kidney_cyst", "left")
    assert wordings("glioma")[0] == "glioma"
    assert "dysplastic nodule" not in wordings("liver_lesion"), "a synonym that is a part of the target"


def test_a_target_that_no_text_names_is_refused_before_long_work_with_the_nearest(
    stand_in: None, tmp_path: Path
) -> None:
    from r2seg_agent.reason.language.plan_request import plan_request

    model = seated(write_voxtell(tmp_path / "m", {"Liver Tumor": [1.0], "liver vessel": [1.0]}))
    assert isinstance(model, KnowsTargets)
    (liver,), (kidney,) = (plan_request(f"find the {what}", "CT").plans for what in ("liver lesion", "kidney cyst"))
    model.check_plan(liver)
    with pytest.raises(InputError, match=r"none for `kidney_cyst` \(looked for: kidney cyst.*nearest: ") as caught:
        model.check_plan(kidney)
    assert "8 GB" in caught.value.hint


def test_fetched_by_name_it_finds_the_lesion_and_is_judged_in_the_paper_mode(
    stand_in: None, case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("R2SEG_CACHE", str(tmp_path / "cache"))
    grey = read_image(str(case.folder / "ct.nii.gz"), modality="CT").array.astype(np.float64)
    threshold = float((case.threshold_hu - grey.mean()) / grey.std())
    files = write_voxtell(tmp_path / "files", {"liver lesion": [1.0, threshold]})
    fetch_model("voxtell", origin=str(files), accepted=[LICENCE])
    report = case.find("voxtell", workspace=tmp_path / "ws", overlays=False, rounds=1)
    assert report.reject is not None
    assert report.reject.mode == "paper"
    assert report.segmenter is not None
    assert (report.segmenter.name, report.segmenter.licence) == ("voxtell", LICENCE)
    assert report.outcome == "lesions_found"
    assert report.truth is not None
    assert report.truth.lesions[0].dice > 0.6
    assert not isinstance(segmenter("voxtell"), OutlinesRegions)
    with pytest.raises(InputError, match="cannot outline regions"):
        case.find("voxtell", workspace=tmp_path / "ws2", reject="reference", overlays=False)
    # Other texts make another segmenter: a calibration of these does not serve those.
    first = segmenter("voxtell").info
    table = tmp_path / "cache" / "models" / "voxtell" / "text_embeddings.npz"
    np.savez(table, labels=np.array(["liver lesion"]), embeddings=np.ones((1, TEXT), np.float16))
    assert segmenter("voxtell").info.settings["tables_sha256"] != first.settings["tables_sha256"]
    with pytest.raises(MissingDependencyError, match="damaged"):
        segmenter("voxtell").check("CT")


class _Runs:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("code of a stranger",))


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("pickle", "cannot be loaded as plain weights"),
        ("layer", "which is no layer of torch.nn"),
        ("argument", "which its network does not take"),
        ("network", "does not fit its network"),
        ("table", "is no table of text embeddings"),
        ("objects", "is no table of text embeddings"),
        ("widths", "its table has 5"),
        ("plans", "has no architecture"),
        ("window", "`patch_size`"),
    ],
)
def test_files_that_are_no_such_model_are_refused_and_nothing_of_them_runs(
    stand_in: None, fault: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.setenv("R2SEG_CACHE", str(tmp_path / "cache"))
    changes = {"layer": {"nonlin": "os.system"}, "argument": {"colour": 3}}.get(fault, {})
    folder = write_voxtell(tmp_path / "m", {"liver lesion": [1.0]}, **changes)
    checkpoint, table = folder / "fold_0" / "checkpoint_final.pth", folder / "text_embeddings.npz"
    if fault == "pickle":
        torch.save({"network_weights": _Runs(), "init_args": {}, "trainer_name": "x"}, checkpoint)
    elif fault == "network":
        found = torch.load(checkpoint, weights_only=False)
        found["network_weights"].pop("project_text_embed.2.bias")
        torch.save(found, checkpoint)
    elif fault == "table":
        table.write_text("<!DOCTYPE html>")
    elif fault == "objects":
        np.savez(table, labels=np.array([_Runs()], dtype=object), embeddings=np.ones((1, TEXT)))
    elif fault == "widths":
        np.savez(table, labels=np.array(["liver lesion"]), embeddings=np.ones((1, 5)))
    elif fault == "plans":
        (folder / "plans.json").write_text("{}")
    elif fault == "window":
        text = (folder / "plans.json").read_text().replace(f'"patch_size": [{WINDOW}', '"patch_size": [9999999')
        (folder / "plans.json").write_text(text)
    with pytest.raises(MissingDependencyError, match=f"what arrived for `voxtell` cannot be used.*{why}"):
        fetch_model("voxtell", origin=str(folder), accepted=[LICENCE])
    assert "stranger" not in capsys.readouterr().out


@pytest.mark.parametrize("modality", ["US", "XR", "photo"])
def test_images_that_it_was_not_made_for_are_refused_before_long_work(modality: Modality, tmp_path: Path) -> None:
    model = seated(tmp_path)
    with pytest.raises(InputError, match="made for CT, MR, PT"):
        model.check(modality)
    with pytest.raises(InputError, match="needs a volume"):
        model.check_scan(noise((1, 8, 8)))


def test_without_package_or_weights_the_commands_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_commands_are_named("voxtell", "voxtell", "0.1.2", monkeypatch, tmp_path, capsys)


def test_a_table_is_read_without_pickles(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", labels=np.array(["  Liver Tumor "]), embeddings=np.eye(1, 4, dtype=np.float16))
    bank = TextBank(tmp_path / "t.npz")
    assert bank.words_for("liver_lesion") == "liver tumor"
    assert bank.vector("liver tumor").tolist() == [1.0, 0.0, 0.0, 0.0]


@NEEDS_PACKAGE
def test_the_stand_in_has_the_signatures_of_the_package() -> None:
    from voxtell.model.voxtell_model import VoxTellModel

    for name in ("__init__", "forward"):
        ours, theirs = (
            inspect.signature(getattr(c, name)).parameters for c in (fake_voxtell.VoxTellModel, VoxTellModel)
        )
        assert list(ours) == list(theirs)
    for stage, config in fake_voxtell.VoxTellModel.DECODER_CONFIGS.items():
        assert VoxTellModel.DECODER_CONFIGS[stage]["channels"] == config["channels"]


@NEEDS_PACKAGE
def test_the_answer_is_that_of_the_packages_own_predictor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from voxtell.model.voxtell_model import VoxTellModel

    # Windows of 64 instead of 192 voxels: the text attends to 4 x 4 x 4 places.
    monkeypatch.setitem(VoxTellModel.DECODER_CONFIGS[4], "shape", (4, 4, 4))
    language = ModuleType("transformers")
    language.AutoModel = language.AutoTokenizer = None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "transformers", language)
    from voxtell.inference.predictor import VoxTellPredictor

    texts = {"liver lesion": [1.0, -2.0, 0.5], "kidney cyst": [-1.0, 0.3, 2.0, 1.0]}
    model = seated(write_voxtell(tmp_path / "m", texts, window=64))
    volume = noise((40, 70, 60))
    prompts = [asked("liver_lesion"), asked("kidney_cyst")]
    ours = model.segment(model.encode(volume, volume.geometry.full_box), prompts)
    predictor = VoxTellPredictor.__new__(VoxTellPredictor)
    from nnunetv2.preprocessing.normalization.default_normalization_schemes import ZScoreNormalization

    predictor.device, predictor.patch_size = torch.device("cpu"), [64] * 3
    predictor.normalization = ZScoreNormalization(intensityproperties={})
    predictor.tile_step_size, predictor.perform_everything_on_device = 0.5, True
    predictor.network = model.load()._network
    ras = volume.array[:, ::-1, ::-1].copy()  # its reader turns LPS to RAS, arrays (z, y, x)
    data, _, _ = predictor.preprocess(ras)
    vectors = torch.from_numpy(np.stack([model.bank.vector(text) for text in texts]))[None]
    theirs = predictor.predict_sliding_window_return_logits(data, vectors).float().sigmoid().numpy()
    # The package adds up in half precision, which shows where one window's weight is smallest: in the corners.
    apart = np.abs(ours - theirs[:, :, ::-1, ::-1])
    assert (np.quantile(apart, 0.999), apart.mean()) < (0.01, 0.001)
    assert apart.max() < 0.05
    assert theirs.std() > 0.02
