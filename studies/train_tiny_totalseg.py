"""Train the tiny stand-in for TotalSegmentator's fastest CT network: `python -m studies.train_tiny_totalseg`.

A PlainConvUNet of about 260 000 weights learns the phantoms of `r2seg_agent.phantom` at 6 mm and is stored in
TotalSegmentator's own layout, so that tests and benchmarks run the real library code without its released weights.
It knows nothing but phantoms and says so in its `dataset.json`, which the anchor source shows wherever results are.
The patients are drawn once; every step takes a crop of one of them. The same machine, seed and options give the same
file: one thread, deterministic kernels.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.errors import InputError
from r2seg_agent.imaging.geometry import Index3
from r2seg_agent.phantom import Acquisition, LesionSpec, Phantom, Scanner, make_phantom
from r2seg_agent.phantom.materials import Phase
from r2seg_agent.phantom.scanner import KernelName

if TYPE_CHECKING:
    import torch
    from torch import nn

DATASET = "Dataset298_TotalSegmentator_total_6mm_1559subj"
TRAINER = "nnUNetTrainer_4000epochs_NoMirroring"
MODEL_FOLDER = f"{TRAINER}__nnUNetPlans__3d_fullres"
DESCRIPTION = "tiny test network trained on synthetic phantoms, NOT the released TotalSegmentator weights"
SPACING_MM = 6.0
PATCH: Index3 = (72, 56, 72)
FEATURES = (12, 20, 32, 44)
SHORT_VIEW = 48
"""Slices of most training samples: faster, and real scans seldom show the whole trunk."""
POOL_SHAPE: Index3 = (84, 56, 76)
"""Grid (z, y, x) on which each patient is drawn; a training sample is a crop of it."""
POOL_SHIFT_MM = 24.0
"""How far the pool's grid reaches above the usual field of view."""
SEEDS_BELOW = 100_000
"""Training draws patients with seeds below this; tests and scores use others."""
FINEST_MM = (6.0, 3.0, 3.0)
"""Patients are drawn with partial volume in the slice; along z the scanner's slice profile is enough."""
PHASES: tuple[tuple[Phase, float], ...] = (("venous", 0.7), ("arterial", 0.15), ("native", 0.15))
KERNELS: tuple[KernelName, ...] = ("soft", "standard")
CT_INTENSITIES = {"mean": -60.0, "std": 350.0, "percentile_00_5": -950.0, "percentile_99_5": 450.0}
"""The window and scale of nnU-Net's CTNormalization, ours for the phantom."""
ABSENT_BIAS = -20.0
"""Logit of the classes that no phantom holds: never the largest."""
LESION_ORGANS = ("liver", "pancreas", "kidney_left", "kidney_right", "spleen")


