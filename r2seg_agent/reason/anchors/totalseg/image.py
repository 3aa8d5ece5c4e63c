"""TotalSegmentator's image steps in memory: canonical orientation, crop, resampling, and all of it undone.

Voxel for voxel what `totalsegmentator.nnunet.nnUNet_predict_image` computes (a test compares them), without its
temporary files and without its float64 copies of the whole scan. Arrays here are (x, y, z), NIfTI's order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from r2seg_agent.imaging.geometry import Float3, Geometry, Index3, bounding_box
from r2seg_agent.imaging.volume import Mask, Volume

NIFTI_TYPES = ("uint8", "int8", "int16", "uint16", "int32", "uint32", "float32", "float64")
SMALL_RANGE = 200.0
"""A grey range below which the library's rounding to integers would cost contrast (MR in 0..1, say)."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """An image ready for a network, and what is needed to bring labels back to the image's grid."""

    array: NDArray[Any]
    """(x, y, z) in canonical (RAS+) orientation, at the network's spacing."""
    spacing_xyz_mm: Float3
    canonical_shape: Index3
    canonical_affine: NDArray[np.float64]
    cropped: Any
    """The cropped image in its own orientation (nibabel)."""
    start: Index3
    full_shape: Index3


def to_nifti(volume: Volume) -> Any:
    """The volume as a nibabel image that shares its voxels: (x, y, z), RAS+ affine, no header text."""
    array = volume.array.transpose(2, 1, 0)
    if volume.modality == "MR":
        array = _wide_range(array)
    if array.dtype.name not in NIFTI_TYPES:
        array = array.astype(np.float64 if array.dtype.itemsize > 4 else np.float32)
    return _nifti(array, ras_affine(volume.geometry))


def _nifti(array: NDArray[Any], affine: NDArray[np.float64]) -> Any:
    make: Any = nib.Nifti1Image  # nibabel says it is typed, its constructors are not
    return make(array, affine)


def ras_affine(geometry: Geometry) -> NDArray[np.float64]:
    """(4, 4): NIfTI's affine, voxel (x, y, z) → RAS+ mm."""
    lps_to_ras = np.diag([-1.0, -1.0, 1.0])
    affine = np.eye(4)
    affine[:3, :3] = lps_to_ras @ (geometry.direction_matrix * np.asarray(geometry.spacing_mm[::-1]))
    affine[:3, 3] = lps_to_ras @ np.asarray(geometry.origin_lps_mm)
    return affine


def prepare(image: Any, resample_mm: Float3 | None, crop: Mask | None, margin_mm: Float3) -> Prepared | None:
    """Crop around the true voxels of `crop` (x, y, z), reorient, resample; None when `crop` is empty."""
    from totalsegmentator.alignment import as_closest_canonical

    array = np.asanyarray(image.dataobj)
    start: Index3 = (0, 0, 0)
    cropped = image
    if crop is not None:
        box = bounding_box(crop)
        if box is None:
            return None
        margin = (np.asarray(margin_mm) / image.header.get_zooms()).astype(int)
        box = box.dilated((int(margin[0]), int(margin[1]), int(margin[2])), array.shape)
        start = box.start
        affine = np.array(image.affine)
        affine[:3, 3] = (image.affine @ np.array([*start, 1.0]))[:3]
        cropped = _nifti(array[box.slices].astype(np.int32), affine)
    canonical = as_closest_canonical(cropped)
    zooms = np.array(canonical.header.get_zooms())
    data = np.asanyarray(canonical.dataobj)
    spacing = zooms
    if resample_mm is not None and not np.array_equal(zooms, np.array(resample_mm)):
        spacing = np.array(resample_mm, dtype=np.float64)
        # order 1 in float64, then cut to integers: `change_spacing` does this to a float64 copy of the input
        data = ndimage.zoom(data, zooms / spacing, output=np.float64, mode="nearest", order=1).astype(np.int32)
        spacing = _header_spacing(canonical.affine, zooms / spacing)
    return Prepared(
        array=data,
        spacing_xyz_mm=(float(spacing[0]), float(spacing[1]), float(spacing[2])),
        canonical_shape=canonical.shape,
        canonical_affine=canonical.affine,
        cropped=cropped,
        start=start,
        full_shape=image.shape,
    )


def restore(labels: NDArray[np.uint8], prepared: Prepared) -> NDArray[np.uint8]:
    """Labels on the prepared grid → labels (x, y, z) on the grid of the image, by nearest neighbour."""
    from totalsegmentator.alignment import undo_canonical

    back = labels
    if labels.shape != prepared.canonical_shape or labels.shape != prepared.array.shape:
        back = labels[np.ix_(*(_nearest(n, m) for n, m in zip(labels.shape, prepared.canonical_shape, strict=True)))]
    oriented = undo_canonical(_nifti(back, prepared.canonical_affine), prepared.cropped)
    found: NDArray[np.uint8] = np.asanyarray(oriented.dataobj)
    if prepared.start == (0, 0, 0) and found.shape == prepared.full_shape:
        return found
    full = np.zeros(prepared.full_shape, dtype=np.uint8)
    full[tuple(slice(s, s + n) for s, n in zip(prepared.start, found.shape, strict=True))] = found
    return full


def _nearest(size: int, target: int) -> NDArray[np.int64]:
    """Source index of each target index along one axis, with `scipy.ndimage.zoom`'s own rounding.

    Order-0 zoom takes each axis by itself, so one gather by these indices equals the 3D zoom, many times faster.
    """
    zoomed: NDArray[np.int64] = ndimage.zoom(np.arange(size, dtype=np.int64), target / size, mode="nearest", order=0)
    return zoomed


def _header_spacing(affine: NDArray[np.float64], zoom: NDArray[np.float64]) -> NDArray[np.float64]:
    """The spacing as a NIfTI header would hold it after resampling: float32 column lengths of the new affine."""
    columns = affine[:3, :3] / zoom
    lengths: NDArray[np.float64] = np.sqrt((columns**2).sum(axis=0)).astype(np.float32).astype(np.float64)
    return lengths


def _wide_range(array: NDArray[Any]) -> NDArray[Any]:
    """MR in small numbers, stretched: the networks see z-scores, which a factor does not change."""
    low, high = (float(v) for v in np.percentile(array, (0.5, 99.5)))
    if high - low >= SMALL_RANGE or high <= low:
        return array
    stretched: NDArray[Any] = array.astype(np.float32) * np.float32(1000.0 / (high - low))
    return stretched
