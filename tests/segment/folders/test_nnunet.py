"""nnU-Net folders: the same probabilities as nnU-Net's own prediction, and every fault named before long work."""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.folder_models import bright_detector, build, plans, random_weights, write_nnunet

from r2seg_agent.errors import InputError, MissingDependencyError
from r2seg_agent.files import file_sha256
from r2seg_agent.imaging.geometry import Box, Geometry
from r2seg_agent.imaging.volume import Volume
from r2seg_agent.segment.folders.nnunet import NnUNetFolder
from r2seg_agent.segment.folders.segmenter import ClassSegmenter
from r2seg_agent.segment.folders.spec import parse_spec
from r2seg_agent.segment.protocol import Prompt
from r2seg_agent.segment.registry import segmenter


def _folder(path: Path, **changes: Any) -> Path:
    """Two folds of random weights, three classes, 2 mm CT."""
    options = {"schemes": ["CTNormalization"], "spacing": (2.5, 2.0, 2.0), "patch": (16, 16, 16)} | changes
    written = {key: options.pop(key) for key in ("labels", "channels", "regions_order", "extra") if key in options}
    mirror_axes = options.pop("mirror_axes", (0, 1, 2))
    plan = plans(options.pop("spacing"), options.pop("patch"), options.pop("schemes"), **options)
    labels = written.pop("labels", {"background": 0, "liver": 1, "tumor": 2})
    n_outputs = len(labels) - ("regions_order" in written)
    networks = {}
    for fold in (0, 1):
        network = build(plan, len(written.get("channels", ("CT",))), n_outputs)
        random_weights(network, seed=fold)
        networks[f"fold_{fold}"] = network
    return write_nnunet(path, networks, plan, labels=labels, mirror_axes=mirror_axes, **written)


def _scan(shape: tuple[int, int, int] = (20, 26, 24), seed: int = 0) -> Volume:
    array = np.random.default_rng(seed).normal(40, 60, shape).astype(np.int16)
    geometry = Geometry(shape=shape, spacing_mm=(3.0, 2.0, 1.5), origin_lps_mm=(-20.0, 30.0, 5.0))
    return Volume(array=array, geometry=geometry, modality="CT", unit="HU")


