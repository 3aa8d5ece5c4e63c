"""The segmenter on slices, lifted to volumes, and in the whole `find` graph, with a tiny network."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.phantoms import phantom

from r2seg_agent.errors import InputError, MissingDependencyError, RunFailedError
from r2seg_agent.imaging.geometry import Box, Geometry
from r2seg_agent.imaging.itk import write_itk
from r2seg_agent.imaging.volume import Volume
from r2seg_agent.imaging.write import write_label_map
from r2seg_agent.phantom import LesionSpec
from r2seg_agent.runs.api import FindOptions, run_find
from r2seg_agent.segment import registry
from r2seg_agent.segment.biomedparse.cache import FeatureCache
from r2seg_agent.segment.biomedparse.config import BiomedParseConfig
from r2seg_agent.segment.biomedparse.existence import ExistenceCheck
from r2seg_agent.segment.biomedparse.model import BiomedParse
from r2seg_agent.segment.biomedparse.segmenter import BiomedParseSegmenter
from r2seg_agent.segment.protocol import Prompt, Segmenter
from r2seg_agent.segment.slices import SliceBySlice

SHAPE = (4, 30, 44)


@pytest.fixture
def volume() -> Volume:
    array = np.random.default_rng(5).normal(50, 60, SHAPE).astype(np.int16)
    return Volume(array=array, geometry=Geometry(shape=SHAPE, spacing_mm=(3.0, 1.0, 1.0)), modality="CT", unit="HU")


def prompt(text: str = "tumor in liver CT", site: str = "liver", **changes: object) -> Prompt:
    return Prompt(text=text, target="tumor", site=site, modality="CT", **changes)  # type: ignore[arg-type]


def box(z: int, deep: int = 1) -> Box:
    return Box(start=(z, 2, 3), stop=(z + deep, 30, 40))


class Counted(BiomedParse):
    """The tiny network, counting what it is asked to do."""

    def __init__(self, tiny: BiomedParse) -> None:
        super().__init__(tiny.config)
        self.load_state_dict(tiny.state_dict())
        self.embedded = 0
        self.batches: list[int] = []

    @property
    def encoded(self) -> int:
        return sum(self.batches)

    def encode(self, images: torch.Tensor):
        self.batches.append(len(images))
        return super().encode(images)

    def embed(self, prompt: str):
        self.embedded += 1
        return super().embed(prompt)


def test_one_encoding_serves_all_prompts_of_a_window(tiny: BiomedParse, volume: Volume) -> None:
    model = Counted(tiny)
    segmenter = BiomedParseSegmenter(model=model, device="cpu")
    assert isinstance(segmenter, Segmenter)
    encoded = segmenter.encode(volume, box(1))
    asked = [prompt(), prompt("cyst in liver CT"), prompt("tumor in lung CT", site="lung")]
    answers = segmenter.segment(encoded, asked)
    assert answers.shape == (3, 1, 28, 37)
    assert answers.dtype == np.float32
    assert 0 <= answers.min() < answers.max() <= 1
    assert model.encoded == 2  # the liver's window and the lung's
    np.testing.assert_array_equal(segmenter.segment(encoded, asked), answers)
    assert (model.encoded, model.embedded) == (2, 3)
    for one, answer in zip(asked, answers, strict=True):
        alone = BiomedParseSegmenter(model=tiny, device="cpu").segment(encoded, [one])
        np.testing.assert_allclose(alone[0], answer, atol=1e-4)
    assert segmenter.segment(encoded, []).shape == (0, 1, 28, 37)


def test_more_prompts_than_fit_at_once(tiny: BiomedParse, volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    segmenter = BiomedParseSegmenter(model=tiny, device="cpu")
    encoded = segmenter.encode(volume, box(0))
    asked = [prompt(f"tumor {n} in liver CT") for n in range(5)]
    whole = segmenter.segment(encoded, asked)
    decode, sizes = tiny.decode, []

    def small(image, texts, **options):
        sizes.append(len(texts))
        if len(texts) > 2:
            raise torch.OutOfMemoryError
        return decode(image, texts, **options)

    monkeypatch.setattr(tiny, "decode", small)
    np.testing.assert_allclose(segmenter.segment(encoded, asked), whole, atol=1e-4)
    assert sizes == [5, 2, 2, 1]
    sizes.clear()
    segmenter.segment(encoded, asked)
    assert sizes == [2, 2, 1]  # what did not fit is not tried again


def test_joint_is_another_answer_and_another_setting(tiny: BiomedParse, volume: Volume) -> None:
    alone, joint = (BiomedParseSegmenter(model=tiny, device="cpu", joint=j) for j in (False, True))
    asked = [prompt(), prompt("left kidney in abdomen CT")]
    encoded = alone.encode(volume, box(2))
    assert np.abs(alone.segment(encoded, asked) - joint.segment(encoded, asked)).max() > 1e-3
    assert alone.info.settings != joint.info.settings


def test_precision_is_the_encoders_and_a_setting(tiny: BiomedParse, volume: Volume) -> None:
    full, half = (BiomedParseSegmenter(model=tiny, device="cpu", precision=p) for p in ("float32", "bfloat16"))
    encoded = full.encode(volume, box(2))
    difference = np.abs(full.segment(encoded, [prompt()]) - half.segment(encoded, [prompt()]))
    assert 0 < difference.max() < 0.2
    assert full.info.settings != half.info.settings


def test_an_empty_text_is_built_from_target_and_site(tiny: BiomedParse, volume: Volume) -> None:
    segmenter = BiomedParseSegmenter(model=tiny, device="cpu")
    built, given = segmenter.segment(segmenter.encode(volume, box(2)), [prompt(" "), prompt("tumor in liver CT")])
    np.testing.assert_allclose(built, given, atol=1e-6)


def test_what_it_refuses(tiny: BiomedParse, volume: Volume) -> None:
    segmenter = BiomedParseSegmenter(model=tiny, device="cpu")
    with pytest.raises(InputError, match="one slice"):
        segmenter.encode(volume, box(0, deep=2))
    with pytest.raises(InputError, match="one slice"):
        segmenter.encode(volume, box(4))
    with pytest.raises(InputError, match="not trained on modality `PT`"):
        segmenter.check("PT")
    segmenter.check("CT")


def test_lifted_it_asks_only_slices_with_the_organ(tiny: BiomedParse, volume: Volume) -> None:
    model = Counted(tiny)
    mask = np.zeros((4, 28, 37), dtype=bool)
    mask[1:3, 5:20, 5:20] = True
    lifted = SliceBySlice(BiomedParseSegmenter(model=model, device="cpu"))
    answer = lifted.segment(lifted.encode(volume, box(0, deep=4)), [prompt(mask=mask)])
    assert model.encoded == 2
    assert not answer[0, [0, 3]].any()
    assert answer[0, 1:3].any()


def test_kept_slices_stay_within_their_budget(tiny: BiomedParse) -> None:
    features = tiny.encode(torch.zeros(1, 3, 64, 64))[0]
    one = FeatureCache(10**9)
    one.keep("first", features)
    size = one.used_bytes
    cache = FeatureCache(2 * size)
    for key in ("a", "b"):
        cache.keep(key, features)
    assert cache.find("a") is features
    cache.make_room()
    assert cache.used_bytes == size
    cache.keep("c", features)
    assert cache.find("b") is None  # it was used longest ago when room was needed
    assert cache.find("a") is cache.find("c") is features
    tight = FeatureCache(1)
    tight.keep("a", features)
    tight.keep("b", features)
    assert tight.find("a") is None
    assert tight.find("b") is features  # at least the newest


def test_slices_go_in_batches_with_the_same_answers(tiny: BiomedParse, volume: Volume) -> None:
    asked = [prompt(), prompt("tumor in lung CT", site="lung")]
    one_by_one = SliceBySlice(BiomedParseSegmenter(model=tiny, device="cpu"))
    expected = one_by_one.segment(one_by_one.encode(volume, box(0, deep=4)), asked)
    model = Counted(tiny)
    batched = SliceBySlice(BiomedParseSegmenter(model=model, device="cpu", slices_at_once=3))
    answer = batched.segment(batched.encode(volume, box(0, deep=4)), asked)
    np.testing.assert_allclose(answer, expected, atol=1e-4)
    assert model.batches == [3, 3, 2]  # three slices in two windows, then the fourth in both


def test_out_of_memory_halves_the_batch(tiny: BiomedParse, volume: Volume) -> None:
    class Small(Counted):
        def encode(self, images: torch.Tensor):
            features = super().encode(images)
            if len(images) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return features

    model, steps = Small(tiny), []
    lifted = SliceBySlice(
        BiomedParseSegmenter(model=model, device="cpu", slices_at_once=4), lambda *step: steps.append(step)
    )
    answer = lifted.segment(lifted.encode(volume, box(0, deep=4)), [prompt()])
    assert model.batches == [4, 2, 2]
    plain = SliceBySlice(BiomedParseSegmenter(model=tiny, device="cpu"))
    np.testing.assert_allclose(answer, plain.segment(plain.encode(volume, box(0, deep=4)), [prompt()]), atol=1e-4)
    model.batches.clear()
    lifted.segment(lifted.encode(volume, box(0, deep=4)), [prompt()])
    assert model.batches == [2, 2]  # it stays halved


def test_one_slice_that_does_not_fit_is_an_error(tiny: BiomedParse, volume: Volume) -> None:
    class Tight(BiomedParse):
        def encode(self, images: torch.Tensor):
            raise torch.OutOfMemoryError("CUDA out of memory")

    segmenter = BiomedParseSegmenter(model=Tight(tiny.config), device="cpu", slices_at_once=4)
    with pytest.raises(RunFailedError, match="one slice") as caught:
        segmenter.segment(segmenter.encode(volume, box(0)), [prompt()])
    assert "R2SEG_BIOMEDPARSE_DEVICE=cpu" in caught.value.hint


def test_settings_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exact = BiomedParseSegmenter.from_environment().info.settings
    assert (exact["precision"], exact["joint"], exact["compiled"]) == ("float32", False, False)
    assert "existence" not in exact
    fits = tmp_path / "target_dist.json"
    fits.write_text(json.dumps({"CT-Liver": {"tumor": [[1, 1]] * 4}}))
    for name, value in {"PRECISION": "bfloat16", "JOINT": "1", "COMPILED": "true", "EXISTENCE": str(fits)}.items():
        monkeypatch.setenv(f"R2SEG_BIOMEDPARSE_{name}", value)
    changed = BiomedParseSegmenter.from_environment().info.settings
    assert (changed["precision"], changed["joint"], changed["compiled"]) == ("bfloat16", True, True)
    assert changed["existence"] == hashlib.sha256(fits.read_bytes()).hexdigest()
    assert changed["existence_below"] == 0.05
    monkeypatch.setenv("R2SEG_BIOMEDPARSE_PRECISION", "int8")
    with pytest.raises(InputError, match="R2SEG_BIOMEDPARSE_PRECISION is `int8`"):
        BiomedParseSegmenter.from_environment()


def test_the_existence_check_empties_masks(tiny: BiomedParse, volume: Volume) -> None:
    """A fit that no mask can match drops the mask of its target, and of no other."""
    never = ExistenceCheck({"ct-abdomen": {"tumor": ((1e4, 1.0),) * 4}}, sha256="0" * 64)
    plain, checked = (BiomedParseSegmenter(model=tiny, device="cpu", existence=e) for e in (None, never))
    asked = [prompt(), prompt("cyst in liver CT")]
    before = plain.segment(plain.encode(volume, box(1)), asked)
    after = checked.segment(checked.encode(volume, box(1)), asked)
    assert before[0].max() > 0
    assert not after[0].any()
    np.testing.assert_array_equal(after[1], before[1])


def test_the_weights_file_is_loaded_at_the_first_slice(
    tiny: BiomedParse, tiny_config: BiomedParseConfig, volume: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("r2seg_agent.segment.biomedparse.config.RELEASED", tiny_config)
    path = tmp_path / "biomedparse_v1.pt"
    segmenter = BiomedParseSegmenter(path, device="cpu")
    with pytest.raises(MissingDependencyError):
        segmenter.check("CT")
    torch.save(dict(tiny.state_dict()) | {"dilation_kernel": torch.ones(1, 1, 3, 3)}, path)
    segmenter.check("CT")
    info = segmenter.info
    assert info.weights_sha256 is not None
    assert not info.stand_in
    answer = segmenter.segment(segmenter.encode(volume, box(1)), [prompt()])
    given = BiomedParseSegmenter(model=tiny, device="cpu")
    np.testing.assert_allclose(answer, given.segment(given.encode(volume, box(1)), [prompt()]), atol=1e-5)
    assert segmenter.ignored_tensors == ("dilation_kernel",)
    assert segmenter.info == info


def test_registered_and_missing_weights_are_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("R2SEG_BIOMEDPARSE", str(tmp_path / "none.pt"))
    made = registry.segmenter("biomedparse")
    assert made.info.ndim == 3
    assert "non-commercial" in made.info.licence
    with pytest.raises(MissingDependencyError, match=r"biomedparse_v1\.pt"):
        made.check("CT")


@pytest.mark.slow
def test_the_whole_find_graph(tiny: BiomedParse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Counted(tiny)
    monkeypatch.setitem(
        registry.SEGMENTERS,  # type: ignore[arg-type]
        "biomedparse",
        lambda: SliceBySlice(BiomedParseSegmenter(model=model, device="cpu")),
    )
    scan = phantom(11, spacing_mm=(8.0, 6.0, 6.0), lesions=(LesionSpec("liver", volume_ml=20.0, contrast=-70.0),))
    image, organs = tmp_path / "ct.nii.gz", tmp_path / "organs.nii.gz"
    write_itk(image, scan.volume.array, scan.volume.geometry)
    write_label_map(organs, scan.labels, scan.volume.geometry, names=scan.class_names)
    options = FindOptions(
        anchors=str(organs), workspace=tmp_path / "ws", modality="CT", synthetic=True, segmenter="biomedparse", rounds=1
    )
    result = run_find("find a liver lesion", str(image), options)
    assert result.exit_status == 0
    report = result.report
    assert report.segmenter.name == "biomedparse"
    assert report.segmenter.settings["lifted"] == "slice by slice"
    assert report.outcome in ("lesions_found", "no_lesion_survived")
    assert report.targets[0].rounds[0].rois
    assert model.encoded > 0
    assert model.embedded == 1


def _modules_after(code: str) -> set[str]:
    show = f"{code}\nimport sys\nprint(' '.join(sys.modules))"
    return set(subprocess.run([sys.executable, "-c", show], check=True, capture_output=True, text=True).stdout.split())


def test_naming_the_segmenter_loads_no_torch() -> None:
    loaded = _modules_after("from r2seg_agent.segment.registry import segmenter\nsegmenter('biomedparse').info")
    assert "torch" not in loaded


def test_the_network_needs_only_torch_and_numpy() -> None:
    """A GPU machine often has no more."""
    loaded = _modules_after(
        "from r2seg_agent.segment.biomedparse import model, recipe, weights\n"
        "from r2seg_agent.segment.biomedparse.tokenizer import tokenize\ntokenize('tumor')"
    )
    assert not loaded & {"pydantic", "scipy", "SimpleITK", "langchain_core", "platformdirs", "typer"}
