"""The folder that the commands of the documentation run in: a small chest CT, organ masks, tables of cases."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from helpers.dicom_files import dicom_slice
from r2seg_agent.imaging.geometry import Geometry
from r2seg_agent.imaging.volume import Volume
from r2seg_agent.imaging.write import write_label_map, write_volume
from r2seg_agent.reject.calibration import CaseScores, build_calibration
from r2seg_agent.reject.calibration_file import load_calibration, save_calibration

GEOMETRY = Geometry(shape=(30, 64, 72), spacing_mm=(4.0, 3.2, 3.2))
ORGANS = {1: "lung_right", 2: "lung_left", 3: "liver"}


def _ellipsoid(centre_mm: tuple[float, ...], radii_mm: tuple[float, ...]) -> NDArray[np.bool_]:
    """Voxels inside an ellipsoid; centre (from the first voxel) and radii in mm, in the order z, y, x."""
    axes = np.indices(GEOMETRY.shape).astype(float)
    steps = zip(axes, GEOMETRY.spacing_mm, centre_mm, radii_mm, strict=True)
    inside: NDArray[np.bool_] = sum(((axis * step - centre) / radius) ** 2 for axis, step, centre, radius in steps) <= 1
    return inside


def chest(seed: int, *, lesions: bool = True) -> tuple[Volume, NDArray[np.uint8], NDArray[np.uint8]]:
    """A chest with two lungs and the dome of a liver (CT in HU), its organ labels, and the truth of its two lesions."""
    rng = np.random.default_rng(seed)
    body = _ellipsoid((60, 102, 115), (400, 92, 108))
    right, left = _ellipsoid((75, 100, 70), (68, 62, 36)), _ellipsoid((75, 100, 160), (68, 62, 36))
    liver = _ellipsoid((8, 100, 75), (36, 70, 60)) & body
    right &= ~liver
    nodule = _ellipsoid((80, 100 + 3.0 * (seed % 5), 68), (9, 9, 9))
    tumour = _ellipsoid((14, 100, 75), (11, 12, 12))
    hu = np.where(body, 40.0, -1000.0)
    hu[right | left] = -850.0
    hu[liver] = 105.0
    if lesions:
        hu[nodule], hu[tumour] = 30.0, 30.0
    hu = ndimage.gaussian_filter(hu, 0.6) + ndimage.gaussian_filter(rng.standard_normal(hu.shape), 0.7) * 30.0
    labels = np.zeros(GEOMETRY.shape, np.uint8)
    labels[right], labels[left], labels[liver] = 1, 2, 3
    truth = np.zeros(GEOMETRY.shape, np.uint8)
    if lesions:
        truth[nodule], truth[tumour] = 1, 2
    return Volume(array=np.rint(hu).astype(np.int16), geometry=GEOMETRY, modality="CT", unit="HU"), labels, truth


def write_docs_folder(folder: Path) -> None:
    """`scan.nii.gz` with `organs.nii.gz` and `truth.nii.gz`, `dicom_folder/`, `scans/`, and the tables of cases."""
    volume, labels, truth = chest(0)
    write_volume(folder / "scan.nii.gz", volume)
    write_label_map(folder / "organs.nii.gz", labels, GEOMETRY, names=ORGANS)
    write_label_map(folder / "truth.nii.gz", truth, GEOMETRY)
    _write_dicom(folder / "dicom_folder", volume)
    _write_cases(folder, "cases", "scans", range(1, 4), lesions=True)
    _write_cases(folder, "lesion-free", "free", range(11, 14), lesions=False)


def enlarge_calibration(path: Path, *, patients: int) -> None:
    """Add made-up patients with the scores of the real ones, so that small levels can be reached; no search is run."""
    real = load_calibration(path)
    more = [
        CaseScores(
            case=f"made-up scan {n}",
            patient=f"made-up patient {n}",
            scores=(like := real.cases[n % len(real.cases)]).scores,
            rounds=like.rounds,
            profile=like.profile,
        )
        for n in range(patients)
    ]
    save_calibration(build_calibration(real.identity, more, earlier=real), path)


def _write_dicom(folder: Path, volume: Volume) -> None:
    """The volume as a DICOM series on the same grid."""
    folder.mkdir()
    dz, dy, dx = volume.geometry.spacing_mm
    for z, plane in enumerate(volume.array):
        stored = np.clip(plane + 1024, 0, 4095).astype(np.uint16)
        dicom_slice(stored, (0.0, 0.0, z * dz), z=z, pixel_spacing=(dy, dx)).save_as(folder / f"{z:03d}.dcm")


def _write_cases(folder: Path, table: str, images: str, seeds: range, *, lesions: bool) -> None:
    rows: list[Mapping[str, str]] = []
    for kind in (images, f"{images}-organs", "masks"):
        (folder / kind).mkdir(exist_ok=True)
    for seed in seeds:
        volume, labels, truth = chest(seed, lesions=lesions)
        name = f"patient{seed}.nii.gz"
        write_volume(folder / images / name, volume)
        write_label_map(folder / f"{images}-organs" / name, labels, GEOMETRY, names=ORGANS)
        write_label_map(folder / "masks" / name, (truth == 1).astype(np.uint8), GEOMETRY)
        rows.append(
            {
                "image": f"{images}/{name}",
                "patient": f"p{seed}",
                "anchors": f"{images}-organs/{name}",
                **({"truth": f"masks/{name}"} if lesions else {}),
            }
        )
    with (folder / f"{table}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
