"""A synthetic lesion of known shape and contrast inside a real organ: `implant_lesion`.

The scan keeps its own noise: a smooth offset is added, nothing is painted over. What comes out holds synthetic
content and must be called so wherever it is shown.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from r2seg_agent.errors import InputError
from r2seg_agent.imaging.geometry import Index3, bounding_box
from r2seg_agent.imaging.volume import FloatArray, Mask, Volume

LUMPS = 6
"""Number of random bumps that make the surface irregular."""
LUMPINESS = 0.10
"""Standard deviation of the relative radius over directions that one bump adds."""


class Implant(NamedTuple):
    """The changed scan, the lesion's voxels (z, y, x; where at least half of the contrast was added), its centre."""

    volume: Volume
    truth: Mask
    centre_zyx: Index3


def implant_lesion(
    volume: Volume,
    organ_mask: Mask,
    *,
    seed: int,
    diameter_mm: float,
    contrast_hu: float,
    centre: Index3 | None = None,
    edge_mm: float = 2.0,
) -> Implant:
    """Add an irregular ellipsoid of `contrast_hu` inside `organ_mask` (both (z, y, x) on one grid).

    `diameter_mm` is that of the sphere of the same volume; the offset falls from full to none over about `edge_mm`.
    `centre` (z, y, x) is drawn among the voxels deep enough to keep the lesion away from the organ's border, or, in
    a thin organ, among the deepest tenth; what would stick out of the organ is cut off. Raises `InputError` for an
    empty mask, another grid, a centre outside the organ, or a lesion larger than half of the organ.
    """
    _check(volume, organ_mask, diameter_mm, edge_mm, centre)
    rng = np.random.default_rng(seed)
    spacing = np.asarray(volume.geometry.spacing_mm)
    box = bounding_box(organ_mask)
    assert box is not None  # _check found voxels
    organ = np.pad(organ_mask[box.slices], 1)
    depth_mm = ndimage.distance_transform_edt(organ, sampling=volume.geometry.spacing_mm)[1:-1, 1:-1, 1:-1]
    local = _draw_centre(depth_mm, diameter_mm, edge_mm, rng) if centre is None else np.subtract(centre, box.start)
    radius = _radius_field(box.shape, local, spacing, rng)
    n_voxels = max(1, round(np.pi / 6.0 * diameter_mm**3 / volume.geometry.voxel_volume_mm3))
    truth_local, offset = _profile(radius, depth_mm, n_voxels, edge_mm)
    array = np.array(volume.array, copy=True)
    changed = array[box.slices].astype(np.float64) + contrast_hu * offset
    if np.issubdtype(array.dtype, np.integer):
        limits = np.iinfo(array.dtype)
        changed = np.clip(np.rint(changed), limits.min, limits.max)
    array[box.slices] = changed.astype(array.dtype)
    truth = np.zeros(organ_mask.shape, dtype=bool)
    truth[box.slices] = truth_local
    z, y, x = (int(c) + s for c, s in zip(local, box.start, strict=True))
    with_lesion = Volume(
        array=array,
        geometry=volume.geometry,
        modality=volume.modality,
        unit=volume.unit,
        name=f"{volume.name}-synthetic-lesion",
        source_format=volume.source_format,
    )
    return Implant(volume=with_lesion, truth=truth, centre_zyx=(z, y, x))


def _check(volume: Volume, organ_mask: Mask, diameter_mm: float, edge_mm: float, centre: Index3 | None) -> None:
    if organ_mask.shape != volume.geometry.shape:
        raise InputError(
            f"the organ mask has shape {organ_mask.shape}, the scan {volume.geometry.shape} (z, y, x)",
            "Give a mask on the grid of the scan.",
        )
    if diameter_mm <= 0 or edge_mm <= 0:
        raise InputError(f"diameter {diameter_mm} mm and edge {edge_mm} mm must be positive")
    organ_mm3 = float(organ_mask.sum()) * volume.geometry.voxel_volume_mm3
    lesion_mm3 = np.pi / 6.0 * diameter_mm**3
    if lesion_mm3 > 0.5 * organ_mm3:
        raise InputError(
            f"a lesion of {lesion_mm3 / 1000:.2f} ml does not fit an organ of {organ_mm3 / 1000:.2f} ml",
            "A lesion may take up to half of its organ: choose a smaller diameter or another organ.",
        )
    inside = centre is None or all(0 <= c < n for c, n in zip(centre, organ_mask.shape, strict=True))
    if centre is not None and not (inside and bool(organ_mask[centre])):
        raise InputError(f"the centre {centre} (z, y, x) is not inside the organ", "Leave it out to have one drawn.")


def _draw_centre(
    depth_mm: NDArray[np.float64], diameter_mm: float, edge_mm: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    enough = depth_mm >= 0.65 * diameter_mm + edge_mm
    if not enough.any():
        enough = depth_mm >= np.quantile(depth_mm[depth_mm > 0], 0.9)
    places = np.argwhere(enough)
    chosen: NDArray[np.int64] = places[rng.integers(len(places))]
    return chosen


def _radius_field(
    shape: Index3, centre: NDArray[np.int64], spacing: NDArray[np.float64], rng: np.random.Generator
) -> FloatArray:
    """Distance from the centre in units of the surface radius in that direction (up to one common factor)."""
    offsets = [(np.arange(n) - c) * s for n, c, s in zip(shape, centre, spacing, strict=True)]
    rotation, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    axes = np.exp(rng.uniform(-0.2, 0.2, 3))
    transform = (rotation / axes[:, None]) @ rotation.T
    z, y, x = np.meshgrid(*offsets, indexing="ij", sparse=True)
    u = [(t[0] * z + t[1] * y + t[2] * x).astype(np.float32) for t in transform]
    distance = np.sqrt(u[0] ** 2 + u[1] ** 2 + u[2] ** 2)
    relief = np.ones(shape, dtype=np.float32)
    safe = np.maximum(distance, 1e-3)
    for _ in range(LUMPS):
        direction = rng.standard_normal(3)
        direction /= np.linalg.norm(direction)
        cosine = (u[0] * direction[0] + u[1] * direction[1] + u[2] * direction[2]) / safe
        relief += np.float32(LUMPINESS * rng.standard_normal()) * np.cos(rng.uniform(2.0, 3.5) * np.arccos(cosine))
    field: FloatArray = (distance / np.maximum(relief, 0.5)).astype(np.float32)
    return field


def _profile(
    radius: FloatArray, depth_mm: NDArray[np.float64], n_voxels: int, edge_mm: float
) -> tuple[Mask, FloatArray]:
    """The lesion's `n_voxels` voxels inside the organ, and the share of the contrast that each voxel gets."""
    organ = depth_mm > 0
    inside = radius[organ]
    surface = float(np.partition(inside, n_voxels)[n_voxels]) if n_voxels < inside.size else float(inside.max())
    # one unit of `radius` is close to one mm along a mean direction, so the edge can be given in mm
    share = 0.5 * (1.0 - np.tanh((radius - surface) / (edge_mm / 2.0)))
    share *= np.clip(depth_mm / edge_mm, 0.0, 1.0)
    offset: FloatArray = share.astype(np.float32)
    truth: Mask = (radius < surface) & organ
    return truth, offset
