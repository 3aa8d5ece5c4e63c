"""The patient of the phantom: who (`draw_patient`) and how organs are drawn on a grid (`PhantomCanvas`).

Everything is in canonical millimetres of a mean patient: x to the Left, y Posterior, z Superior, L1 at z = 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from r2seg_agent.imaging.geometry import Float3, Index3
from r2seg_agent.imaging.volume import FloatArray, Mask

Solid = Callable[[FloatArray, FloatArray, FloatArray], Mask]
"""Which of the points (x, y, z in mm) lie inside."""
Point = tuple[float, float, float]
"""(x, y, z) in mm."""
Bounds = tuple[Point, Point]
"""Lowest and highest (x, y, z) of a solid, in mm."""

VERTEBRA_Z_MM = {
    "L5": -138.0, "L4": -104.0, "L3": -69.0, "L2": -34.0, "L1": 0.0, "T12": 31.0, "T11": 59.0, "T10": 86.0,
    "T9": 112.0, "T8": 137.0, "T7": 161.0, "T6": 185.0, "T5": 208.0, "T4": 230.0, "T3": 251.0, "T2": 271.0,
    "T1": 290.0, "C7": 308.0,
}  # fmt: skip
SPINE_Y_MM = 52.0
"""How far behind the trunk's axis the vertebral bodies stand."""
WARP_MARGIN_MM = 14.0
"""How far the random warp may move a surface."""

MEAN_HU: dict[str, tuple[float, float]] = {
    "liver": (85, 22), "spleen": (95, 25), "kidney_left": (120, 45), "pancreas": (70, 18), "stomach": (25, 15),
    "gallbladder": (8, 5), "adrenal_gland_left": (60, 12), "heart": (105, 45), "aorta": (150, 60),
    "inferior_vena_cava": (115, 35), "portal_vein_and_splenic_vein": (140, 35), "lung": (-860, 25), "colon": (10, 25),
    "small_bowel": (35, 15), "duodenum": (40, 15), "esophagus": (35, 10), "muscle": (52, 8), "fat": (-100, 6),
    "vertebra": (230, 50), "rib": (320, 70), "disc": (75, 10), "spinal_cord": (30, 5), "cartilage": (110, 20),
}  # fmt: skip
"""(mean, standard deviation over patients) in HU, portal venous phase and its neighbours."""
T1_LIKE: dict[str, float] = {
    "background": 10, "fat": 900, "muscle": 330, "lung": 40, "liver": 470, "spleen": 300, "kidney_left": 320,
    "kidney_right": 320, "pancreas": 430, "stomach": 180, "gallbladder": 150, "heart": 240, "aorta": 130,
    "spinal_cord": 300,
}  # fmt: skip
"""Grey values of the MR-like contrast (ours, T1-like); bones 260, other organs 280."""


@dataclass(frozen=True)
class Patient:
    """Size, habitus and the organ jitters of one drawn patient."""

    scale_xyz: Point
    fat_mm: float
    hu: dict[str, float]
    jitter: dict[str, Point]
    size: dict[str, float]
    bowel_seed: int
    warp_mm: NDArray[np.float64] = field(repr=False)
    """(waves, 3 axes × (amplitude, kx, ky, kz, phase)): see `_warp`."""


def draw_patient(rng: np.random.Generator) -> Patient:
    """A patient: trunk ±13 % wide, ±15 % deep, ±10 % tall; organs moved by some mm and ±10 % in size."""
    organs = (
        "liver", "spleen", "kidney_left", "kidney_right", "pancreas", "stomach", "gallbladder", "heart", "colon",
        "small_bowel", "duodenum", "aorta", "lung", "adrenal_gland_left", "adrenal_gland_right",
    )  # fmt: skip
    scale = (rng.uniform(0.87, 1.13), rng.uniform(0.85, 1.15), rng.uniform(0.9, 1.1))
    hu = {name: float(rng.normal(mean, sd)) for name, (mean, sd) in MEAN_HU.items()}
    jitter = {name: (float(a), float(b), float(c)) for name, (a, b, c) in
              zip(organs, rng.normal(0, [4.0, 3.0, 5.0], (len(organs), 3)), strict=True)}  # fmt: skip
    size = {name: float(rng.uniform(0.9, 1.12)) for name in organs}
    waves = rng.normal(size=(5, 3, 5))
    waves[..., 0] *= 2.0
    waves[..., 1:4] *= 0.018
    waves[..., 4] *= np.pi
    return Patient(scale, float(rng.uniform(8, 26)), hu, jitter, size, int(rng.integers(2**31)), waves)