def main(arguments: list[str] | None = None) -> None:
    """Train, score on unseen phantoms, store."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder that becomes a TotalSegmentator weights folder")
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--patients", type=int, default=128, help="phantoms that the training samples are cut from")
    parser.add_argument("--seed", type=int, default=298)
    given = parser.parse_args(arguments)
    import torch

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    network, classes = train(steps=given.steps, seed=given.seed, patients=given.patients)
    dice = score(network, classes, seeds=range(900_001, 900_005))
    for name, value in sorted(dice.items(), key=lambda item: -item[1]):
        print(f"{name:32s} {value:.2f}")
    store(network, classes, given.out)
    print(f"stored in {given.out / DATASET}")


class Patient(NamedTuple):
    """One drawn patient: image (z, y, x) int16 in HU and `total` class indices (z, y, x)."""

    image: NDArray[np.int16]
    labels: NDArray[np.uint8]


def train(*, steps: int, seed: int, patients: int) -> tuple[nn.Module, list[int]]:
    """The trained network and the `total` class indices that its outputs stand for (first: 0, background)."""
    import torch
    from torch.nn.utils import clip_grad_norm_

    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    pool = [draw_patient(rng) for _ in range(patients)]
    counts = np.sum([np.bincount(patient.labels.ravel(), minlength=118) for patient in pool], axis=0)
    classes = [int(index) for index in np.flatnonzero(counts)]
    network = build_network(len(classes))
    print(f"{sum(p.numel() for p in network.parameters())} weights, {len(classes)} classes, {steps} steps", flush=True)
    optimizer = torch.optim.AdamW(network.parameters(), lr=4e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=6e-3, total_steps=steps, pct_start=0.15)
    weights = _class_weights(counts[classes])
    started, recent = time.monotonic(), 0.0
    for step in range(steps):
        length = PATCH[0] if step % 5 == 0 or step > 0.9 * steps else SHORT_VIEW
        image, target = _sample(pool[int(rng.integers(patients))], classes, rng, length=length)
        optimizer.zero_grad(set_to_none=True)
        loss = _loss(network(image), target, weights)
        torch.autograd.backward(loss)
        clip_grad_norm_(network.parameters(), 5.0)  # the weighted loss has rare large steps
        optimizer.step()
        schedule.step()
        recent = 0.95 * recent + 0.05 * float(loss.detach()) if step else float(loss.detach())
        if (step + 1) % 25 == 0:
            print(f"step {step + 1}/{steps}  loss {recent:.3f}  {time.monotonic() - started:.0f} s", flush=True)
    return network, classes


def build_network(n_outputs: int, architecture: dict[str, Any] | None = None) -> nn.Module:
    """nnU-Net's PlainConvUNet without deep supervision, from a plans file's `architecture` (default: the tiny one)."""
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    plan = architecture or _architecture()
    network: nn.Module = get_network_from_plans(
        plan["network_class_name"],
        plan["arch_kwargs"],
        plan["_kw_requires_import"],
        1,
        n_outputs,
        deep_supervision=False,
    )
    return network


def score(network: nn.Module, classes: list[int], seeds: range) -> dict[str, float]:
    """Dice per class, pooled over unseen phantoms."""
    import torch

    network.eval()
    names = make_phantom(0, spacing_mm=(48.0, 48.0, 48.0)).class_names
    both, each = np.zeros(len(classes)), np.zeros(len(classes))
    for seed in seeds:
        phantom = make_phantom(seed, spacing_mm=(SPACING_MM,) * 3, acquisition=Acquisition(finest_mm=FINEST_MM))
        image, target = network_input(phantom.volume.array, phantom.labels, classes)
        with torch.inference_mode():
            found = network(image).argmax(1).numpy()
        truth = target.numpy()
        for index in range(1, len(classes)):
            both[index] += np.sum((found == index) & (truth == index))
            each[index] += np.sum(found == index) + np.sum(truth == index)
    return {names[c]: float(2 * both[i] / max(each[i], 1.0)) for i, c in enumerate(classes) if i > 0}


def store(network: nn.Module, classes: list[int], out: Path) -> None:
    """Write `plans.json`, `dataset.json` and the checkpoint (half precision) as TotalSegmentator lays them out."""
    import torch

    folder = out / DATASET / MODEL_FOLDER
    (folder / "fold_0").mkdir(parents=True, exist_ok=True)
    full = build_network(118)
    state = dict(full.state_dict())
    for key, value in network.state_dict().items():
        if state[key].shape == value.shape:
            state[key] = value
        else:
            wide = torch.zeros_like(state[key])
            if key.endswith("bias"):
                wide += ABSENT_BIAS
            wide[classes] = value
            state[key] = wide
    checkpoint = {
        "network_weights": _halved(state),
        "trainer_name": TRAINER,
        "init_args": {"configuration": "3d_fullres"},
        "inference_allowed_mirroring_axes": None,
    }
    torch.save(checkpoint, folder / "fold_0" / "checkpoint_final.pth")
    (folder / "plans.json").write_text(json.dumps(_plans(), indent=1) + "\n", encoding="utf-8")
    (folder / "dataset.json").write_text(json.dumps(_dataset(), indent=1) + "\n", encoding="utf-8")


def _halved(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights in half precision; nnU-Net lists many of them under several names, which must stay one tensor."""
    halves: dict[int, torch.Tensor] = {}
    return {key: halves.setdefault(value.data_ptr(), value.half()) for key, value in state.items()}


def _class_weights(counts: NDArray[np.int64]) -> torch.Tensor:
    """Inverse to the 0.4th power of the class frequency, at most 8 times the mean: or small organs vanish."""
    import torch

    weights = np.maximum(counts / counts.sum(), 1e-6) ** -0.4
    weights = np.minimum(weights / weights.mean(), 8.0)
    return torch.as_tensor(weights, dtype=torch.float32)


def draw_patient(rng: np.random.Generator) -> Patient:
    """A phantom of random phase, kernel and noise, half of them with a lesion where its organ can hold it."""
    seed = int(rng.integers(SEEDS_BELOW))
    phases, shares = zip(*PHASES, strict=True)
    scanner = Scanner(kernel=KERNELS[int(rng.integers(len(KERNELS)))], noise_sd=float(rng.uniform(6, 34)))
    acquisition = Acquisition(
        scanner=scanner, phase=phases[int(rng.choice(len(phases), p=shares))], finest_mm=FINEST_MM
    )
    z, y, x = rng.uniform(-SPACING_MM / 2, SPACING_MM / 2, 3)
    shift = (POOL_SHIFT_MM + float(z), float(y), float(x))
    lesion = LesionSpec(str(rng.choice(LESION_ORGANS)), float(rng.uniform(1, 8)), float(rng.choice([-60, -40, 50])))

    def drawn(*lesions: LesionSpec) -> Phantom:
        return make_phantom(
            seed,
            spacing_mm=(SPACING_MM,) * 3,
            shape=POOL_SHAPE,
            shift_mm=shift,
            lesions=lesions,
            acquisition=acquisition,
        )

    try:
        phantom = drawn(lesion) if rng.random() < 0.5 else drawn()
    except InputError:  # this patient's organ is too small for the lesion
        phantom = drawn()
    return Patient(phantom.volume.array.astype(np.int16), phantom.labels)


