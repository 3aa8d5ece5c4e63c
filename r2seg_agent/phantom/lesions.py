"""What a synthetic lesion is: where (`LesionSpec`), how it looks (`LesionLook`), and its voxels (`draw_lesion`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from r2seg_agent.errors import InputError
from r2seg_agent.imaging.geometry import Box, Float3, Index3, bounding_box
from r2seg_agent.imaging.volume import FloatArray, Mask

LUMPS = 6
"""Number of random bumps that make the surface irregular."""
LUMPINESS = 0.10
"""Standard deviation of the relative radius over directions that one bump adds."""
SPICULES = 20
SPICULE_WIDTH = 0.012
"""Of a spicule: 1 minus the cosine of its half-angle, about 9 degrees."""
TEXTURE_MM = 2.5
CALCIUM_HU = 420.0


@dataclass(frozen=True)
class LesionLook:
    """How a lesion looks besides its contrast; all zero is an even, slightly bumpy ellipsoid.

    Offsets are in HU (MR: grey values) on top of the lesion's contrast. `core` is the share of the volume that is
    necrotic, `rim_mm` the width of an enhancing rim, `texture` a standard deviation, `calcifications` a number of
    specks. `lobulation` and `spiculation` go from 0 to about 1.
    """

    lobulation: float = 0.0
    spiculation: float = 0.0
    core: float = 0.0
    core_contrast: float = 0.0
    rim_mm: float = 0.0
    rim_contrast: float = 0.0
    texture: float = 0.0
    calcifications: int = 0


LOOKS: Mapping[str, LesionLook] = {
    "even": LesionLook(),
    "lobulated": LesionLook(lobulation=0.8, texture=5.0),
    "spiculated": LesionLook(spiculation=0.8, lobulation=0.4, texture=8.0),
    "necrotic": LesionLook(lobulation=0.5, core=0.4, core_contrast=-28.0, texture=5.0),
    "rim": LesionLook(lobulation=0.3, core=0.5, core_contrast=-18.0, rim_mm=4.0, rim_contrast=95.0, texture=4.0),
    "calcified": LesionLook(lobulation=0.4, texture=5.0, calcifications=9),
}
"""Looks by name, for `r2seg phantom --look`."""


@dataclass(frozen=True)
class LesionSpec:
    """A lesion to place in `organ` (a TotalSegmentator `total` class name), at a random deep position."""

    organ: str
    volume_ml: float = 2.0
    contrast: float = -40.0
    """Offset from the organ, in HU (in MR: in grey values)."""
    edge_mm: float = 2.0
    look: LesionLook = LesionLook()

    @property
    def diameter_mm(self) -> float:
        """Of the sphere of the same volume."""
        return float(2.0 * (3.0 * self.volume_ml * 1000.0 / (4.0 * np.pi)) ** (1.0 / 3.0))


class LesionField(NamedTuple):
    """A lesion on the grid of `box` (z, y, x): its voxels, the share of it in each voxel (0 to 1), HU to add."""

    box: Box
    truth: Mask
    share: FloatArray
    offset: FloatArray
    centre_zyx: Index3


def draw_lesion(
    organ_mask: Mask,
    spacing_mm: Float3,
    *,
    seed: int,
    diameter_mm: float,
    contrast: float,
    edge_mm: float = 2.0,
    look: LesionLook | None = None,
    centre: Index3 | None = None,
) -> LesionField:
    """An irregular ellipsoid inside `organ_mask` (z, y, x); the offset falls from full to none over about `edge_mm`.

    `centre` is drawn among the voxels deep enough to keep the lesion away from the organ's border, or, in a thin
    organ, among the deepest tenth; what would stick out of the organ is cut off. Raises `InputError` for an empty
    mask, a centre outside the organ, or a lesion larger than half of the organ.
    """
    box = bounding_box(organ_mask)
    if box is None:
        raise InputError("the organ has no voxels, so it cannot hold a lesion", "Choose an organ that is in view.")
    _check(organ_mask, spacing_mm, diameter_mm, edge_mm, centre)
    look = look or LesionLook()
    rng = np.random.default_rng(seed)
    spacing = np.asarray(spacing_mm)
    organ = np.pad(organ_mask[box.slices], 1)
    depth_mm = ndimage.distance_transform_edt(organ, sampling=spacing_mm)[1:-1, 1:-1, 1:-1]
    local = _draw_centre(depth_mm, diameter_mm, edge_mm, rng) if centre is None else np.subtract(centre, box.start)
    radius = _radius_field(box.shape, local, spacing, rng, look)
    n_voxels = max(1, round(np.pi / 6.0 * diameter_mm**3 / float(np.prod(spacing))))
    truth, share, surface = _profile(radius, depth_mm, n_voxels, edge_mm)
    offset = (contrast * share).astype(np.float32)
    if look != LesionLook():
        offset += share * _inside(radius, surface, spacing, diameter_mm, look, rng)
    z, y, x = (int(c) + s for c, s in zip(local, box.start, strict=True))
    return LesionField(box=box, truth=truth, share=share, offset=offset, centre_zyx=(z, y, x))


def _check(organ_mask: Mask, spacing_mm: Float3, diameter_mm: float, edge_mm: float, centre: Index3 | None) -> None:
    if diameter_mm <= 0 or edge_mm <= 0:
        raise InputError(f"diameter {diameter_mm} mm and edge {edge_mm} mm must be positive")
    organ_mm3 = float(organ_mask.sum()) * float(np.prod(spacing_mm))
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
    shape: Index3,
    centre: NDArray[np.int64],
    spacing: NDArray[np.float64],
    rng: np.random.Generator,
    look: LesionLook,
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

    def towards() -> FloatArray:
        direction = rng.standard_normal(3)
        direction /= np.linalg.norm(direction)
        cosine: FloatArray = (u[0] * direction[0] + u[1] * direction[1] + u[2] * direction[2]) / safe
        return cosine

    for _ in range(LUMPS):
        cosine = towards()
        relief += np.float32(LUMPINESS * rng.standard_normal()) * np.cos(
            rng.uniform(2.0, 3.5) * np.arccos(np.clip(cosine, -1.0, 1.0))
        )
    if look.lobulation:
        for _ in range(LUMPS):
            bulge = np.clip((towards() - 0.6) / 0.4, 0.0, 1.0)
            relief += np.float32(0.35 * look.lobulation * rng.uniform(0.5, 1.0)) * bulge * (2.0 - bulge)
    if look.spiculation:
        for _ in range(SPICULES):
            spike = np.exp((towards() - 1.0) / SPICULE_WIDTH)
            relief += np.float32(1.4 * look.spiculation * rng.uniform(0.3, 1.0)) * spike
    field: FloatArray = (distance / np.maximum(relief, 0.5)).astype(np.float32)
    return field


def _profile(
    radius: FloatArray, depth_mm: NDArray[np.float64], n_voxels: int, edge_mm: float
) -> tuple[Mask, FloatArray, float]:
    """The lesion's `n_voxels` voxels inside the organ, each voxel's share of the lesion, and the surface's radius."""
    organ = depth_mm > 0
    inside = radius[organ]
    surface = float(np.partition(inside, n_voxels)[n_voxels]) if n_voxels < inside.size else float(inside.max())
    # one unit of `radius` is close to one mm along a mean direction, so the edge can be given in mm
    share = 0.5 * (1.0 - np.tanh((radius - surface) / (edge_mm / 2.0)))
    share *= np.clip(depth_mm / edge_mm, 0.0, 1.0)
    truth: Mask = (radius < surface) & organ
    return truth, share.astype(np.float32), surface


