"""The segmenter: boxes from prompts and proposals, one encoding per slice, and the whole search with a tiny network."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import torch
from helpers.lite_medsam_models import TINY, random_model
from helpers.phantoms import LIVER_LESION, phantom
from scipy import ndimage

from r2seg_agent.errors import InputError, MissingDependencyError
from r2seg_agent.imaging.colour import COLOURS
from r2seg_agent.imaging.geometry import Box, Geometry
from r2seg_agent.imaging.itk import write_itk
from r2seg_agent.imaging.volume import Volume
from r2seg_agent.imaging.write import write_label_map
from r2seg_agent.runs import loaded
from r2seg_agent.runs.api import FindOptions, run_find
from r2seg_agent.segment.lite_medsam.model import LiteMedSam
from r2seg_agent.segment.lite_medsam.segmenter import LiteMedSamSegmenter, LiteMedSamVolumeSegmenter, turned_axes
from r2seg_agent.segment.protocol import HasFeatures, Prompt, SeesColours, Segmenter
from r2seg_agent.segment.slices import SliceBySlice
from r2seg_agent.segment.tta import flip_prompt, flip_volume

SHAPE = (8, 48, 64)
LOGIT_SCALE = 4.0


class Counting(LiteMedSam):
    """Counts how many images were encoded and boxes decoded."""

    def __init__(self) -> None:
        super().__init__(TINY)
        self.encoded = self.decoded = 0

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        self.encoded += len(images)
        self.seen = images
        return super().encode(images)

    def decode(self, embedding, boxes, points=None, masks=None, cells=None):
        self.decoded += len(boxes)
        return super().decode(embedding, boxes, points, masks, cells)


def filling() -> Counting:
    """A network whose every mask is the whole image: the answer to a box is then all that the box can reach."""
    model = Counting()
    state = random_model().state_dict()
    state["mask_decoder.output_upscaling.3.weight"].zero_()
    state["mask_decoder.output_upscaling.3.bias"].fill_(1.0)
    state["mask_decoder.output_hypernetworks_mlps.0.layers.2.weight"].zero_()
    state["mask_decoder.output_hypernetworks_mlps.0.layers.2.bias"].fill_(1.0)
    model.load(state)
    return model


def searching() -> Counting:
    """A network with random weights, its logits scaled to where probabilities are not saturated."""
    model = Counting()
    state = random_model().state_dict()
    for name in ("weight", "bias"):
        state[f"mask_decoder.output_hypernetworks_mlps.0.layers.2.{name}"].mul_(LOGIT_SCALE)
    model.load(state)
    return model


@pytest.fixture(scope="module")
def organ() -> tuple[Volume, np.ndarray, np.ndarray]:
    """An organ with a dark ball in slices 3 to 5."""
    rng = np.random.default_rng(2)
    z, y, x = np.indices(SHAPE)
    ball = ((z - 4) * 2.5) ** 2 + (y - 22) ** 2 + (x - 30) ** 2 <= 4.5**2
    mask = (y - 24) ** 2 + (x - 30) ** 2 <= 20**2
    grey = np.where(mask, 100.0, 0.0) - 60.0 * ball + ndimage.gaussian_filter(rng.standard_normal(SHAPE), 0.5) * 8
    geometry = Geometry(shape=SHAPE, spacing_mm=(5.0, 2.0, 2.0))
    return Volume(np.rint(grey).astype(np.int16), geometry, "CT", "HU"), mask, ball


def prompt(**values: object) -> Prompt:
    common = {"text": "t", "target": "liver lesion", "site": "liver", "modality": "CT", "window": (-150.0, 250.0)}
    return Prompt(**(common | values))  # type: ignore[arg-type]


def test_what_it_is() -> None:
    for segmenter, ndim in ((LiteMedSamSegmenter(), 2), (LiteMedSamVolumeSegmenter(), 3)):
        assert isinstance(segmenter, Segmenter)
        info = segmenter.info
        assert (info.name, info.ndim, info.stand_in, info.licence) == ("lite-medsam", ndim, False, "Apache-2.0")
        assert info.weights_sha256 is not None
        assert set(info.prompt_kinds) == {"box", "mask"}
    assert LiteMedSamSegmenter(model=searching()).info.weights_sha256 is None


def test_what_it_is_is_known_without_torch() -> None:
    """`r2seg doctor` and every run's identity ask; importing torch takes a second."""
    code = (
        "import sys; from r2seg_agent.segment.registry import segmenter; segmenter('lite-medsam').info; "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_missing_weights_are_named_with_size_licence_and_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("R2SEG_CACHE", str(tmp_path))
    with pytest.raises(MissingDependencyError) as caught:
        LiteMedSamVolumeSegmenter().check("CT")
    assert "39 MB" in caught.value.message
    assert "Apache-2.0" in caught.value.message
    assert "r2seg weights fetch lite-medsam" in caught.value.hint
    LiteMedSamSegmenter(model=searching()).check("CT")


def test_a_box_is_answered_inside_its_reach(organ) -> None:
    volume, _, _ = organ
    roi = Box(start=(4, 4, 10), stop=(5, 44, 60))
    segmenter = LiteMedSamSegmenter(model=filling())
    box = Box(start=(0, 8, 12), stop=(1, 16, 28))
    (answer,) = segmenter.segment(segmenter.encode(volume, roi), [prompt(box=box)])
    assert answer.shape == roi.shape
    rows, columns = np.nonzero(answer[0] > 0.5)
    assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == (6, 18, 8, 32)
    assert (answer[0][answer[0] <= 0.5] == 0).all()


def test_one_encoding_serves_all_prompts_of_a_slice(organ) -> None:
    volume, mask, _ = organ
    model = searching()
    segmenter = LiteMedSamSegmenter(model=model)
    roi = Box(start=(4, 0, 0), stop=(5, 48, 64))
    encoded = segmenter.encode(volume, roi)
    assert model.encoded == 0
    first = prompt(box=Box(start=(0, 8, 12), stop=(1, 16, 28)))
    answers = segmenter.segment(encoded, [first, prompt(mask=mask[4:5])])
    again = segmenter.segment(encoded, [first])
    assert model.encoded == 1
    np.testing.assert_array_equal(again[0], answers[0])
    segmenter.segment(encoded, [prompt(box=first.box, window=(0.0, 100.0))])
    assert model.encoded == 2


def test_several_slices_are_refused_by_the_slice_model(organ) -> None:
    volume, _, _ = organ
    with pytest.raises(InputError, match="one slice"):
        LiteMedSamSegmenter(model=searching()).encode(volume, volume.geometry.full_box)
    with pytest.raises(InputError, match="inside the image"):
        LiteMedSamSegmenter(model=searching()).encode(volume, Box(start=(9, 0, 0), stop=(10, 4, 4)))


def test_lifted_slice_by_slice_it_marks_the_body(organ) -> None:
    volume, mask, ball = organ
    lifted = SliceBySlice(LiteMedSamSegmenter(model=filling()))
    box = volume.geometry.full_box
    (answer,) = lifted.segment(lifted.encode(volume, box), [prompt(mask=mask, contrast="darker")])
    assert (answer[4][ball[4]] > 0.5).all()
    assert answer.min() >= 0.0
    assert answer.max() <= 1.0


def test_in_a_volume_only_slices_of_a_body_are_encoded(organ) -> None:
    volume, mask, ball = organ
    model = filling()
    segmenter = LiteMedSamVolumeSegmenter(LiteMedSamSegmenter(model=model))
    box = volume.geometry.full_box
    (answer,) = segmenter.segment(segmenter.encode(volume, box), [prompt(mask=mask, contrast="darker")])
    met = np.flatnonzero((answer > 0.5).any(axis=(1, 2)))
    assert 4 in met
    assert len(met) < SHAPE[0]
    assert model.encoded == len(met)
    assert (answer[4][ball[4]] > 0.5).all()


def test_nothing_is_asked_where_nothing_stands_out(organ) -> None:
    volume, mask, _ = organ
    model = filling()
    segmenter = LiteMedSamVolumeSegmenter(LiteMedSamSegmenter(model=model))
    even = Volume(np.where(mask, 100, 0).astype(np.int16), volume.geometry, "CT", "HU")
    encoded = segmenter.encode(even, volume.geometry.full_box)
    answers = segmenter.segment(encoded, [prompt(mask=mask), prompt(mask=np.zeros(SHAPE, bool))])
    assert not answers.any()
    assert model.encoded == 0


def test_the_same_answer_in_every_roi_that_holds_the_mask(organ) -> None:
    volume, mask, _ = organ
    mask = mask.copy()
    mask[:2] = False
    segmenter = LiteMedSamVolumeSegmenter(LiteMedSamSegmenter(model=searching()))
    assert segmenter.info.roi_independent
    whole = volume.geometry.full_box
    inner = Box(start=(1, 2, 5), stop=(8, 47, 55))
    wide = segmenter.segment(segmenter.encode(volume, whole), [prompt(mask=mask)])[0]
    tight = segmenter.segment(segmenter.encode(volume, inner), [prompt(mask=mask[inner.slices])])[0]
    np.testing.assert_array_equal(wide[inner.slices], tight)
    assert wide.any()


def test_a_box_without_a_mask_is_asked_in_each_of_its_slices(organ) -> None:
    volume, _, _ = organ
    model = filling()
    segmenter = LiteMedSamVolumeSegmenter(LiteMedSamSegmenter(model=model))
    box = Box(start=(2, 10, 20), stop=(5, 30, 40))
    (answer,) = segmenter.segment(segmenter.encode(volume, volume.geometry.full_box), [prompt(box=box)])
    assert model.encoded == 3
    assert (answer[box.slices] > 0.5).all()
    assert not answer[:2].any()
    assert not answer[5:].any()


def test_grey_values_go_through_the_window_or_percentiles(organ) -> None:
    """Half of the window's width is half of the scale; without a window a scan in other units looks the same."""
    volume, _, _ = organ
    model = searching()
    segmenter = LiteMedSamSegmenter(model=model)
    roi = Box(start=(4, 0, 0), stop=(5, 48, 64))
    box = Box(start=(0, 8, 12), stop=(1, 16, 28))

    def seen(scan: Volume, window: tuple[float, float] | None) -> np.ndarray:
        segmenter.segment(segmenter.encode(scan, roi), [prompt(box=box, window=window)])
        return model.seen[0, 0].numpy()

    windowed = seen(volume, (-100.0, 300.0))
    expected = (volume.array[4].astype(np.float32) + 100.0) / 400.0
    np.testing.assert_allclose(windowed[:48], expected.clip(0, 1), atol=1e-6)
    assert (windowed[48:] == 0).all()
    positive = np.maximum(volume.array, 1)
    one = seen(Volume(positive, volume.geometry, "MR", "arbitrary"), None)
    triple = seen(Volume(positive * 3, volume.geometry, "MR", "arbitrary"), None)
    np.testing.assert_allclose(one, triple, atol=1e-5)
    assert one[:48].min() == 0.0
    assert one.max() == 1.0


def test_the_network_sees_the_colours_of_a_picture(organ) -> None:
    volume, _, _ = organ
    rng = np.random.default_rng(5)
    colours = {name: rng.integers(0, 255, SHAPE).astype(np.uint8) for name in COLOURS}
    grey = np.full(SHAPE, 100, np.uint8)
    geometry = volume.geometry
    painted = Volume(grey, geometry, "photo", "arbitrary", channels=MappingProxyType(colours))
    other = Volume(grey, geometry, "photo", "arbitrary", channels=MappingProxyType(colours | {"blue": grey}))
    model = searching()
    segmenter = LiteMedSamSegmenter(model=model)
    roi = Box(start=(4, 0, 0), stop=(5, 48, 64))
    asked = prompt(box=Box(start=(0, 8, 12), stop=(1, 16, 28)), window=(0.0, 255.0), modality="photo")
    answers = []
    for n, scan in enumerate((painted, other, Volume(grey, geometry, "photo", "arbitrary")), start=1):
        answers.append(segmenter.segment(segmenter.encode(scan, roi), [asked]))
        assert model.encoded == n, "pictures that differ in one colour are not taken for each other"
        for channel, name in enumerate(COLOURS):
            expected = scan.channels.get(name, grey)[4] / np.float32(255)
            np.testing.assert_allclose(model.seen[0, channel, :48].numpy(), expected, atol=1e-6)
    assert not np.array_equal(answers[0], answers[1])
    assert isinstance(segmenter, SeesColours)
    assert LiteMedSamVolumeSegmenter(segmenter).sees_colours
    assert SliceBySlice(segmenter).sees_colours


@pytest.mark.parametrize("axis", [1, 2])
def test_a_flipped_image_gets_the_flipped_answer(organ, axis: int) -> None:
    volume, mask, _ = organ
    segmenter = LiteMedSamVolumeSegmenter(LiteMedSamSegmenter(model=searching()))
    assert segmenter.info.flip_equivariant
    whole, asked = volume.geometry.full_box, prompt(mask=mask, contrast="darker")
    plain = segmenter.segment(segmenter.encode(volume, whole), [asked])[0]
    turned = flip_volume(volume, axis)
    answer = segmenter.segment(segmenter.encode(turned, whole), [flip_prompt(asked, whole.shape, axis)])[0]
    np.testing.assert_allclose(np.flip(answer, axis), plain, atol=1e-5)
    assert plain.std() > 0


def test_the_network_sees_slices_as_radiologists_do() -> None:
    usual = Geometry(shape=SHAPE, spacing_mm=(1.0, 1.0, 1.0))
    ras = usual.model_copy(update={"direction": (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0)})
    assert turned_axes(usual) == (False, False)
    assert turned_axes(ras) == (True, True)
    head_up = usual.model_copy(update={"direction": (1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, -1.0, 0.0)})
    assert turned_axes(head_up) == (False, False)
    head_down = usual.model_copy(update={"direction": (1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0)})
    assert turned_axes(head_down) == (True, False)


def test_features_are_the_embedding_between_its_cells(organ) -> None:
    """At the centre of a cell its own value; of the mirrored scan the same; and no prompt goes in."""
    volume, mask, _ = organ
    model = searching()
    segmenter = LiteMedSamVolumeSegmenter(LiteMedSamSegmenter(model=model))
    assert isinstance(segmenter, HasFeatures)
    assert segmenter.info.feature_names == ("image_embedding",)
    whole = volume.geometry.full_box
    window = (-150.0, 250.0)
    voxels = np.argwhere(mask & (np.indices(SHAPE)[0] % 3 == 1))[::17]
    got = segmenter.features_at(volume, whole, window, voxels)
    assert got.shape == (len(voxels), TINY.embed_dim)
    assert model.encoded == len(np.unique(voxels[:, 0]))
    # The slice of 48 × 64 pixels fills the input of 64 × 64; a cell of the 16 × 16 grid is 4 × 4 pixels.
    centres = np.array([[4, 4 * r + 1, 4 * c + 1] for r in range(3, 9) for c in range(2, 12)])
    around = [
        segmenter.features_at(volume, whole, window, centres + np.array([0, dy, dx])) for dy in (0, 1) for dx in (0, 1)
    ]
    one = segmenter.slices.encode(volume, Box(start=(4, 0, 0), stop=(5, 48, 64)))
    cells = segmenter.slices.view(one, window).embedding[0].numpy()
    expected = np.stack([cells[:, r, c] for r in range(3, 9) for c in range(2, 12)])
    neighbours = np.abs(np.mean(around, axis=0) - expected).max()
    assert neighbours < 0.35 * np.abs(cells).max()
    assert np.corrcoef(np.mean(around, axis=0).ravel(), expected.ravel())[0, 1] > 0.95
    mirrored = voxels.copy()
    mirrored[:, 2] = SHAPE[2] - 1 - voxels[:, 2]
    np.testing.assert_allclose(segmenter.features_at(flip_volume(volume, 2), whole, window, mirrored), got, atol=1e-4)


def test_the_whole_search_with_a_tiny_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its masks fill their boxes, so the lesion is found with the box's share of overlap; the same bytes twice."""
    scan = phantom(17, noise_sd=6.0, lesions=(LIVER_LESION,))
    write_itk(tmp_path / "ct.nrrd", scan.volume.array, scan.volume.geometry)
    write_label_map(tmp_path / "organs.nrrd", scan.labels, scan.volume.geometry, names=scan.class_names)
    write_label_map(tmp_path / "truth.nrrd", scan.lesions[0].astype(np.uint8), scan.volume.geometry)
    monkeypatch.setattr(
        loaded, "segmenter", lambda name: LiteMedSamVolumeSegmenter(LiteMedSamSegmenter(model=filling()))
    )
    options = FindOptions(
        anchors=str(tmp_path / "organs.nrrd"),
        truth=str(tmp_path / "truth.nrrd"),
        workspace=tmp_path / "ws",
        modality="CT",
        segmenter="lite-medsam",
    )
    result = run_find("find a liver lesion", str(tmp_path / "ct.nrrd"), options)
    assert result.exit_status == 0
    report = result.report
    assert report.outcome == "lesions_found"
    assert report.segmenter is not None
    assert (report.segmenter.name, report.segmenter.stand_in) == ("lite-medsam", False)
    assert not any("stand-in without learned weights" in warning.text for warning in report.warnings)
    assert report.truth is not None
    assert report.truth.lesions[0].dice > 0.3
    again = run_find(
        "find a liver lesion", str(tmp_path / "ct.nrrd"), options.model_copy(update={"workspace": tmp_path / "ws2"})
    )
    assert (again.folder / "report.json").read_bytes() == (result.folder / "report.json").read_bytes()


def test_the_whole_search_from_three_sides_judged_by_the_networks_own_maps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = phantom(17, noise_sd=6.0, lesions=(LIVER_LESION,))
    write_itk(tmp_path / "ct.nrrd", scan.volume.array, scan.volume.geometry)
    write_label_map(tmp_path / "organs.nrrd", scan.labels, scan.volume.geometry, names=scan.class_names)
    monkeypatch.setattr(
        loaded, "segmenter", lambda name: LiteMedSamVolumeSegmenter(LiteMedSamSegmenter(model=filling()))
    )
    options = FindOptions(
        anchors=str(tmp_path / "organs.nrrd"),
        workspace=tmp_path / "ws",
        modality="CT",
        segmenter="lite-medsam",
        orientations=3,
        feature="segmenter",
        rounds=1,
    )
    report = run_find("find a liver lesion", str(tmp_path / "ct.nrrd"), options).report
    assert report.segmenter is not None
    assert report.segmenter.settings["orientations"] == 3
    assert report.reject is not None
    assert report.reject.feature == "segmenter"
    candidates = [c for target in report.targets for one in target.rounds for c in one.candidates]
    assert candidates
    assert all(c.p is not None and 0 < c.p <= 1 for c in candidates)


def test_options_that_do_not_fit_the_segmenter_end_before_long_work(tmp_path: Path) -> None:
    scan = str(tmp_path / "ct.nrrd")
    with pytest.raises(InputError, match="maps"):
        run_find("find a liver lesion", scan, FindOptions(segmenter="contrast", feature="segmenter"))
    with pytest.raises(InputError, match="slices"):
        run_find("find a liver lesion", scan, FindOptions(segmenter="contrast", orientations=3))
    with pytest.raises(InputError, match="1 or 3"):
        FindOptions(orientations=2)
    assert FindOptions().segmenter == "contrast"  # settled when the options are made; tests pin what `auto` means