def _sample(
    patient: Patient, classes: list[int], rng: np.random.Generator, *, length: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """A crop of `length` slices, anywhere along the patient, as `network_input`."""
    shape = (length, int(rng.integers(44, 54)), int(rng.integers(58, 72)))
    spare = [whole - n for whole, n in zip(POOL_SHAPE, shape, strict=True)]
    y, x = (n // 2 + int(rng.integers(-1, 2)) for n in spare[1:])
    at = tuple(slice(start, start + n) for start, n in zip((int(rng.integers(spare[0] + 1)), y, x), shape, strict=True))
    return network_input(patient.image[at], patient.labels[at], classes)


def network_input(
    image: NDArray[Any], labels: NDArray[np.uint8], classes: list[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """A scan (z, y, x; at most `PATCH` in y and x): normalised image (1, 1, z, y, x), class positions (1, z, y, x).

    Phantoms are stored LPS, the library shows its networks RAS+: y and x are turned round. Padded as nnU-Net pads.
    """
    import torch

    grey, turned = normalise(image.astype(np.float32))[:, ::-1, ::-1], labels[:, ::-1, ::-1]
    position = np.zeros(118, dtype=np.int64)
    position[classes] = np.arange(len(classes))
    patch = (grey.shape[0], *PATCH[1:])
    padded, target = np.zeros(patch, dtype=np.float32), np.zeros(patch, dtype=np.int64)
    at = tuple(slice((p - n) // 2, (p - n) // 2 + n) for p, n in zip(patch, grey.shape, strict=True))
    padded[at], target[at] = grey, position[turned]
    return torch.from_numpy(padded)[None, None], torch.from_numpy(target)[None]


def normalise(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """nnU-Net's CTNormalization with our intensities: clip to the percentiles, subtract mean, divide by std."""
    low, high = CT_INTENSITIES["percentile_00_5"], CT_INTENSITIES["percentile_99_5"]
    scaled: NDArray[np.float32] = (np.clip(image, low, high) - CT_INTENSITIES["mean"]) / CT_INTENSITIES["std"]
    return scaled.astype(np.float32)


def _loss(logits: torch.Tensor, target: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Weighted cross-entropy plus one minus the mean soft Dice of the foreground classes in the patch."""
    from torch.nn import functional

    entropy = functional.cross_entropy(logits, target, weight=weights)
    probability = logits.softmax(1)
    index = target.unsqueeze(1)
    hit = probability.gather(1, index).flatten()
    n_classes = logits.shape[1]
    both = hit.new_zeros(n_classes).scatter_add(0, target.flatten(), hit)
    truth = target.flatten().bincount(minlength=n_classes)
    present = truth > 0
    present[0] = False
    dice = (2 * both + 1) / (probability.sum((0, 2, 3, 4)) + truth + 1)
    return entropy + 1 - dice[present].mean()


def _architecture() -> dict[str, Any]:
    n = len(FEATURES)
    return {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": {
            "n_stages": n,
            "features_per_stage": list(FEATURES),
            "conv_op": "torch.nn.modules.conv.Conv3d",
            "kernel_sizes": [[3, 3, 3]] * n,
            "strides": [[1, 1, 1]] + [[2, 2, 2]] * (n - 1),
            "n_conv_per_stage": [1] + [2] * (n - 1),
            "n_conv_per_stage_decoder": [1] * (n - 1),
            "conv_bias": True,
            "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def _plans() -> dict[str, Any]:
    resampling = {f"resampling_fn_{kind}": "resample_data_or_seg_to_shape" for kind in ("data", "seg", "probabilities")}
    options = {
        f"resampling_fn_{kind}_kwargs": {
            "is_seg": kind == "seg",
            "order": order,
            "order_z": 0,
            "force_separate_z": None,
        }
        for kind, order in (("data", 3), ("seg", 1), ("probabilities", 1))
    }
    configuration = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 1,
        "patch_size": list(PATCH),
        "median_image_size_in_voxels": [72, 48, 67],
        "spacing": [SPACING_MM] * 3,
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        **resampling,
        **options,
        "architecture": _architecture(),
        "batch_dice": True,
    }
    return {
        "dataset_name": DATASET,
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [SPACING_MM] * 3,
        "original_median_shape_after_transp": [72, 48, 67],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {"3d_fullres": configuration},
        "experiment_planner_used": "studies.train_tiny_totalseg",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            "0": {**CT_INTENSITIES, "median": 0.0, "max": 3071.0, "min": -1024.0}
        },
    }


def _dataset() -> dict[str, Any]:
    from totalsegmentator.map_to_binary import class_map

    return {
        "name": "tiny synthetic test weights",
        "description": DESCRIPTION,
        "r2seg_stand_in": True,
        "licence": "Apache-2.0",
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, **{name: int(index) for index, name in class_map["total"].items()}},
        "numTraining": 0,
        "file_ending": ".nii.gz",
    }


if __name__ == "__main__":
    main(sys.argv[1:])
