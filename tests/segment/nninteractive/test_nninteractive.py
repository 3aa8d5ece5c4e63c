"""The seat of nnInteractive: made-up weights in the layout of version 1.0, on a stand-in and on the real package."""

from __future__ import annotations

import inspect
import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import fake_nninteractive
from helpers.bright_lesion import Case, make_case
from helpers.missing_package import assert_commands_are_named
from helpers.prompted_models import BOX_CHANNEL, POINT_CHANNEL, write_nninteractive

from r2seg_agent.errors import InputError, MissingDependencyError
from r2seg_agent.imaging.geometry import Box, Geometry
from r2seg_agent.imaging.read import read_image
from r2seg_agent.imaging.volume import Modality, Volume
from r2seg_agent.segment.candidates import Region
from r2seg_agent.segment.catalogue.fetch import fetch_model
from r2seg_agent.segment.nninteractive.segmenter import NnInteractiveSegmenter
from r2seg_agent.segment.nninteractive.session import NnInteractiveSession
from r2seg_agent.segment.protocol import OutlinesRegions, Prompt
from r2seg_agent.segment.registry import segmenter

LICENCE = "CC-BY-NC-SA-4.0"
HERE = find_spec("nnInteractive") is not None
NEEDS_PACKAGE = pytest.mark.skipif(not HERE, reason="nnInteractive is not installed")
BOTH = ["stand-in", pytest.param("package", marks=NEEDS_PACKAGE)]