def _nnunet_says(folder: Path, image: np.ndarray, spacing: tuple[float, ...], folds: tuple[int, ...] = (0, 1)) -> Any:
    """(classes, z, y, x) by nnU-Net's own initialisation and prediction."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(folder), folds)
    return predictor.predict_single_npy_array(image, {"spacing": list(spacing)}, None, None, True)[1]


def test_two_folds_equal_nnunets_own_prediction(tmp_path: Path) -> None:
    folder, scan = _folder(tmp_path / "m"), _scan()
    ours = NnUNetFolder(parse_spec(str(folder), "nnunet")).probabilities(scan, scan.geometry.full_box)
    theirs = _nnunet_says(folder, scan.float32()[None], scan.geometry.spacing_mm)
    assert set(ours) == {"tumor"}
    assert float(np.ptp(theirs[2])) > 0.1, "a constant answer would prove nothing"
    np.testing.assert_allclose(ours["tumor"], theirs[2], atol=1e-6)


def test_chosen_folds_and_no_mirroring(tmp_path: Path) -> None:
    folder, scan = _folder(tmp_path / "m"), _scan()
    box = scan.geometry.full_box
    mirrored = NnUNetFolder(parse_spec(f"{folder}#1", "nnunet"))
    plain = NnUNetFolder(parse_spec(f"{folder}#1#nomirror", "nnunet"))
    theirs = _nnunet_says(folder, scan.float32()[None], scan.geometry.spacing_mm, (1,))[2]
    np.testing.assert_allclose(mirrored.probabilities(scan, box)["tumor"], theirs, atol=1e-6)
    assert np.abs(plain.probabilities(scan, box)["tumor"] - theirs).max() > 1e-3
    assert plain.info != mirrored.info, "what changes the answer is part of the identity"
    assert mirrored.info.weights_sha256 == file_sha256(folder / "fold_1" / "checkpoint_final.pth")


def test_region_classes_overlap_the_whole_answers_for_a_kind_and_a_part_for_itself(tmp_path: Path) -> None:
    labels = {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing tumor": [3]}
    folder = _folder(
        tmp_path / "m",
        labels=labels,
        regions_order=(1, 2, 3),
        schemes=["ZScoreNormalization"] * 2,
        channels=("T1ce", "FLAIR"),
        name="Dataset137_BraTS2021",
    )
    scan, second = _scan(seed=1), _scan(seed=2)
    case = Volume(
        array=scan.array,
        geometry=scan.geometry,
        modality="MR",
        unit="arbitrary",
        channels={"t1c": scan.array, "flair": second.array},
    )
    model = segmenter(f"nnunet:{folder}")
    model.check("MR")
    with pytest.raises(InputError, match="made for MR"):
        model.check("CT")
    roi = Box(start=(4, 5, 6), stop=(12, 20, 18))
    targets = ("glioma", "brain_tumor_core", "brain_tumor_enhancing")
    prompts = [Prompt(text="", target=name, site="brain", modality="MR", concept=name) for name in targets]
    answer = model.segment(model.encode(case, roi), prompts)
    image = np.stack([scan.float32(), second.float32()])
    theirs = _nnunet_says(folder, image, scan.geometry.spacing_mm)
    # z-scores depend on the whole scan: the ROI must be answered as part of it
    np.testing.assert_allclose(answer, theirs[(slice(None), *roi.slices)], atol=1e-6)


def test_softmax_classes_of_one_target_are_added(tmp_path: Path) -> None:
    labels = {"background": 0, "edema": 1, "non-enhancing tumor": 2, "enhancing tumour": 3}
    folder = _folder(tmp_path / "m", labels=labels, name="Dataset001_BrainTumour")
    scan = _scan()
    model = segmenter(f"nnunet:{folder}")
    prompt = Prompt(text="", target="lesion of brain", site="brain", modality="CT", concept="brain_lesion")
    answer = model.segment(model.encode(scan, scan.geometry.full_box), [prompt])
    theirs = _nnunet_says(folder, scan.float32()[None], scan.geometry.spacing_mm)
    np.testing.assert_allclose(answer[0], theirs[1] + theirs[2] + theirs[3], atol=1e-6)


def test_an_roi_is_answered_as_part_of_the_scan(tmp_path: Path) -> None:
    """A cut with half a patch around gives what the whole scan gives (nnU-Net adds tiles in half precision)."""
    scan = _scan((40, 48, 44))
    plan = plans(scan.geometry.spacing_mm, (16, 16, 16), ["CTNormalization"])
    network = build(plan, 1, 3)
    bright_detector(network, channel=0, output=2, threshold=0.5)
    labels = {"background": 0, "liver": 1, "tumor": 2}
    folder = write_nnunet(tmp_path / "m", {"fold_0": network}, plan, labels=labels)
    model = NnUNetFolder(parse_spec(str(folder), "nnunet"))
    whole = model.probabilities(scan, scan.geometry.full_box)["tumor"]
    roi = Box(start=(16, 18, 14), stop=(24, 30, 28))
    np.testing.assert_allclose(model.probabilities(scan, roi)["tumor"], whole[roi.slices], atol=5e-3)
    cut = scan.crop(roi)
    assert np.abs(model.probabilities(cut, cut.geometry.full_box)["tumor"] - whole[roi.slices]).max() > 0.1


@pytest.mark.parametrize("transpose", [(0, 1, 2), (2, 0, 1)])
def test_images_are_turned_as_nnunets_reader_turns_them(tmp_path: Path, transpose: tuple[int, int, int]) -> None:
    import nibabel as nib

    folder = _folder(tmp_path / "m", reader="NibabelIOWithReorient", transpose=transpose)
    scan = _scan()
    turned = Geometry(
        shape=scan.geometry.shape,
        spacing_mm=scan.geometry.spacing_mm,
        direction=(0.0, 0.0, 1.0, -1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
    )
    volume = Volume(array=scan.array, geometry=turned, modality="CT", unit="HU")
    from r2seg_agent.reason.anchors.totalseg.image import ras_affine

    path = tmp_path / "scan.nii.gz"
    nib.save(nib.Nifti1Image(volume.array.transpose(2, 1, 0), ras_affine(turned)), path)
    from nnunetv2.imageio.nibabel_reader_writer import NibabelIOWithReorient

    image, properties = NibabelIOWithReorient().read_images([str(path)])
    theirs = _nnunet_says(folder, image, properties["spacing"])[2]
    ours = NnUNetFolder(parse_spec(str(folder), "nnunet")).probabilities(volume, volume.geometry.full_box)["tumor"]
    # bring nnU-Net's answer back to the stored order by nibabel itself
    ras = nib.Nifti1Image(theirs.transpose(2, 1, 0), nib.as_closest_canonical(nib.load(path)).affine)
    back = nib.orientations.ornt_transform(nib.io_orientation(ras.affine), nib.io_orientation(nib.load(path).affine))
    stored = np.asarray(ras.as_reoriented(back).dataobj).transpose(2, 1, 0)
    np.testing.assert_allclose(ours, stored, atol=1e-6)


def test_a_2d_configuration_and_a_picture(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "m", spacing=(2.0, 2.0), patch=(16, 16), configuration="2d", mirror_axes=(0, 1))
    scan = _scan((5, 26, 24))
    network = NnUNetFolder(parse_spec(str(folder), "nnunet"))
    theirs = _nnunet_says(folder, scan.float32()[None], scan.geometry.spacing_mm)[2]
    roi = scan.geometry.full_box
    np.testing.assert_allclose(network.probabilities(scan, roi)["tumor"], theirs, atol=1e-6)
    one = scan.crop(Box(start=(2, 0, 0), stop=(3, 26, 24)))
    np.testing.assert_allclose(network.probabilities(one, one.geometry.full_box)["tumor"], theirs[2:3], atol=1e-6)


def test_what_is_missing_is_named_before_long_work(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "model" / "trainer__plans__3d")
    with pytest.raises(InputError, match="no folder"):
        segmenter(f"nnunet:{tmp_path / 'nowhere'}").check("CT")
    with pytest.raises(InputError, match="no plans.json") as caught:
        segmenter(f"nnunet:{folder.parent}").check("CT")
    assert "trainer__plans__3d" in caught.value.hint
    with pytest.raises(MissingDependencyError, match=r"fold_7.*fold_0, fold_1"):
        segmenter(f"nnunet:{folder}#7").check("CT")
    checkpoint = folder / "fold_0" / "checkpoint_final.pth"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    with pytest.raises(MissingDependencyError, match="no whole checkpoint in `fold_0`"):
        segmenter(f"nnunet:{folder}#0").check("CT")
    with pytest.raises(InputError, match="is not understood"):
        segmenter(f"nnunet:{folder}#fast")
    (folder / "dataset.json").write_text('{"labels": {"background": 0}}')
    with pytest.raises(InputError, match="channel_names"):
        segmenter(f"nnunet:{folder}#1").check("CT")


def test_weights_that_do_not_fit_name_the_trainer(tmp_path: Path) -> None:
    folder, scan = _folder(tmp_path / "m"), _scan()
    path = folder / "fold_0" / "checkpoint_final.pth"
    state = torch.load(path, weights_only=False)
    state["network_weights"] = {f"own.{k}": v for k, v in state["network_weights"].items()}
    state["trainer_name"] = "nnUNetTrainerDMSegNet"
    torch.save(state, path)
    with pytest.raises(MissingDependencyError, match="does not fit") as caught:
        NnUNetFolder(parse_spec(f"{folder}#0", "nnunet")).probabilities(scan, scan.geometry.full_box)
    assert "nnUNetTrainerDMSegNet" in caught.value.hint


def test_a_variant_trainer_of_nnunet_builds_its_own_network(tmp_path: Path) -> None:
    """nnUNetTrainerBN makes another network out of the same plans: plans alone would not fit its weights."""
    from nnunetv2.training.nnUNetTrainer.variants.network_architecture.nnUNetTrainerBN import nnUNetTrainerBN

    plan = plans((3.0, 3.0, 3.0), (16, 16, 16), ["CTNormalization"])
    own = plan["configurations"]["3d_fullres"]["architecture"]
    own["arch_kwargs"]["norm_op"] = "torch.nn.modules.instancenorm.InstanceNorm3d"
    own["arch_kwargs"]["norm_op_kwargs"] = {"affine": True}
    own["_kw_requires_import"] = ["conv_op", "norm_op", "dropout_op", "nonlin"]
    network = nnUNetTrainerBN.build_network_architecture(
        own["network_class_name"], own["arch_kwargs"], own["_kw_requires_import"], 1, 3, enable_deep_supervision=False
    )
    folder = write_nnunet(
        tmp_path / "m",
        {"fold_all": network},
        plan,
        labels={"background": 0, "liver": 1, "tumor": 2},
        trainer="nnUNetTrainerBN",
    )
    scan = _scan()
    ours = NnUNetFolder(parse_spec(f"{folder}#all", "nnunet")).probabilities(scan, scan.geometry.full_box)
    theirs = _nnunet_says(folder, scan.float32()[None], scan.geometry.spacing_mm, ("all",))  # type: ignore[arg-type]
    np.testing.assert_allclose(ours["tumor"], theirs[2], atol=1e-6)


def test_a_copy_elsewhere_is_the_same_model(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "here")
    shutil.copytree(folder, tmp_path / "there")
    one, other = (ClassSegmenter(NnUNetFolder(parse_spec(str(tmp_path / n), "nnunet"))).info for n in ("here", "there"))
    assert one == other
    assert str(tmp_path) not in one.model_dump_json()


def test_a_whole_scan_is_answered_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _folder(
        tmp_path / "m", schemes=["ZScoreNormalization"], channels=("T1",), labels={"background": 0, "brain tumor": 1}
    )
    first, second = _scan(seed=1), _scan(seed=2)
    network = NnUNetFolder(parse_spec(f"{folder}#0", "nnunet"))
    asked: list[Box] = []
    predicted = NnUNetFolder._predicted

    def counted(self: NnUNetFolder, predictor: Any, volume: Volume, roi: Box, names: Sequence[str]) -> Any:
        asked.append(roi)
        return predicted(self, predictor, volume, roi, names)

    monkeypatch.setattr(NnUNetFolder, "_predicted", counted)
    left, right = Box(start=(0, 0, 0), stop=(9, 9, 9)), Box(start=(2, 2, 10), stop=(9, 9, 20))
    one, two = network.probabilities(first, left), network.probabilities(first, right)
    assert asked == [first.geometry.full_box]
    assert one["brain tumor"].shape == (9, 9, 9)
    assert two["brain tumor"].shape == (7, 7, 10)
    assert not np.allclose(network.probabilities(second, left)["brain tumor"], one["brain tumor"])
    assert len(asked) == 2
    both = network.probabilities(second, left, ["brain tumor"])
    assert len(asked) == 2
    assert both.keys() == {"brain tumor"}


@pytest.mark.filterwarnings("ignore:invalid value encountered in divide")  # nnU-Net's deep supervision of two stages
def test_a_checkpoint_as_nnunets_trainer_writes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its optimiser, its log of NumPy numbers, its plans and device: all of it loads as plain weights."""
    module = importlib.import_module("nnunetv2.training.nnUNetTrainer.nnUNetTrainer")

    monkeypatch.setattr(module, "nnUNet_preprocessed", str(tmp_path / "preprocessed"))
    monkeypatch.setattr(module, "nnUNet_results", str(tmp_path / "results"))
    plan = plans((3.0, 3.0, 3.0), (16, 16, 16), ["CTNormalization"])
    dataset = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "liver": 1, "tumor": 2},
        "numTraining": 0,
        "file_ending": ".nii.gz",
    }
    cases = tmp_path / "preprocessed" / plan["dataset_name"] / "nnUNetPlans_3d_fullres"
    cases.mkdir(parents=True)
    np.savez(cases / "case.npz", data=np.zeros(1))
    trainer = module.nnUNetTrainer(plan, "3d_fullres", 0, dataset, device=torch.device("cpu"))
    trainer.initialize()
    trainer.logger.log("mean_fg_dice", np.float64(0.5), 0)
    trainer._best_ema = np.float64(0.5)
    fold = Path(trainer.output_folder)
    trainer.save_checkpoint(str(fold / "checkpoint_final.pth"))
    assert "optimizer_state" in torch.load(fold / "checkpoint_final.pth", weights_only=False)
    (fold.parent / "plans.json").write_text(json.dumps(plan))
    (fold.parent / "dataset.json").write_text(json.dumps(dataset))
    scan = _scan()
    found = NnUNetFolder(parse_spec(str(fold.parent), "nnunet")).probabilities(scan, scan.geometry.full_box)
    theirs = _nnunet_says(fold.parent, scan.float32()[None], scan.geometry.spacing_mm, (0,))
    np.testing.assert_allclose(found["tumor"], theirs[2], atol=1e-6)


