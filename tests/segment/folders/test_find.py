"""A tiny configuration of each kind of model folder through the whole search: plan, organs, ROIs, segment, reject."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.bright_lesion import SPACING, Case, make_case
from helpers.bundle_models import Pointwise, write_bundle
from helpers.folder_models import bright_detector, build, plans, write_nnunet

from r2seg_agent.doctor import examine
from r2seg_agent.errors import InputError
from r2seg_agent.imaging.channels import with_channels
from r2seg_agent.imaging.geometry import Geometry
from r2seg_agent.imaging.itk import write_itk
from r2seg_agent.imaging.volume import Volume
from r2seg_agent.imaging.write import write_label_map
from r2seg_agent.reason.anchors.totalseg.tasks import task_spec
from r2seg_agent.report.models import Report
from r2seg_agent.runs.api import FindOptions, run_find

TINY = Path(__file__).parents[2] / "data" / "tiny_totalseg"


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A bright lesion in the liver, above the threshold of all networks here."""
    return make_case(tmp_path_factory.mktemp("case"))


def _nnunet(folder: Path, case: Case, name: str = "Dataset901_Liver") -> Path:
    plan = plans(SPACING, (32, 32, 32), ["CTNormalization"], name=name)
    network = build(plan, 1, 3)
    bright_detector(network, channel=0, output=2, threshold=case.threshold_hu / 100.0)
    labels = {"background": 0, "liver": 1, "tumor": 2}
    return write_nnunet(folder, {"fold_0": network}, plan, labels=labels, extra={"r2seg_stand_in": True})


def _with_nnunet(folder: Path, case: Case) -> str:
    return f"nnunet:{_nnunet(folder / 'model', case)}"


def _with_bundle(folder: Path, case: Case) -> str:
    low, high = -100.0, 300.0
    network = Pointwise(threshold=(case.threshold_hu - low) / (high - low), gain=40.0)
    return f"bundle:{write_bundle(folder / 'model', network, input_size=[24, 24, 24], stand_in=True)}#trust"


def _with_slices(folder: Path, case: Case) -> str:
    low, high = -100.0, 300.0
    network = Pointwise(threshold=(case.threshold_hu - low) / (high - low), gain=40.0)
    folder = write_bundle(folder / "model", network, "torch.export", ndim=2, input_size=[32, 32], stand_in=True)
    return f"bundle:{folder}"


def _with_totalseg(folder: Path, case: Case) -> str:
    spec = task_spec("liver_vessels")
    root = folder / "weights"
    shutil.copytree(TINY, root)
    _nnunet(root / spec.sets[0].folder / spec.sets[0].model_folder, case, name=spec.sets[0].folder)
    return "totalseg:liver_vessels"


@pytest.mark.parametrize("make", [_with_nnunet, _with_bundle, _with_slices, _with_totalseg])
def test_each_kind_finds_the_lesion(
    make: Callable[[Path, Case], str], case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(tmp_path / "weights"))
    spec = make(tmp_path, case)
    report = case.find(spec)
    assert report.outcome == "lesions_found"
    assert report.truth is not None
    assert report.truth.lesions[0].dice > 0.6
    assert report.segmenter is not None
    assert report.segmenter.name.startswith(spec.partition(":")[0])
    assert report.segmenter.weights_sha256 is not None
    assert any("stand-in" in warning.text for warning in report.warnings)
    assert str(tmp_path) not in report.model_dump_json()
    trace = case.folder / "ws" / "runs" / report.run_id / "trace.jsonl"
    assert str(tmp_path) not in trace.read_text(), "no path of the user in a trace"


def test_an_unknown_target_ends_the_search_before_long_work(case: Case, tmp_path: Path) -> None:
    spec = _with_nnunet(tmp_path, case)
    seen: list[str] = []
    options = FindOptions(
        anchors=str(case.folder / "organs.nii.gz"), segmenter=spec, modality="CT", workspace=tmp_path / "ws"
    )

    def progress(stage: str, done: int, total: int, note: str = "") -> None:
        seen.append(stage)

    with pytest.raises(InputError, match=r"has no class for `splenic_lesion`.*tumor \(liver_lesion\)"):
        run_find("find the lesion of the spleen", str(case.folder / "ct.nii.gz"), options, progress)
    assert "anchors" not in seen
    assert "segment" not in seen


def test_a_stated_class_answers_for_another_target(case: Case, tmp_path: Path) -> None:
    """The model is the liver's; its user says that the class finds splenic lesions too: it runs, and finds none."""
    report = case.find(f"{_with_nnunet(tmp_path, case)}#tumor=splenic_lesion", "find the lesion of the spleen")
    assert report.outcome == "no_lesion_survived"
    assert report.segmenter is not None
    assert "tumor (splenic_lesion)" in str(report.segmenter.settings["classes"])


