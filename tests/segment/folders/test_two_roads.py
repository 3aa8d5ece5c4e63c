"""One network by two roads, as nnU-Net folder and as bundle, gives one answer: windows, weights and scales agree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from helpers.bundle_models import write_bundle
from helpers.folder_models import CT_SCALE, build, plans, random_weights, write_nnunet

from r2seg_agent.imaging.geometry import Box, Geometry
from r2seg_agent.imaging.volume import Volume
from r2seg_agent.segment.protocol import Prompt
from r2seg_agent.segment.registry import segmenter


def test_a_folder_and_a_bundle_of_the_same_network_agree(tmp_path: Path) -> None:
    shape, spacing = (37, 44, 29), (3.0, 2.0, 1.5)
    rng = np.random.default_rng(3)
    array = rng.normal(40.0, 120.0, shape).astype(np.int16)
    scan = Volume(array=array, geometry=Geometry(shape=shape, spacing_mm=spacing), modality="CT", unit="HU")
    plan = plans(spacing, (16, 16, 16), ["CTNormalization"])
    network = build(plan, 1, 3)
    random_weights(network, seed=8)
    labels = {"background": 0, "liver": 1, "tumor": 2}
    folder = write_nnunet(tmp_path / "folder", {"fold_0": network}, plan, labels=labels, mirror_axes=(0, 2))
    scale = {
        "kind": "zscore",
        "mean": CT_SCALE["mean"],
        "sd": CT_SCALE["std"],
        "clip": [CT_SCALE["percentile_00_5"], CT_SCALE["percentile_99_5"]],
    }
    bundle = write_bundle(
        tmp_path / "bundle",
        network,
        channels=[{"name": "CT", "normalisation": scale}],
        classes=[{"name": name} for name in labels],
        activation="softmax",
        spacing_mm=list(spacing),
        overlap=0.5,
        mirror=[0, 2],
    )
    prompt = Prompt("", "", "liver", "CT", concept="liver_lesion")
    for roi in (scan.geometry.full_box, Box(start=(10, 8, 4), stop=(20, 30, 25))):
        by_folder, by_bundle = (
            model.segment(model.encode(scan, roi), [prompt])[0]
            for model in (segmenter(f"nnunet:{folder}"), segmenter(f"bundle:{bundle}#trust"))
        )
        assert float(by_bundle.std()) > 0.05, "a constant answer would prove nothing"
        difference = np.abs(by_bundle - by_folder)
        assert float(difference.mean()) < 1e-3
        # nnU-Net adds its tiles in half precision, in which the weights at the corners of the scan all but vanish
        assert float(np.quantile(difference, 0.995)) < 0.01