def test_hounsfield_units_are_asked_of_the_ct_only(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "m", schemes=["CTNormalization", "ZScoreNormalization"], channels=("CT", "PET"))
    network = NnUNetFolder(parse_spec(f"{folder}#0", "nnunet"))
    ct, pet = _scan(seed=1), _scan(seed=2)
    main_is_pet = Volume(
        array=pet.array, geometry=pet.geometry, modality="PT", unit="arbitrary", channels={"CT": ct.array}
    )
    assert network.probabilities(main_is_pet, pet.geometry.full_box)["tumor"].shape == pet.array.shape
    grey = Volume(array=ct.array, geometry=ct.geometry, modality="CT", unit="arbitrary", channels={"PET": pet.array})
    with pytest.raises(InputError, match="needs Hounsfield units"):
        network.probabilities(grey, ct.geometry.full_box)


@pytest.mark.filterwarnings("ignore:Detected old nnU-Net plans format")
def test_plans_of_older_nnunet_versions(tmp_path: Path) -> None:
    """Before 2.5 the plans had no `architecture`, only the numbers that it follows from."""
    plan = plans((3.0, 3.0, 3.0), (16, 16, 16), ["CTNormalization"])
    configuration = plan["configurations"]["3d_fullres"]
    del configuration["architecture"]
    configuration |= {
        "UNet_class_name": "PlainConvUNet",
        "UNet_base_num_features": 4,
        "n_conv_per_stage_encoder": [1, 1],
        "n_conv_per_stage_decoder": [1],
        "num_pool_per_axis": [1, 1, 1],
        "pool_op_kernel_sizes": [[1, 1, 1], [2, 2, 2]],
        "conv_kernel_sizes": [[3, 3, 3], [3, 3, 3]],
        "unet_max_num_features": 8,
    }
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    own = PlansManager(plan).get_configuration("3d_fullres")
    network = get_network_from_plans(
        own.network_arch_class_name,
        own.network_arch_init_kwargs,
        own.network_arch_init_kwargs_req_import,
        1,
        3,
        deep_supervision=False,
    )
    random_weights(network, seed=3)
    labels = {"background": 0, "liver": 1, "tumor": 2}
    folder, scan = write_nnunet(tmp_path / "m", {"fold_0": network}, plan, labels=labels), _scan()
    found = NnUNetFolder(parse_spec(str(folder), "nnunet")).probabilities(scan, scan.geometry.full_box)
    theirs = _nnunet_says(folder, scan.float32()[None], scan.geometry.spacing_mm, (0,))
    np.testing.assert_allclose(found["tumor"], theirs[2], atol=1e-6)