def _inside(
    radius: FloatArray,
    surface: float,
    spacing: NDArray[np.float64],
    diameter_mm: float,
    look: LesionLook,
    rng: np.random.Generator,
) -> FloatArray:
    """HU of core, rim, texture and calcifications over the lesion's contrast."""
    extra = np.zeros(radius.shape, dtype=np.float32)
    soft = max(0.06 * surface, 1e-3)
    if look.core:
        edge = surface * look.core ** (1.0 / 3.0)
        extra += np.float32(look.core_contrast) * 0.5 * (1.0 - np.tanh((radius - edge) / soft))
    if look.rim_mm:
        scale = surface / (0.5 * diameter_mm)  # of the radius field per mm
        ring = (radius - (surface - 0.5 * look.rim_mm * scale)) / (0.6 * look.rim_mm * scale)
        extra += np.float32(look.rim_contrast) * np.exp(-(ring**2))
    if look.texture:
        grain = rng.standard_normal(radius.shape, dtype=np.float32)
        grain = ndimage.gaussian_filter(grain, TEXTURE_MM / spacing)
        extra += np.float32(look.texture) * grain / max(float(grain.std()), 1e-6)
    places = np.argwhere(radius < 0.8 * surface)
    for _ in range(look.calcifications if len(places) else 0):
        at = places[rng.integers(len(places))]
        offsets = np.meshgrid(
            *((np.arange(n) - c) * s for n, c, s in zip(radius.shape, at, spacing, strict=True)),
            indexing="ij",
            sparse=True,
        )
        squared = offsets[0] ** 2 + offsets[1] ** 2 + offsets[2] ** 2
        extra += (CALCIUM_HU * rng.uniform(0.5, 1.0) * np.exp(-squared / (2 * rng.uniform(0.7, 1.3) ** 2))).astype(
            np.float32
        )
    return extra
