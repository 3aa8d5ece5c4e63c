"""Files damaged at random places: an `InputError` or a volume, never another exception and never a crash."""

from __future__ import annotations

import random
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from helpers import dicom_files
from helpers.broken_inputs import SHAPE, body, save_nifti
from PIL import Image

from r2seg_agent.errors import InputError
from r2seg_agent.imaging.masks import read_label_map
from r2seg_agent.imaging.read import read_image
from r2seg_agent.imaging.write import write_dicom_seg

KINDS = (
    "a.nii",
    "a.nii.gz",
    "a.nrrd",
    "z.nrrd",
    "a.mha",
    "z.mha",
    "a.png",
    "a.jpg",
    "a.tif",
    "a.dcm",
    "rs.dcm",
    "seg.dcm",
)
DAMAGED = 30
"""Damaged copies of each kind; a longer search over 60 000 copies found the faults that these guard."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    save_nifti(folder / "a.nii", body())
    save_nifti(folder / "a.nii.gz", body())
    for name in ("a.nrrd", "z.nrrd", "a.mha", "z.mha"):
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(body()), str(folder / name), name.startswith("z"))
    for name in ("a.png", "a.jpg", "a.tif"):
        Image.fromarray(np.add.outer(np.arange(30), np.arange(40)).astype(np.uint8)).save(folder / name)
    dicom_files.dicom_slice((body()[2] + 1024).astype(np.uint16), (1, 2, 3)).save_as(folder / "a.dcm")
    square = np.array([[0, 0, 0], [5, 0, 0], [5, 5, 0]], dtype=np.float64)
    dicom_files.rtstruct({"GTV": [square]}).save_as(folder / "rs.dcm")
    dicom_files.write_series(folder / "series", body())
    labels = np.zeros(SHAPE, np.uint8)
    labels[2, 5:9, 5:9] = 1
    write_dicom_seg(folder / "seg.dcm", labels, {1: "lesion"}, folder / "series")
    return folder


def damage(data: bytes, rng: random.Random) -> bytes:
    out = bytearray(data)
    reach = min(len(out), rng.choice([360, 600, 2000, len(out)]))  # headers are the interesting part
    for _ in range(rng.choice([1, 1, 2, 4, 16])):
        at = rng.randrange(max(1, min(reach, len(out))))
        kind = rng.random()
        if kind < 0.6:
            out[at : at + 1] = bytes([rng.choice([0, 255, rng.randrange(256), ord("-"), ord("9"), ord(" ")])])
        elif kind < 0.7 and at > 10:
            del out[at:]
        elif kind < 0.85:
            del out[at : at + rng.randrange(8)]
        else:
            out[at:at] = rng.randbytes(rng.randrange(8))
    return bytes(out)


@pytest.mark.parametrize("name", KINDS)
def test_random_damage_never_escapes_as_another_error(name: str, whole: Path, tmp_path: Path) -> None:
    rng = random.Random(f"damage to {name}")
    data = (whole / name).read_bytes()
    grid = read_image(whole / "a.nii").geometry
    for _ in range(DAMAGED):
        (tmp_path / name).write_bytes(damage(data, rng))
        with suppress(InputError):
            volume = read_image(tmp_path / name)
            assert np.isfinite(volume.array).all()
        with suppress(InputError):
            assert read_label_map(tmp_path / name, grid).shape == grid.shape