@dataclass(eq=False)
class PhantomCanvas:
    """A grid being drawn on: canonical coordinates of every voxel (warped), their labels and their HU."""

    x: FloatArray
    y: FloatArray
    z: FloatArray
    axes_mm: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
    labels: NDArray[np.uint8]
    hounsfield: FloatArray
    tissue: NDArray[np.uint8]
    """0 air, 1 fat, 2 muscle and other soft tissue, 3 bone, 4 lung: for the MR-like contrast."""
    class_names: dict[int, str] = field(default_factory=dict)

    @classmethod
    def of_grid(cls, shape: Index3, spacing_mm: Float3, origin_zyx_mm: Float3, patient: Patient) -> PhantomCanvas:
        """An empty canvas over a grid whose first voxel lies at `origin_zyx_mm` in the patient frame."""
        from totalsegmentator.map_to_binary import class_map

        scale_zyx = patient.scale_xyz[::-1]
        zs, ys, xs = (
            (o + s * np.arange(n, dtype=np.float64)) / k
            for o, s, n, k in zip(origin_zyx_mm, spacing_mm, shape, scale_zyx, strict=True)
        )
        z, y, x = np.meshgrid(zs, ys, xs, indexing="ij", sparse=True)
        moved = [np.broadcast_to(m, shape).astype(np.float32) for m in _warp(x, y, z, patient.warp_mm)]
        return cls(
            x=moved[0],
            y=moved[1],
            z=moved[2],
            axes_mm=(xs, ys, zs),
            labels=np.zeros(shape, dtype=np.uint8),
            hounsfield=np.full(shape, -1000.0, dtype=np.float32),
            tissue=np.zeros(shape, dtype=np.uint8),
            class_names={int(k): str(v) for k, v in class_map["total"].items()},
        )

    def paint(
        self, name: str, hu: float, bounds: Bounds, solid: Solid, *, tissue: int = 2, spare: tuple[str, ...] = ()
    ) -> None:
        """Give the voxels inside `solid` the class `name` ("" none) and `hu`, except those of the classes `spare`."""
        slices = []
        for axis, low, high in zip(self.axes_mm, bounds[0], bounds[1], strict=True):
            inside = np.flatnonzero((axis >= low - WARP_MARGIN_MM) & (axis <= high + WARP_MARGIN_MM))
            if inside.size == 0:
                return
            slices.append(slice(int(inside[0]), int(inside[-1]) + 1))
        at = (slices[2], slices[1], slices[0])
        mask = solid(self.x[at], self.y[at], self.z[at]) & (self.tissue[at] > 0)
        values = {v: k for k, v in self.class_names.items()}
        if spare:
            mask &= ~np.isin(self.labels[at], [values[s] for s in spare])
        self.labels[at][mask] = values[name] if name else 0
        self.hounsfield[at][mask] = hu
        self.tissue[at][mask] = tissue

    def t1_like(self, rng: np.random.Generator) -> FloatArray:
        """The same patient in an MR-like contrast: class and tissue grey values under a smooth bias field."""
        by_tissue = np.array([T1_LIKE["background"], T1_LIKE["fat"], T1_LIKE["muscle"], 260.0, T1_LIKE["lung"]])
        grey = by_tissue[self.tissue]
        for value, name in self.class_names.items():
            if name in T1_LIKE:
                grey[self.labels == value] = T1_LIKE[name]
        slope = rng.uniform(-0.001, 0.001, 3)
        bias = np.exp(slope[0] * self.x + slope[1] * self.y + slope[2] * (self.z - 80))
        image: FloatArray = (grey * bias).astype(np.float32)
        return image


def ellipsoid(centre: Point, radii: Point, power: float = 2.0) -> tuple[Bounds, Solid]:
    """A (super-)ellipsoid with its axes along x, y, z."""
    (cx, cy, cz), (rx, ry, rz) = centre, radii
    bounds = ((cx - rx, cy - ry, cz - rz), (cx + rx, cy + ry, cz + rz))

    def solid(x: FloatArray, y: FloatArray, z: FloatArray) -> Mask:
        level = np.abs((x - cx) / rx) ** power + np.abs((y - cy) / ry) ** power + np.abs((z - cz) / rz) ** power
        inside: Mask = level < 1
        return inside

    return bounds, solid


def tube(points: list[Point], radii: list[float]) -> list[tuple[Bounds, Solid]]:
    """Capsules along a polyline, with the radius interpolated between its points: draw all of them."""
    return [_capsule(a, b, ra, rb) for a, b, ra, rb in zip(points[:-1], points[1:], radii[:-1], radii[1:], strict=True)]


def _capsule(a: Point, b: Point, ra: float, rb: float) -> tuple[Bounds, Solid]:
    r = max(ra, rb)
    low, high = np.minimum(a, b) - r, np.maximum(a, b) + r
    dx, dy, dz = (q - p for p, q in zip(a, b, strict=True))
    square = max(dx * dx + dy * dy + dz * dz, 1e-6)

    def solid(x: FloatArray, y: FloatArray, z: FloatArray) -> Mask:
        ux, uy, uz = x - a[0], y - a[1], z - a[2]
        t = np.clip((ux * dx + uy * dy + uz * dz) / square, 0.0, 1.0)
        distance2 = (ux - t * dx) ** 2 + (uy - t * dy) ** 2 + (uz - t * dz) ** 2
        inside: Mask = distance2 < (ra + t * (rb - ra)) ** 2
        return inside

    return ((float(low[0]), float(low[1]), float(low[2])), (float(high[0]), float(high[1]), float(high[2]))), solid


def _warp(
    x: NDArray[np.float64], y: NDArray[np.float64], z: NDArray[np.float64], waves: NDArray[np.float64]
) -> list[NDArray[np.float64]]:
    """Each coordinate plus a few sine waves of about 2 mm: the same deformation at any spacing."""
    moved = []
    for axis, coordinate in enumerate((x, y, z)):
        shift = sum(a * np.sin(kx * x + ky * y + kz * z + phase) for a, kx, ky, kz, phase in waves[:, axis])
        moved.append(coordinate + np.clip(shift, -WARP_MARGIN_MM, WARP_MARGIN_MM))
    return moved