@pytest.fixture(params=BOTH)
def package(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The adapter runs on both."""
    if request.param == "stand-in":
        fake_nninteractive.install(monkeypatch)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_nninteractive.install(monkeypatch)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make_case(tmp_path_factory.mktemp("case"))


def seated(folder: Path) -> NnInteractiveSegmenter:
    return NnInteractiveSegmenter(folder, LICENCE, lambda: None)


def noise(direction: tuple[float, ...] = (1, 0, 0, 0, 1, 0, 0, 0, 1)) -> Volume:
    array = np.random.default_rng(3).normal(50.0, 10.0, (30, 32, 34)).astype(np.float32)
    geometry = Geometry(shape=array.shape, spacing_mm=(2.0, 1.0, 1.0), direction=direction)
    return Volume(array=array, geometry=geometry, modality="CT", unit="HU", name="noise")


@pytest.mark.parametrize(
    "direction",
    [(1, 0, 0, 0, 1, 0, 0, 0, 1), (-1, 0, 0, 0, -1, 0, 0, 0, 1), (0, 0, 1, 1, 0, 0, 0, 1, 0)],
    ids=["LPS", "RAS", "slices along another axis"],
)
@pytest.mark.parametrize("kind", ["box", "points"])
def test_a_prompt_arrives_at_its_voxels_however_the_file_orders_its_axes(
    package: None, kind: str, direction: tuple[float, ...], tmp_path: Path
) -> None:
    model = seated(write_nninteractive(tmp_path / "m", BOX_CHANNEL if kind == "box" else POINT_CHANNEL, 0.2))
    volume, roi = noise(direction), Box(start=(4, 2, 3), stop=(28, 30, 31))
    given: dict[str, Any] = {"box": Box(start=(5, 8, 10), stop=(10, 16, 20))}
    if kind == "points":
        given = {"points": (((7, 12, 15), True),)}
    prompt = Prompt(text="", target="lesion", site="liver", modality="CT", **given)
    (mask,) = model.segment(model.encode(volume, roi), [prompt])
    marked = np.argwhere(mask > 0.5)
    assert set(np.unique(mask)) == {0.0, 1.0}
    middle = (marked.min(axis=0) + marked.max(axis=0)) / 2.0
    # The box is asked for in its middle slice; the network's 3 x 3 x 3 mean blurs by a voxel.
    np.testing.assert_allclose(middle, (7, 11.5, 14.5) if kind == "box" else (7, 12, 15), atol=1.0)
    extent = np.ptp(marked, axis=0) + 1
    assert extent[0] <= (3 if kind == "box" else 11)
    if kind == "box":
        assert extent[1] == pytest.approx(8, abs=2)
        assert extent[2] == pytest.approx(10, abs=2)


def test_the_same_image_is_shown_once_and_another_prompt_begins_anew(package: None, tmp_path: Path) -> None:
    model = seated(write_nninteractive(tmp_path / "m", BOX_CHANNEL, 0.2))
    volume = noise()
    first, second = (
        Prompt(text="", target="lesion", site="liver", modality="CT", box=Box(start=(z, 8, 10), stop=(z + 1, 16, 20)))
        for z in (6, 20)
    )
    encoded = model.encode(volume, volume.geometry.full_box)
    answers = model.segment(encoded, [first, second, first])
    np.testing.assert_array_equal(answers[0], answers[2])
    assert not (answers[0] * answers[1]).any(), "nothing of an earlier prompt is left"


@pytest.fixture
def bright(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The model's files as a server has them: its network marks what is as bright as the lesion of `case`."""
    monkeypatch.setenv("R2SEG_CACHE", str(tmp_path / "cache"))
    grey = read_image(str(case.folder / "ct.nii.gz"), modality="CT").array.astype(np.float64)
    return write_nninteractive(tmp_path / "files", 0, (case.threshold_hu - grey.mean()) / grey.std())


@pytest.mark.parametrize("mode", ["auto", "paper"])
def test_fetched_by_name_it_outlines_ranked_regions_or_draws_masks_for_the_paper_mode(
    package: None, mode: str, bright: Path, case: Case, tmp_path: Path
) -> None:
    fetch_model("nninteractive", origin=str(bright), accepted=[LICENCE])
    report = case.find("nninteractive", workspace=tmp_path / "ws", reject=mode, overlays=False, rounds=1)
    assert report.reject is not None
    assert report.reject.mode == ("reference" if mode == "auto" else "paper")
    assert report.segmenter is not None
    assert (report.segmenter.name, report.segmenter.licence) == ("nninteractive", LICENCE)
    assert report.segmenter.weights_sha256 is not None
    assert report.outcome == "lesions_found"
    assert report.truth is not None
    assert report.truth.lesions[0].dice > 0.6


def test_its_outline_takes_the_place_of_the_regions_own(package: None, tmp_path: Path) -> None:
    volume = noise()
    z, y, x = np.indices(volume.array.shape)
    ball = (z - 14) ** 2 + (y - 15) ** 2 + (x - 16) ** 2 <= 36
    volume = replace(volume, array=volume.array + np.float32(300.0) * ball)
    model = seated(write_nninteractive(tmp_path / "m", 0, 2.9))
    assert isinstance(model, OutlinesRegions)
    box = volume.geometry.full_box
    rough = np.roll(ball, 3, axis=2)  # a region that was proposed beside the lesion
    regions = [Region(box=box, mask=rough, probability=rough.astype(np.float32), scale=1.0)] * 2
    first, second = model.outline(volume, None, regions, lambda *_: None)
    whole = np.zeros(ball.shape, dtype=bool)
    whole[first.box.slices] = first.mask
    dice = 2 * np.count_nonzero(whole & ball) / (np.count_nonzero(whole) + np.count_nonzero(ball))
    assert dice > 0.9
    assert 2 * np.count_nonzero(rough & ball) / (2 * np.count_nonzero(ball)) < 0.7
    assert not second.mask[first.box.within(second.box).slices][first.mask].any(), "a voxel belongs to one finding"


def test_weights_that_take_no_boxes_are_asked_by_points(stand_in: None, tmp_path: Path) -> None:
    folder = write_nninteractive(tmp_path / "m", POINT_CHANNEL, 0.2)
    (folder / "inference_info.json").write_text(json.dumps({"supported_interactions": {"bbox2d": False}}))
    mask = np.ones((5, 5, 5), dtype=bool)
    region = Region(Box(start=(10, 10, 10), stop=(15, 15, 15)), mask, mask.astype(np.float32), 1.0)
    (found,) = seated(folder).outline(noise(), None, [region], lambda *_: None)
    assert found.mask.any()
    assert not NnInteractiveSession(folder).takes_boxes


def test_the_first_releases_file_that_names_a_class_alone_is_understood(package: None, tmp_path: Path) -> None:
    folder = write_nninteractive(tmp_path / "m", BOX_CHANNEL, 0.2)
    (folder / "inference_session_class.json").write_text('"nnInteractiveInferenceSession"')
    session = NnInteractiveSession(folder)
    session.show(noise().array)
    assert session.draw(Box(start=(6, 8, 10), stop=(7, 16, 20))).any()


def test_it_prints_nothing_and_leaves_torch_as_it_was(
    package: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    threads, benchmark = torch.get_num_threads(), torch.backends.cudnn.benchmark
    model = seated(write_nninteractive(tmp_path / "m", BOX_CHANNEL, 0.2))
    prompt = Prompt(text="", target="", site="", modality="CT", box=Box(start=(6, 8, 10), stop=(7, 16, 20)))
    volume = noise()
    assert model.segment(model.encode(volume, volume.geometry.full_box), [prompt]).any()
    assert capsys.readouterr().out == ""
    assert (torch.get_num_threads(), torch.backends.cudnn.benchmark) == (threads, benchmark)


class _Runs:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("code of a stranger",))


@pytest.mark.parametrize("fault", ["pickle", "plans", "other network", "other class", "page", "no table"])
def test_files_that_are_no_such_model_are_refused_and_nothing_of_them_runs(
    stand_in: None, fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("R2SEG_CACHE", str(tmp_path / "cache"))
    folder = write_nninteractive(tmp_path / "m", 0, 1.0)
    checkpoint = folder / "fold_0" / "checkpoint_final.pth"
    if fault == "pickle":
        torch.save({"network_weights": _Runs(), "init_args": {}, "trainer_name": "x"}, checkpoint)
    elif fault == "plans":
        text = (folder / "plans.json").read_text()
        (folder / "plans.json").write_text(text.replace("torch.nn.LeakyReLU", "os.system"))
    elif fault == "other network":
        found = torch.load(checkpoint, weights_only=False)
        found["network_weights"].popitem()
        torch.save(found, checkpoint)
    elif fault == "other class":
        (folder / "inference_info.json").write_text(json.dumps({"inference_class": "AnotherSession"}))
        with pytest.raises(MissingDependencyError, match="AnotherSession"):
            NnInteractiveSession(folder)
        return
    elif fault == "page":
        (folder / "dataset.json").write_text("<!DOCTYPE html>")
    else:
        (folder / "inference_session_class.json").write_text("[1]")
    with pytest.raises(MissingDependencyError, match="what arrived for `nninteractive` cannot be used"):
        fetch_model("nninteractive", origin=str(folder), accepted=[LICENCE])
    assert "stranger" not in capsys.readouterr().out


@pytest.mark.parametrize("modality", ["US", "XR", "photo"])
def test_images_that_it_was_not_made_for_are_refused_before_long_work(modality: Modality, tmp_path: Path) -> None:
    model = seated(tmp_path)
    with pytest.raises(InputError, match="made for CT, MR, PT"):
        model.check(modality)
    flat = Volume(
        array=np.ones((1, 8, 8), np.float32),
        geometry=Geometry(shape=(1, 8, 8), spacing_mm=(1.0, 1.0, 1.0)),
        modality="CT",
        unit="HU",
        name="slice",
    )
    with pytest.raises(InputError, match="needs a volume"):
        model.check_scan(flat)


def test_an_image_of_zeros_is_refused(stand_in: None, tmp_path: Path) -> None:
    session = NnInteractiveSession(write_nninteractive(tmp_path / "m", 0, 1.0))
    with pytest.raises(InputError, match="zeros"):
        session.show(np.zeros((4, 4, 4), np.float32))


def test_without_package_or_weights_the_commands_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_commands_are_named("nninteractive", "nnInteractive", "2.6.0", monkeypatch, tmp_path, capsys)


def test_it_has_no_parts_and_is_not_chosen_by_itself(
    stand_in: None, bright: Path, case: Case, monkeypatch: Any
) -> None:
    from r2seg_agent.segment.auto import choose_segmenter, models_here

    monkeypatch.delenv("R2SEG_SEGMENTER")
    fetch_model("nninteractive", origin=str(bright), accepted=[LICENCE])
    with pytest.raises(InputError, match="takes no parts"):
        segmenter("nninteractive#0")
    volume = read_image(str(case.folder / "ct.nii.gz"), modality="CT")
    assert choose_segmenter(volume, (), segmenter).spec == "contrast"
    assert "nninteractive" not in models_here()


@NEEDS_PACKAGE
def test_the_stand_in_has_the_signatures_of_the_package() -> None:
    from nnInteractive.inference import inference_session
    from nnInteractive.interaction import point

    fake = fake_nninteractive.nnInteractiveInferenceSession
    for name, function in inspect.getmembers(fake, inspect.isfunction):
        if name.startswith("_") and name != "__init__":
            continue
        real = getattr(inference_session.nnInteractiveInferenceSession, name)
        assert list(inspect.signature(function).parameters) == list(inspect.signature(real).parameters), name
    ours, theirs = (
        inspect.signature(cls.__init__).parameters
        for cls in (fake_nninteractive.PointInteraction_stub, point.PointInteraction_stub)
    )
    assert list(ours)[:3] == list(theirs)[:3]
