"""An abdomen whose tissues have grey values of their own, and models of each kind that tell them apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from helpers.bundle_models import write_bundle
from helpers.folder_models import bright_detector, build, plans, write_nnunet
from r2seg_agent.imaging.geometry import Geometry
from r2seg_agent.imaging.itk import write_itk
from r2seg_agent.imaging.write import write_label_map
from r2seg_agent.report.models import Report
from r2seg_agent.runs.api import FindOptions, run_find

LOW, HIGH = -1000.0, 1000.0
"""The window of the bundles: 0 HU is 0.5."""
HU = {"air": -1000.0, "body": -60.0, "liver": 100.0, "gallbladder": 20.0, "lesion": 180.0}
GEOMETRY = Geometry(shape=(36, 56, 56), spacing_mm=(4.0, 3.0, 3.0))


class Bands(nn.Module):
    """Logit of class k: gain · (half width − |x − centre k|), of the first output (background) 0."""

    def __init__(self, centres: tuple[float, ...], half_width: float = 30.0, gain: float = 400.0) -> None:
        super().__init__()
        self.register_buffer("centres", (torch.tensor(centres) - LOW) / (HIGH - LOW))
        self.half_width, self.gain = half_width / (HIGH - LOW), gain

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        near = self.half_width - (x[:, :1] - self.centres.view(1, -1, 1, 1, 1)).abs()
        return torch.cat([torch.zeros_like(x[:, :1]), self.gain * near], dim=1)


@dataclass(frozen=True)
class OrganCase:
    """The folder holds ct.nii.gz and truth.nii.gz; `masks` (z, y, x) of the organs and the lesion."""

    folder: Path
    masks: Mapping[str, NDArray[np.bool_]]

    def find(self, anchors: str, request: str = "find the liver lesion", **changes: object) -> Report:
        """The report of a search with these anchors."""
        values = {
            "anchors": anchors,
            "truth": str(self.folder / "truth.nii.gz"),
            "segmenter": "contrast",
            "modality": "CT",
            "workspace": self.folder / "ws",
            "synthetic": True,
        } | changes
        return run_find(request, str(self.folder / "ct.nii.gz"), FindOptions.model_validate(values)).report


def ball(centre_mm: tuple[float, float, float], radius_mm: float, geometry: Geometry = GEOMETRY) -> NDArray[np.bool_]:
    """(z, y, x) mask of a ball; its centre in mm along the axes of the array."""
    axes = [np.arange(n) * s for n, s in zip(geometry.shape, geometry.spacing_mm, strict=True)]
    away = [(axis - c) ** 2 for axis, c in zip(axes, centre_mm, strict=True)]
    mask: NDArray[np.bool_] = away[0][:, None, None] + away[1][:, None] + away[2] < radius_mm**2
    return mask


def make_abdomen(folder: Path) -> OrganCase:
    """A liver with one bright lesion and a gallbladder in its bed, in a body of −60 HU."""
    body = ball((72.0, 84.0, 84.0), 80.0)
    liver = ball((72.0, 84.0, 84.0), 55.0)
    gallbladder = ball((72.0, 110.0, 84.0), 14.0)
    lesion = ball((76.0, 66.0, 96.0), 12.0)
    grey = np.full(GEOMETRY.shape, HU["air"])
    for name, mask in (("body", body), ("liver", liver), ("gallbladder", gallbladder), ("lesion", lesion)):
        grey[mask] = HU[name]
    grey += np.random.default_rng(7).normal(0.0, 4.0, GEOMETRY.shape)
    write_itk(folder / "ct.nii.gz", grey.astype(np.int16), GEOMETRY)
    write_label_map(folder / "truth.nii.gz", lesion.astype(np.uint8), GEOMETRY)
    return OrganCase(folder, {"liver": liver & ~gallbladder, "gallbladder": gallbladder, "lesion": lesion})


def organ_bundle(folder: Path, classes: Mapping[str, float], **changes: object) -> Path:
    """A bundle with one band of grey values (HU) a class."""
    values = {
        "classes": [{"name": "background"}, *({"name": name} for name in classes)],
        "channels": [{"name": "CT", "normalisation": {"kind": "window", "low": LOW, "high": HIGH}}],
        "activation": "softmax",
        "input_size": [24, 24, 24],
        "stand_in": True,
        "name": "organs",
    } | changes
    return write_bundle(folder, Bands(tuple(classes.values())), **values)


def organ_nnunet(folder: Path, labels: Mapping[str, int] | None = None, *, liver_above: float = 60.0) -> Path:
    """An nnU-Net folder of background, liver (above `liver_above` HU), tumor (above 140 HU) and a class without use."""
    plan = plans(GEOMETRY.spacing_mm, (32, 32, 32), ["CTNormalization"], name="Dataset903_Organs")
    network = build(plan, 1, 4)
    bright_detector(network, channel=0, output=1, threshold=liver_above / 100.0)
    at = 1.4 - 8.0 * (1.4 - liver_above / 100.0) / 24.0
    with torch.no_grad():
        last = network.decoder.seg_layers[-1]
        last.weight[2, 0], last.bias[2] = 24.0, -24.0 * at
        last.bias[3] = -50.0
    given = labels or {"background": 0, "liver": 1, "tumor": 2, "widget": 3}
    return write_nnunet(folder, {"fold_0": network}, plan, labels=given, extra={"r2seg_stand_in": True})