@pytest.fixture(scope="module")
def brain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MR case of two images: the lesion shows in FLAIR alone, which lies on a coarser grid; T1 is the scan."""
    folder = tmp_path_factory.mktemp("brain")
    shape, spacing = (24, 48, 48), (4.0, 3.0, 3.0)
    grid = Geometry(shape=shape, spacing_mm=spacing)
    z, y, x = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    brain = ((z - 12) / 10.0) ** 2 + ((y - 24) / 19.0) ** 2 + ((x - 24) / 17.0) ** 2 < 1.0
    lesion = ((z - 13) * 4.0) ** 2 + ((y - 20) * 3.0) ** 2 + ((x - 30) * 3.0) ** 2 < 14.0**2
    rng = np.random.default_rng(4)
    t1 = np.where(brain, 400.0, 0.0) + rng.normal(0, 8, shape)
    flair = np.where(brain, 300.0, 0.0) + np.where(lesion, 250.0, 0.0) + rng.normal(0, 8, shape)
    write_itk(folder / "t1.nii.gz", np.abs(t1).astype(np.float32), grid)
    coarse = Geometry(shape=(24, 36, 36), spacing_mm=(4.0, 4.0, 4.0), origin_lps_mm=(0.5, 0.5, 0.0))
    field = Volume(array=np.abs(flair).astype(np.float32), geometry=grid, modality="MR", unit="arbitrary")
    write_itk(folder / "fine_flair.nii.gz", field.array, grid)
    notes: list[str] = []
    resampled = with_channels(
        Volume(array=np.zeros(coarse.shape, np.float32), geometry=coarse, modality="MR", unit="arbitrary"),
        "scan",
        {"FLAIR": str(folder / "fine_flair.nii.gz")},
        notes.append,
    )
    write_itk(folder / "flair.nii.gz", resampled.channels["FLAIR"], coarse)
    write_label_map(folder / "organs.nii.gz", brain.astype(np.uint8), grid, names={1: "brain"})
    write_label_map(folder / "truth.nii.gz", lesion.astype(np.uint8), grid)
    plan = plans((4.0, 3.0, 3.0), (16, 32, 32), ["ZScoreNormalization"] * 2, name="Dataset902_BrainTumour")
    network = build(plan, 2, 2)
    halfway = (425.0 - float(field.array.mean())) / float(field.array.std())
    bright_detector(network, channel=1, output=1, threshold=halfway)
    write_nnunet(
        folder / "model",
        {"fold_0": network},
        plan,
        labels={"background": 0, "whole tumor": 1},
        channels=("T1", "FLAIR"),
        extra={"r2seg_stand_in": True},
    )
    return folder


def _find_in_brain(brain: Path, workspace: Path, **changes: object) -> Report:
    values = {
        "anchors": str(brain / "organs.nii.gz"),
        "segmenter": f"nnunet:{brain / 'model'}",
        "modality": "MR",
        "workspace": workspace,
        "truth": str(brain / "truth.nii.gz"),
        "synthetic": True,
        "channels": {"T2-FLAIR": str(brain / "flair.nii.gz")},
    } | changes
    options = FindOptions.model_validate(values)
    return run_find("find the brain tumour", str(brain / "t1.nii.gz"), options).report


def test_a_lesion_that_only_another_channel_shows(brain: Path, tmp_path: Path) -> None:
    """The network finds it in FLAIR. Reject looks at T1, where nothing stands out, and says so: found, then rejected
    or kept, but proposed in the right place either way.
    """
    report = _find_in_brain(brain, tmp_path / "ws")
    assert report.targets[0].rounds[0].candidates
    best = max(report.targets[0].rounds[0].candidates, key=lambda c: c.features.volume_mm3)
    assert best.features.volume_mm3 == pytest.approx(4.0 / 3.0 * np.pi * 14.0**3, rel=0.5)
    assert any("`T2-FLAIR` was resampled onto the scan's grid" in warning.text for warning in report.warnings)
    assert any("The scan itself is taken as channel `T1`" in warning.text for warning in report.warnings)
    assert str(brain) not in report.model_dump_json()
    assert str(brain) not in (tmp_path / "ws" / "runs" / report.run_id / "trace.jsonl").read_text()
    other = _find_in_brain(brain, tmp_path / "ws", channels={"FLAIR": str(brain / "fine_flair.nii.gz")})
    assert other.image.sha256 != report.image.sha256
    assert other.run_id != report.run_id


def test_a_missing_channel_is_named_and_a_useless_one_told(brain: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"needs the channels T1, FLAIR; given: `T1`; missing: FLAIR"):
        _find_in_brain(brain, tmp_path / "ws", channels={"T1": str(brain / "t1.nii.gz")})
    with pytest.raises(InputError, match=r"missing: T1, FLAIR \(the scan itself can be one"):
        _find_in_brain(brain, tmp_path / "ws", channels={})
    report = _find_in_brain(brain, tmp_path / "ws", segmenter="contrast")
    assert any("cannot use the further channels (T2-FLAIR)" in warning.text for warning in report.warnings)


def test_doctor_looks_at_a_folder(case: Case, tmp_path: Path) -> None:
    good, bad = _with_nnunet(tmp_path, case), f"bundle:{tmp_path}"
    ready, missing = examine([good, bad])
    assert ready.ready
    assert "tumor (liver_lesion)" in ready.detail
    assert not missing.ready
    assert "bundle.json" in missing.detail
