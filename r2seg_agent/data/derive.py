"""What some demo scans need besides the fetched files: masks by threshold, implanted SYNTHETIC lesions, a slice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from r2seg_agent.data.catalog import Derivation
from r2seg_agent.imaging.itk import write_itk
from r2seg_agent.imaging.masks import read_label_map
from r2seg_agent.imaging.read import read_image
from r2seg_agent.imaging.volume import Mask, Volume
from r2seg_agent.imaging.write import write_label_map

LIVER_LABEL = 5
"""`liver` in TotalSegmentator's `total` task, by which the fetched organ masks are labelled."""
LESION_DIAMETER_MM = 25.0
LESION_CONTRAST_HU = -45.0
LESION_SEED = 7
SLICE_WINDOW_HU = (-150.0, 250.0)


def brain_mask(folder: Path) -> None:
    """`brain_mask.nrrd`: the largest soft-tissue component inside the head, by Otsu's threshold and morphology.

    Crude: no skull stripping, just the inside of the head. Good enough as an anchor, and no better.
    """
    from r2seg_agent.data.brain import brain_by_threshold

    volume = read_image(folder / "image.nrrd", modality="MR")
    mask = brain_by_threshold(volume)
    write_label_map(folder / "brain_mask.nrrd", mask.astype(np.uint8), volume.geometry, names={1: "brain"})


def implant_liver(folder: Path) -> None:
    """`synthetic_image.nii.gz`, `synthetic_truth.nii.gz`: a SYNTHETIC hypodense lesion in the liver."""
    volume, truth = _implanted(folder)
    write_itk(folder / "synthetic_image.nii.gz", volume.array, volume.geometry)
    write_label_map(folder / "synthetic_truth.nii.gz", truth.astype(np.uint8), volume.geometry)


def implant_slice(folder: Path) -> None:
    """`slice.png`, `slice_liver.png`, `slice_truth.png`: the axial slice with most of the SYNTHETIC lesion, 8 bit."""
    from PIL import Image

    volume, truth = _implanted(folder)
    organs = read_label_map(folder / "organs.nii.gz", volume.geometry)
    z = int(truth.sum(axis=(1, 2)).argmax())
    low, high = SLICE_WINDOW_HU
    grey = np.clip((volume.array[z].astype(np.float64) - low) / (high - low), 0, 1) * 255
    # Patient's front up and right to the left, as a radiologist looks at it.
    flip_y = -1 if volume.geometry.direction_matrix[1, 1] < 0 else 1
    flip_x = -1 if volume.geometry.direction_matrix[0, 0] < 0 else 1
    for name, plane in (
        ("slice.png", np.rint(grey)),
        ("slice_liver.png", organs[z] == LIVER_LABEL),
        ("slice_truth.png", truth[z]),
    ):
        Image.fromarray(np.ascontiguousarray(plane[::flip_y, ::flip_x]).astype(np.uint8)).save(folder / name)


def _implanted(folder: Path) -> tuple[Volume, Mask]:
    from r2seg_agent.phantom import implant_lesion

    volume = read_image(folder / "image.nii.gz", modality="CT")
    organs = read_label_map(folder / "organs.nii.gz", volume.geometry)
    implant = implant_lesion(
        volume,
        np.asarray(organs == LIVER_LABEL),
        seed=LESION_SEED,
        diameter_mm=LESION_DIAMETER_MM,
        contrast_hu=LESION_CONTRAST_HU,
    )
    return implant.volume, implant.truth


DERIVATIONS: Mapping[Derivation, Callable[[Path], None]] = {
    "brain_mask": brain_mask,
    "implant_liver": implant_liver,
    "implant_slice": implant_slice,
}
