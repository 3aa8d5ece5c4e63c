"""A small scan with one dark ball in a uniform organ, and sessions on it: seconds for a whole search."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from r2seg_agent.graphs.planner import Planner
from r2seg_agent.imaging.geometry import Geometry
from r2seg_agent.imaging.volume import Volume
from r2seg_agent.imaging.write import write_label_map, write_volume
from r2seg_agent.runs.api import open_chat
from r2seg_agent.runs.options import RunOptions
from r2seg_agent.runs.session import Session

GEOMETRY = Geometry(shape=(24, 48, 48), spacing_mm=(3.0, 2.0, 2.0))


def ball_volume(*, ball: bool = True, seed: int = 2) -> Volume:
    """A uniform organ with correlated noise, and a dark ball of 5.6 ml in its middle unless `ball` is False."""
    rng = np.random.default_rng(seed)
    z, y, x = np.indices(GEOMETRY.shape)
    inside = ((z - 12) * 3.0) ** 2 + ((y - 24) * 2.0) ** 2 + ((x - 26) * 2.0) ** 2 <= 11.0**2
    noise = ndimage.gaussian_filter(rng.standard_normal(GEOMETRY.shape), 1.0) * 25.0
    depth = 60.0 if ball else 0.0
    grey = np.rint(80.0 + noise - depth * ndimage.gaussian_filter(inside.astype(float), 0.8)).astype(np.int16)
    return Volume(array=grey, geometry=GEOMETRY, modality="CT", unit="HU")


def write_case(folder: Path, *, ball: bool = True, seed: int = 2) -> tuple[Path, Path]:
    """The scan and its organ map (liver, with stomach and spleen beside it) as files in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    labels = np.zeros(GEOMETRY.shape, np.uint8)
    labels[2:-2, 6:-6, 6:-6] = 1
    labels[2:-2, 6:-6, 1:5] = 2
    labels[2:-2, 6:-6, -5:-1] = 3
    write_volume(folder / "image.nii.gz", ball_volume(ball=ball, seed=seed))
    write_label_map(folder / "organs.nii.gz", labels, GEOMETRY, names={1: "liver", 2: "stomach", 3: "spleen"})
    return folder / "image.nii.gz", folder / "organs.nii.gz"


def small_options(folder: Path, **more: Any) -> RunOptions:
    """Options of a run on `write_case(folder)`; its workspace is `folder/ws`."""
    given = {"anchors": str(folder / "organs.nii.gz"), "segmenter": "contrast", "workspace": folder / "ws", **more}
    return RunOptions.model_validate(given)


def open_small_chat(folder: Path, planner: Planner | None = None, **more: Any) -> Session:
    """A conversation over the small scan, by the paper's test unless `more` says otherwise."""
    image, _ = write_case(folder)
    given = {"modality": "CT", "reject": "paper", **more}
    return open_chat(str(image), small_options(folder, **given), planner=planner)


def keywords(case: Path, workspace: Path) -> dict[str, Any]:
    """Options of `r2seg_agent.find` on `write_case(case)`."""
    return {
        "anchors": str(case / "organs.nii.gz"),
        "segmenter": "contrast",
        "workspace": workspace,
        "modality": "CT",
        "overlays": False,
    }


def write_chest(folder: Path) -> Path:
    """A CT of a trunk with two lungs and a nodule of 7 ml in the right one: HU tell its organs apart."""
    folder.mkdir(parents=True, exist_ok=True)
    geometry = Geometry(shape=(24, 40, 48), spacing_mm=(6.0, 6.0, 6.0))
    z, y, x = (axis * 6.0 for axis in np.indices(geometry.shape))
    hu = np.full(geometry.shape, -1000.0)
    hu[((y - 117) / 105) ** 2 + ((x - 141) / 130) ** 2 < 1] = 40.0
    for middle in (81.0, 201.0):
        hu[((z - 69) / 55) ** 2 + ((y - 117) / 68) ** 2 + ((x - middle) / 42) ** 2 < 1] = -850.0
    hu[(z - 69) ** 2 + (y - 111) ** 2 + (x - 81) ** 2 < 12.5**2] = 30.0
    hu += np.random.default_rng(4).normal(0.0, 9.0, geometry.shape)
    volume = Volume(array=np.rint(hu).astype(np.int16), geometry=geometry, modality="CT", unit="HU")
    write_volume(folder / "chest.nii.gz", volume)
    return folder / "chest.nii.gz"
