"""Tiny model folders for tests: nnU-Net results in nnU-Net's own layout, with weights set by hand or by chance."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

CT_SCALE = {"mean": 0.0, "std": 100.0, "percentile_00_5": -1000.0, "percentile_99_5": 1000.0}
"""CTNormalization of the tiny networks: HU / 100."""


def architecture(features: Sequence[int] = (4, 6), ndim: int = 3) -> dict[str, Any]:
    """A PlainConvUNet of two stages without normalisation layers, as a plans file describes it."""
    n = len(features)
    return {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": {
            "n_stages": n,
            "features_per_stage": list(features),
            "conv_op": f"torch.nn.modules.conv.Conv{ndim}d",
            "kernel_sizes": [[3] * ndim] * n,
            "strides": [[1] * ndim] + [[2] * ndim] * (n - 1),
            "n_conv_per_stage": [1] * n,
            "n_conv_per_stage_decoder": [1] * (n - 1),
            "conv_bias": True,
            "norm_op": None,
            "norm_op_kwargs": None,
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def plans(
    spacing: Sequence[float],
    patch: Sequence[int],
    schemes: Sequence[str],
    *,
    name: str = "Dataset901_Liver",
    configuration: str = "3d_fullres",
    reader: str = "SimpleITKIO",
    transpose: Sequence[int] = (0, 1, 2),
    previous: str | None = None,
) -> dict[str, Any]:
    """`plans.json`."""
    kinds = (("data", 3), ("seg", 1), ("probabilities", 1))
    resampling: dict[str, Any] = {f"resampling_fn_{kind}": "resample_data_or_seg_to_shape" for kind, _ in kinds}
    for kind, order in kinds:
        resampling[f"resampling_fn_{kind}_kwargs"] = {
            "is_seg": kind == "seg",
            "order": order,
            "order_z": 0,
            "force_separate_z": None,
        }
    chosen = {
        "data_identifier": f"nnUNetPlans_{configuration}",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 1,
        "patch_size": list(patch),
        "median_image_size_in_voxels": list(patch),
        "spacing": list(spacing),
        "normalization_schemes": list(schemes),
        "use_mask_for_norm": [False] * len(schemes),
        **resampling,
        "architecture": architecture(ndim=len(patch)),
        "batch_dice": False,
    }
    if previous is not None:
        chosen["previous_stage"] = previous
    intensities = {str(n): {**CT_SCALE, "median": 0.0, "max": 3000.0, "min": -1024.0} for n in range(len(schemes))}
    return {
        "dataset_name": name,
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [3.0, 3.0, 3.0],
        "original_median_shape_after_transp": [64, 64, 64],
        "image_reader_writer": reader,
        "transpose_forward": list(transpose),
        "transpose_backward": [list(transpose).index(axis) for axis in range(3)],
        "configurations": {configuration: chosen},
        "experiment_planner_used": "tests",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": intensities,
    }


def build(plan: Mapping[str, Any], n_inputs: int, n_outputs: int) -> nn.Module:
    """The network that the (only) configuration of a plans file describes."""
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    (configuration,) = plan["configurations"].values()
    own = configuration["architecture"]
    network: nn.Module = get_network_from_plans(
        own["network_class_name"],
        own["arch_kwargs"],
        own["_kw_requires_import"],
        n_inputs,
        n_outputs,
        deep_supervision=False,
    )
    return network


def random_weights(network: nn.Module, seed: int) -> None:
    """Weights by chance, large enough that answers differ from place to place."""
    generator = torch.Generator().manual_seed(seed)
    for value in network.state_dict().values():
        value.copy_(0.3 * torch.randn(value.shape, generator=generator))


def bright_detector(network: nn.Module, channel: int, output: int, threshold: float, gain: float = 8.0) -> None:
    """Weights by hand: logit of `output` = gain · (mean of `channel` over 3 voxels a side − threshold), others 0.

    The first convolution averages, the skip connection hands its result on, everything else is 0. For thresholds > 0:
    what is negative is made small by the LeakyReLU, and stays far below.
    """
    for value in network.state_dict().values():
        value.zero_()
    first = next(m for m in network.encoder.modules() if isinstance(m, nn.Conv3d | nn.Conv2d))
    with torch.no_grad():
        first.weight[0, channel] = 1.0 / first.weight[0, channel].numel()
        (joined,) = [m for m in network.decoder.stages.modules() if isinstance(m, nn.Conv3d | nn.Conv2d)]
        n_up = joined.weight.shape[1] - first.weight.shape[0]
        joined.weight[(0, n_up, *(k // 2 for k in joined.kernel_size))] = 1.0
        last = network.decoder.seg_layers[-1]
        last.weight[output, 0] = gain
        last.bias[output] = -gain * threshold


def write_nnunet(
    folder: Path,
    networks: Mapping[str, nn.Module],
    plan: Mapping[str, Any],
    *,
    labels: Mapping[str, Any],
    channels: Sequence[str] = ("CT",),
    regions_order: Sequence[int] | None = None,
    trainer: str = "nnUNetTrainer",
    mirror_axes: tuple[int, ...] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Path:
    """A result folder; `networks` by fold name ("fold_0"). Checkpoints hold NumPy numbers, as nnU-Net's own do."""
    (configuration,) = plan["configurations"]
    for fold, network in networks.items():
        (folder / fold).mkdir(parents=True)
        torch.save(
            {
                "network_weights": network.state_dict(),
                "trainer_name": trainer,
                "init_args": {"configuration": configuration, "fold": 0},
                "inference_allowed_mirroring_axes": mirror_axes,
                "logging": {"mean_fg_dice": [np.float64(0.5), np.float32(0.6)]},
                "_best_ema": np.float64(0.7),
            },
            folder / fold / "checkpoint_final.pth",
        )
    dataset: dict[str, Any] = {
        "channel_names": {str(n): name for n, name in enumerate(channels)},
        "labels": dict(labels),
        "numTraining": 0,
        "file_ending": ".nii.gz",
        **(extra or {}),
    }
    if regions_order is not None:
        dataset["regions_class_order"] = list(regions_order)
    (folder / "plans.json").write_text(json.dumps(plan))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    return folder
