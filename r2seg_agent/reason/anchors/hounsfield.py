"""HU anchors: body, lungs and bone from Hounsfield units and morphology, with no weights at all (a stand-in)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.errors import InputError
from r2seg_agent.imaging.geometry import Float3, Geometry, Index3
from r2seg_agent.imaging.volume import FloatArray, Mask, Modality, Volume
from r2seg_agent.progress import Progress, silent
from r2seg_agent.reason.anchors import thorax
from r2seg_agent.reason.anchors.protocol import AnchorSet, AnchorSourceInfo

COARSE_MM = 3.0
"""Grid of the morphology: axes finer than this are averaged down to about it."""
FINE_BONE_HU = 200.0
HU_RANGE = (-1024.0, 1500.0)
"""Values are clipped to this before averaging, so that metal does not smear."""
_BODY, _LEFT, _RIGHT, _BONE = 1, 2, 3, 4
_NAMES: dict[str, tuple[int, ...]] = {
    "body": (_BODY, _LEFT, _RIGHT, _BONE),
    "lung_left": (_LEFT,),
    "lung_right": (_RIGHT,),
    "bone": (_BONE,),
}
LARGEST_MINIMUM_HU = -20.0
"""A CT in HU that shows a body shows fat (-100) or air (-1000) somewhere."""


class HounsfieldSource:
    """`AnchorSource` for CT without a model: organs that air and bone give away.

    Lungs are closed over solid bodies that border on lung and chest wall only (`thorax.lung_fields`), so that a tumour
    on the pleura lies inside; they are found where they are in view and have no voxels where they are not.
    """

    @property
    def info(self) -> AnchorSourceInfo:
        """Name, settings and the mark that this is a stand-in."""
        return AnchorSourceInfo(
            name="hounsfield",
            version="1",
            kind="heuristic",
            stand_in=True,
            licence="Apache-2.0",
            modalities=("CT",),
            settings={
                "coarse_mm": COARSE_MM,
                "air_hu": thorax.AIR_HU,
                "bone_hu": thorax.BONE_HU,
                "fine_bone_hu": FINE_BONE_HU,
                "max_open_share": thorax.MAX_OPEN_SHARE,
                "costal_barrier_mm": thorax.COSTAL_BARRIER_MM,
                "rib_gap_mm": thorax.RIB_GAP_MM,
                "min_solid_radius_mm": thorax.MIN_SOLID_RADIUS_MM,
                "give_back_mm": thorax.GIVE_BACK_MM,
            },
        )

    def info_for(self, modality: Modality, organs: Sequence[str]) -> AnchorSourceInfo:
        """The same for all organs."""
        return self.info

    def organs(self, modality: Modality) -> frozenset[str]:
        """Body, both lungs and bone in CT; nothing elsewhere."""
        return frozenset(_NAMES) if modality == "CT" else frozenset()

    def check(self, modality: Modality, organs: Sequence[str]) -> None:
        """Raise `InputError` for a modality without Hounsfield units or organs that density cannot tell apart."""
        if modality != "CT":
            raise InputError(
                f"HU anchors work on CT only, this image is {modality}.",
                "Give organ masks (`--anchors MASKS`) or use the `totalsegmentator` anchors.",
            )
        unknown = sorted(set(organs) - set(_NAMES))
        if unknown:
            raise InputError(
                f"HU anchors cannot find {', '.join(f'`{name}`' for name in unknown)}; they find "
                f"{', '.join(f'`{name}`' for name in _NAMES)}.",
                "Give organ masks (`--anchors MASKS`) or use the `totalsegmentator` anchors.",
            )

    def locate(self, volume: Volume, organs: Sequence[str], progress: Progress = silent) -> AnchorSet:
        """All four organs of `volume` (CT in HU), whichever were asked; raises as `check` does, and for a CT that is
        not in HU.
        """
        self.check(volume.modality, organs)
        if volume.unit != "HU":
            raise InputError(
                "HU anchors need Hounsfield units; this CT holds grey values for a screen.",
                "Give the original scan in HU, organ masks (`--anchors MASK=ORGAN`), or search all of it "
                "(`--anchors whole`).",
            )
        lowest = float(volume.array.min())
        if lowest > LARGEST_MINIMUM_HU:
            raise InputError(
                f"HU anchors need Hounsfield units; this CT has no value below {lowest:g}, so it holds neither air nor "
                "fat, or its values are no HU (rescaled, or without their intercept).",
                "Give the original scan in HU, organ masks (`--anchors MASK=ORGAN`), or search all of it "
                "(`--anchors whole`).",
            )
        progress("anchors", 0, 3, "coarse grid")
        geometry = volume.geometry
        hu, factors = _coarse(volume)
        spacing = _times(geometry.spacing_mm, factors)
        body_axis = int(2 - np.argmax(np.abs(geometry.direction_matrix[2])))
        left_mm = _leftness(hu.shape, factors, geometry)
        upright = np.moveaxis(hu, body_axis, 0)
        upright_spacing = _first(spacing, body_axis)
        air = thorax.find_air_of_lungs(upright, upright_spacing)
        bone = thorax.find_bone(upright, upright_spacing)
        progress("anchors", 1, 3, "lung fields")
        fields = thorax.lung_fields(upright, upright_spacing, air, bone, np.moveaxis(left_mm, body_axis, 0))
        body = thorax.find_body(upright, fields.side > 0)
        progress("anchors", 2, 3, "full grid")
        labels = _full_grid(
            volume,
            factors,
            body=np.moveaxis(body, 0, body_axis),
            side=np.moveaxis(fields.side, 0, body_axis),
            solid=np.moveaxis(fields.solid, 0, body_axis),
            bone=np.moveaxis(bone, 0, body_axis),
        )
        progress("anchors", 3, 3)
        return AnchorSet(labels=labels, names=_NAMES, geometry=geometry, info=self.info)


def _times(spacing: Float3, factors: Index3) -> Float3:
    return (spacing[0] * factors[0], spacing[1] * factors[1], spacing[2] * factors[2])


def _first(spacing: Float3, axis: int) -> Float3:
    moved = [spacing[axis], *(s for a, s in enumerate(spacing) if a != axis)]
    return (moved[0], moved[1], moved[2])


def _coarse(volume: Volume) -> tuple[FloatArray, Index3]:
    """Block means of the volume and the block size per axis; one slab of slices in memory at a time."""
    spacing, array = volume.geometry.spacing_mm, volume.array
    fz, fy, fx = (max(1, int(COARSE_MM / step + 0.25)) for step in spacing)
    nz, ny, nx = (-(-size // f) for size, f in zip(array.shape, (fz, fy, fx), strict=True))
    coarse: FloatArray = np.empty((nz, ny, nx), dtype=np.float32)
    pad = ((0, ny * fy - array.shape[1]), (0, nx * fx - array.shape[2]))
    for z in range(nz):
        slab = np.clip(array[z * fz : (z + 1) * fz].astype(np.float32), *HU_RANGE).mean(axis=0)
        coarse[z] = np.pad(slab, pad, mode="edge").reshape(ny, fy, nx, fx).mean(axis=(1, 3))
    return coarse, (fz, fy, fx)


def _leftness(shape: tuple[int, ...], factors: Index3, geometry: Geometry) -> NDArray[np.float32]:
    """Left coordinate (LPS x) in mm of each coarse voxel, up to a constant."""
    per_axis = geometry.direction_matrix[0][::-1] * np.asarray(geometry.spacing_mm) * np.asarray(factors)
    z, y, x = (np.arange(n, dtype=np.float32) * np.float32(step) for n, step in zip(shape, per_axis, strict=True))
    left: NDArray[np.float32] = z[:, None, None] + y[None, :, None] + x[None, None, :]
    return left


def _full_grid(
    volume: Volume, factors: Index3, *, body: Mask, side: NDArray[np.uint8], solid: Mask, bone: Mask
) -> NDArray[np.uint8]:
    """Label map on the image grid, slice by slice. Coarse masks are interpolated linearly; the edge between lung and
    wall is then the image's own: in the outermost coarse voxel only air and solid lesions count as lung.
    """
    from scipy import ndimage  # here: keeps `import r2seg_agent` light

    field = side > 0
    sure = ndimage.binary_erosion(field) | solid
    around = ndimage.binary_dilation(field)
    near_bone = ndimage.binary_dilation(bone)
    nearest = (
        ndimage.distance_transform_edt(~field, return_distances=False, return_indices=True) if field.any() else None
    )
    side_near = side[tuple(nearest)] if nearest is not None else side
    shape = volume.array.shape
    plan = [_linear(n, f, c) for n, f, c in zip(shape, factors, body.shape, strict=True)]
    labels = np.zeros(shape, dtype=np.uint8)
    for z in range(shape[0]):
        hu = volume.array[z]
        in_body = _slice_at(body, z, plan)
        labels[z][in_body > 0.5] = _BODY
        nearest_z = min(z // factors[0], body.shape[0] - 1)
        if near_bone[nearest_z].any():
            labels[z][(hu > FINE_BONE_HU) & (_slice_at(near_bone, z, plan) > 0.5) & (in_body > 0.5)] = _BONE
        if not around[nearest_z].any():
            continue
        lung = (_slice_at(sure, z, plan) > 0.5) | ((hu < thorax.AIR_HU) & (_slice_at(around, z, plan) > 0.5))
        is_right = _slice_at(side_near == 2, z, plan) > 0.5
        labels[z][lung] = _LEFT
        labels[z][lung & is_right] = _RIGHT
    return labels


_Linear = tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]
"""For each fine index: the coarse index below, the one above, and the weight of the one above."""


def _linear(n_fine: int, factor: int, n_coarse: int) -> _Linear:
    position = np.clip((np.arange(n_fine) - (factor - 1) / 2.0) / factor, 0, n_coarse - 1)
    low = np.floor(position).astype(np.intp)
    high = np.minimum(low + 1, n_coarse - 1)
    return low, high, (position - low).astype(np.float32)


def _slice_at(mask: Mask, z: int, plan: list[_Linear]) -> FloatArray:
    """One fine slice (y, x) of a coarse mask, interpolated linearly on all three axes."""
    (z0, z1, wz), (y0, y1, wy), (x0, x1, wx) = plan
    flat = mask[z0[z]] * (1 - wz[z]) + mask[z1[z]] * wz[z]
    rows = flat[y0] * (1 - wy)[:, None] + flat[y1] * wy[:, None]
    fine: FloatArray = (rows[:, x0] * (1 - wx) + rows[:, x1] * wx).astype(np.float32)
    return fine
