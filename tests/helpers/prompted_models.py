"""Made-up weights of models that take prompts, in the layout that `r2seg models fetch` makes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from helpers.folder_models import bright_detector, build, plans, write_nnunet

INPUTS: Final = 8
"""nnInteractive's: the image and seven channels of prompts."""
BOX_CHANNEL, POINT_CHANNEL = 2, 4
INFORMATION = {"inference_class": "nnInteractiveInferenceSession", "point_radius": 4, "interaction_decay": 0.9}
WINDOW: Final = 32
TEXT: Final = 6
VOXTELL_SIZES = {
    "text_embedding_dim": TEXT,
    "query_dim": 48,
    "num_heads": 2,
    "project_to_decoder_hidden_dim": 16,
}


def write_nninteractive(folder: Path, channel: int, threshold: float) -> Path:
    """A folder as version 1.0 has it, whose network marks where `channel` is above `threshold`."""
    plan = plans((1.0, 1.0, 1.0), (32, 32, 32), ["ZScoreNormalization"], name="Dataset225_nnInteractiveV2")
    for kind in ("data", "seg", "probabilities"):  # it works in voxels, so its plans resample nothing
        plan["configurations"]["3d_fullres"][f"resampling_fn_{kind}"] = "no_resampling_hack"
        plan["configurations"]["3d_fullres"][f"resampling_fn_{kind}_kwargs"] = {}
    network = build(plan, INPUTS, 2)
    bright_detector(network, channel=channel, output=1, threshold=threshold)
    write_nnunet(folder, {"fold_0": network}, plan, labels={"background": 0, "object": 1}, channels=("image",))
    (folder / "inference_session_class.json").write_text(json.dumps(INFORMATION))
    return folder


def voxtell_arguments(**changes: Any) -> dict[str, Any]:
    """`arch_kwargs` of a residual encoder with one block a stage."""
    return {
        "n_stages": 6,
        "features_per_stage": [32, 64, 128, 256, 320, 320],
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3, 3, 3]] * 6,
        "strides": [[1, 1, 1]] + [[2, 2, 2]] * 5,
        "n_blocks_per_stage": [1] * 6,
        "n_conv_per_stage_decoder": [1] * 5,
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    } | changes


def write_voxtell(folder: Path, texts: dict[str, list[float]], window: int = WINDOW, **changes: Any) -> Path:
    """A folder as `r2seg models fetch voxtell` makes it, with the network that is importable as `voxtell`."""
    from voxtell.model.voxtell_model import VoxTellModel

    torch.manual_seed(4)
    given = voxtell_arguments() | {
        "conv_op": torch.nn.Conv3d,
        "norm_op": torch.nn.InstanceNorm3d,
        "nonlin": torch.nn.LeakyReLU,
    }
    network = VoxTellModel(input_channels=1, **given, **VOXTELL_SIZES, decoder_layer=4, num_maskformer_stages=5)
    (folder / "fold_0").mkdir(parents=True)
    torch.save(
        {
            "network_weights": network.state_dict(),
            "trainer_name": "VoxTellTrainer",
            "init_args": {"configuration": "3d_fullres"},
        },
        folder / "fold_0" / "checkpoint_final.pth",
    )
    architecture = {
        "network_class_name": "a.class.of.the.authors",
        "arch_kwargs": voxtell_arguments(**changes),
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }
    configuration = {"patch_size": [window] * 3, "architecture": architecture}
    (folder / "plans.json").write_text(json.dumps({"configurations": {"3d_fullres": configuration}}))
    vectors = np.zeros((len(texts), TEXT), np.float16)
    for row, values in zip(vectors, texts.values(), strict=True):
        row[: len(values)] = values
    np.savez(folder / "text_embeddings.npz", labels=np.array(list(texts)), embeddings=vectors)
    return folder
