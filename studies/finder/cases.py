"""Images with lesion and organ masks on a working grid: small enough to describe thousands of candidates."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from r2seg_agent.imaging.masks import read_label_map, read_reference
from r2seg_agent.imaging.read import read_image
from r2seg_agent.runs.prepare import modality_named

Grey = NDArray[np.float32]
Mask = NDArray[np.bool_]

LARGEST_2D = 256
"""Pixels of the longer side of a slice on the working grid."""
LARGEST_3D = 350_000
"""Voxels of a volume on the working grid."""
MARGIN = 0.12
"""Share of the organ's box that is kept around it."""
SMALL_PART = 0.1
"""Parts of a truth smaller than this share of its largest are counted with the whole only."""
LEAST_ORGAN_VOXELS = 50


@dataclass(frozen=True, eq=False)
class Case:
    """One image on its working grid, (y, x) or (z, y, x): grey values in [0, 1], the organ, and the lesions.

    `truth` is every lesion voxel, `lesions` its parts; both are empty in a lesion-free case. `voxel_mm` is the size of
    a voxel of the working grid (pixels where the image has no spacing).
    """

    name: str
    request: str
    patient: str
    grey: Grey
    organ: Mask
    truth: Mask
    lesions: tuple[Mask, ...]
    voxel_mm: tuple[float, ...]


def read_cases(table: Path) -> Iterator[Case]:
    """The cases of `table`: a CSV with name, image, request, anchors (MASK=ORGAN), modality, truth and patient.

    Paths are relative to the table. A case whose organ is hardly there is left out.
    """
    with table.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            case = read_case(table.parent, row)
            if np.count_nonzero(case.organ) >= LEAST_ORGAN_VOXELS:
                yield case


def read_case(folder: Path, row: dict[str, str]) -> Case:
    """One row of the table, read as r2seg reads it."""
    volume = read_image(str(folder / row["image"]), modality=modality_named(row.get("modality") or None))
    organ = read_label_map(folder / row["anchors"].rpartition("=")[0], volume.geometry).astype(bool)
    truth = read_reference(str(folder / row["truth"]), volume.geometry).astype(bool)
    spacing = volume.geometry.spacing_mm
    grey = volume.array.astype(np.float32)
    if grey.shape[0] == 1:
        grey, organ, truth, spacing_mm = grey[0], organ[0], truth[0], tuple(spacing[1:])
    else:
        spacing_mm = tuple(spacing)
    return working_case(row["name"], row["request"], row["patient"], grey, organ, truth, spacing_mm)


def working_case(
    name: str, request: str, patient: str, grey: Grey, organ: Mask, truth: Mask, spacing_mm: tuple[float, ...]
) -> Case:
    """The case cut to its organ and brought to the working grid; grey values between the 0.5 and 99.5 percentiles."""
    (box,) = ndimage.find_objects(organ.astype(np.uint8)) or [tuple(slice(0, n) for n in organ.shape)]
    around = tuple(
        slice(max(0, s.start - _margin(s)), min(n, s.stop + _margin(s))) for s, n in zip(box, organ.shape, strict=True)
    )
    zoom = _zoom(tuple(s.stop - s.start for s in around), spacing_mm)
    small = np.clip(ndimage.zoom(grey[around], zoom, order=1), grey.min(), grey.max())
    inside, lesion = (ndimage.zoom(m[around].astype(np.float32), zoom, order=1) > 0.5 for m in (organ, truth))
    low, high = np.percentile(small[ndimage.binary_dilation(inside, iterations=5)], [0.5, 99.5])
    return Case(
        name=name,
        request=request,
        patient=patient,
        grey=np.clip((small - low) / (high - low + 1e-6), 0, 1).astype(np.float32),
        organ=inside,
        truth=lesion,
        lesions=_parts(lesion),
        voxel_mm=tuple(s / z for s, z in zip(spacing_mm, zoom, strict=True)),
    )


def _margin(side: slice) -> int:
    return int(MARGIN * (side.stop - side.start)) + 3


def _zoom(shape: tuple[int, ...], spacing_mm: tuple[float, ...]) -> tuple[float, ...]:
    if len(shape) == 2:
        return (min(1.0, LARGEST_2D / max(shape)),) * 2
    spacing, target = np.asarray(spacing_mm), float(min(spacing_mm))
    while np.prod(np.asarray(shape) * spacing / np.maximum(target, spacing)) > LARGEST_3D:
        target *= 1.08
    return tuple((spacing / np.maximum(target, spacing)).tolist())


def _parts(truth: Mask) -> tuple[Mask, ...]:
    labels: NDArray[Any] = cc3d.connected_components(truth, connectivity=8 if truth.ndim == 2 else 26)
    sizes = np.bincount(labels.ravel())[1:]
    return tuple(labels == k for k, size in enumerate(sizes.tolist(), start=1) if size >= SMALL_PART * sizes.max())
